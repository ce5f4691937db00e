"""Requeue with other arguments: what the entry is about, and its key, follow from them."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.urls import reverse

from reliable_tasks import AlreadyQueued, ledger, operations
from reliable_tasks.errors import ArgumentError
from reliable_tasks.models import Entry, Key, OperatorAct
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.argument_tasks import note_item, use_token
from tests.app.models import Item
from tests.app.once_tasks import square

pytestmark = pytest.mark.django_db

EDIT = "admin:reliable_tasks_entry_act"


def dead(result):
    """Let the entry behind a result die, and return its id."""
    pk = UUID(result.id)
    claim = ledger.claim(pk, entries.WORKER, lease=60.0, ignore_due=True)
    ledger.bury(claim, entries.FAILURE, Outcome.FAILED, reason="Not retried.")
    return pk


def again(pk, *args, **kwargs):
    """Requeue an entry with other arguments."""
    return operations.requeue([pk], "Wrong number.", by="ann", arguments=(args, kwargs))


def test_the_entry_is_about_what_its_new_arguments_name():
    """After order 17 is changed to 18, the entry is about 18 and not about 17 any more."""
    old, new = Item.objects.create(name="17"), Item.objects.create(name="18")
    pk = dead(note_item.delay(old))
    assert entries.row(pk).subject_id == str(old.pk)
    assert again(pk, new.pk).requeued == [pk]
    row = entries.row(pk)
    assert (row.subject_type, row.subject_id) == ("testapp.item", str(new.pk))
    assert row.args == [new.pk]


def test_the_entry_takes_the_key_of_its_new_arguments():
    """The new key is held and the old one is free, also for the requeue after the next death."""
    pk = dead(square.delay(17))
    assert again(pk, 18).requeued == [pk]
    assert Key.objects.get().text == entries.row(pk).key == "tests.app.once_tasks.square(number=18)"
    with pytest.raises(AlreadyQueued):
        square.delay(18)
    other = UUID(square.delay(17).id)
    claim = ledger.claim(pk, entries.WORKER, lease=60.0, ignore_due=True)
    ledger.bury(claim, entries.FAILURE, Outcome.FAILED, reason="Not retried.")
    assert operations.requeue([pk]).requeued == [pk]
    held = set(Key.objects.values_list("entry_id", "text"))
    assert held == {(pk, entries.row(pk).key), (other, entries.row(other).key)}


def test_a_dead_entry_that_kept_its_key_lets_it_go():
    """With after_death="hold" the old key ends in the same transaction, and its policy goes on."""
    pk = dead(square.apply_async((17,), once={"after_death": "hold"}))
    assert Key.objects.get().holds_dead
    assert again(pk, 18).requeued == [pk]
    key = Key.objects.get()
    assert (key.text, key.entry_id, key.holds_dead) == (entries.row(pk).key, pk, True)
    assert key.arguments == entries.row(pk).options["once"]["arguments"]


def test_a_key_that_somebody_holds_keeps_the_entry_as_it_was():
    """If another entry has the key of the new arguments, nothing changes, and one learns who."""
    pk = dead(square.delay(17))
    holder = UUID(square.delay(18).id)
    before = entries.snapshot(pk)
    done = again(pk, 18)
    assert (done.requeued, done.skipped) == ([], [pk])
    assert done.held[pk].entry == holder
    assert entries.snapshot(pk) == before
    assert Key.objects.get().entry_id == holder


def test_a_key_that_the_task_does_not_make_is_refused():
    """A key of the call's own ``once`` cannot be derived again, so the act is refused, whole."""
    pk = dead(square.apply_async((17,), once={"keys": None, "key": "the-first"}))
    before = entries.snapshot(pk)
    with pytest.raises(ArgumentError, match="a once of its own"):
        again(pk, 18)
    assert entries.snapshot(pk) == before
    assert not OperatorAct.objects.exists()


def test_a_task_that_is_not_known_here_is_refused():
    """Where nobody can tell what follows from the arguments, they are not changed."""
    pk = dead(square.delay(17))
    Entry.objects.filter(pk=pk).update(task="old.name")
    with pytest.raises(ArgumentError, match="no reliable task of this process"):
        again(pk, 18)
    assert entries.state(pk) is State.DEAD


def test_a_plain_entry_of_an_unknown_task_can_still_be_changed():
    """Without key and subject nothing follows from the arguments, whoever knows the task."""
    held = entries.running(now=None, task="old.name")
    entries.bury(held)
    assert again(held.entry, 5).requeued == [held.entry]
    assert entries.row(held.entry).args == [5]


def test_sensitive_arguments_stay_hidden():
    """What the task declares sensitive is marked in the new arguments as in the old ones."""
    pk = dead(use_token.delay(1, "sesame-17"))
    again(pk, 1, "sesame-18")
    row = entries.row(pk)
    assert row.args[1]["value"] == "sesame-18"
    assert row.args[1]["__type__"]


def test_the_page_says_who_holds_the_key(admin_client):
    """The form comes back with the typed arguments and the entry that holds their key."""
    pk = dead(square.delay(17))
    holder = square.delay(18).id
    page = {"id": str(pk), "args": "[18]", "kwargs": "{}", "reason": "Typo.", "confirmed": "yes"}
    answer = admin_client.post(reverse(EDIT, args=["edit"]), page)
    assert answer.status_code == 200
    assert holder in answer.content.decode()
    assert "[18]" in answer.content.decode()
    own = dead(square.apply_async((1,), once={"keys": None, "key": "first"}))
    answer = admin_client.post(reverse(EDIT, args=["edit"]), {**page, "id": str(own)})
    assert "a once of its own" in answer.content.decode()
