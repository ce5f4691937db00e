"""A row whose key is sensitive: the body gets it, and nobody is told which one it was."""

from __future__ import annotations

import pytest

from reliable_tasks.errors import ConfigurationError
from reliable_tasks.models import Entry
from tests.app.models import Item, Ticket
from tests.arguments.test_sensitive import SECRET, everything, heard
from tests.enqueue.calls import deliver

__all__ = ["heard"]


@pytest.fixture
def login(make_task):
    """Give the test a function that makes a task whose row's key is the secret."""

    def make(**options):
        def body(session: Ticket, item: Item | None = None, **more: Ticket):
            pass

        return make_task(body, **{"sensitive": ("session", "more"), **options})

    return make


@pytest.mark.parametrize("policy", ["dead", "discard", "retry"])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_row_that_is_gone_is_not_named(
    transactional_db, unsent, admin_client, heard, login, policy, by_name
):
    """A sensitive key is told neither as the entry's subject nor as what is gone."""
    task = login(on_missing=policy, max_retries=0)
    here = Ticket.objects.create(code="x")
    args = (here,) if by_name else (SECRET,)
    result = task.apply_async(args, {"extra": SECRET} if by_name else {})
    deliver(task, result.id)
    entry = Entry.objects.get()
    assert entry.state == ("cancelled" if policy == "discard" else "dead")
    names = "'session', 'more'" if by_name else "'session'"
    assert f"Ticket *** (argument {names}) is gone" in entry.reason
    for where, text in everything(entry, admin_client, heard).items():
        assert SECRET not in text, where


def test_one_of_the_other_names_is_not_named_either(run, make_task):
    """A single name among **kwargs can be sensitive, however short its key is."""

    def body(**more: Ticket):
        pass

    entry = run(make_task(body, sensitive=("x",)), x="k7")
    assert "Ticket *** (argument 'more') is gone" in entry.reason


def test_a_sensitive_row_is_no_subject(run, login, item):
    """The first model argument that is not sensitive is what the entry is about."""
    ticket = Ticket.objects.create(code=SECRET)
    entry = run(login(), ticket)
    assert (entry.subject_type, entry.subject_id) == (None, None)
    assert run(login(), ticket, item).subject_type == "testapp.item"


def test_a_sensitive_row_cannot_be_named_as_subject(transactional_db, login):
    """Naming it as the subject is refused at the call, with what to do."""
    with pytest.raises(ConfigurationError, match="'session', which is sensitive"):
        login(subject="session").delay("x")
