"""Eager and direct calls behave as Celery's, and the ledger tells the same story as of workers."""

import time

import pytest
from celery import chain, chord, group
from celery.exceptions import Ignore
from django.db import connection, transaction

from reliable_tasks import ArgumentError
from reliable_tasks.models import Attempt, Entry
from tests.app import worker_tasks as tasks
from tests.app.models import Effect, Item
from tests.app.tasks import add, boom
from tests.celery_app import app
from tests.workers.support import entry_of, outcomes


@pytest.fixture(params=["autocommit", "in a transaction"])
def call(request, transactional_db):
    """Run the test without and within a transaction of the caller's."""
    if request.param == "autocommit":
        yield
        return
    with transaction.atomic():
        yield


@pytest.fixture
def always(monkeypatch):
    """Run every call eagerly, as CELERY_TASK_ALWAYS_EAGER does."""
    monkeypatch.setitem(app.conf.changes, "task_always_eager", True)


@pytest.fixture
def nothing_sent(monkeypatch):
    """Fail when anything is sent to a broker."""
    from reliable_tasks.publish import Publisher

    sent = []
    monkeypatch.setattr(Publisher, "submit", lambda self, wakeups: sent.extend(wakeups))
    yield sent
    assert not sent


pytestmark = pytest.mark.usefixtures("nothing_sent")


def test_apply_writes_the_same_entry(call):
    """apply() runs at once and leaves a succeeded entry of one attempt."""
    result = add.apply((1, 2))
    assert (result.get(), result.state) == (3, "SUCCESS")
    entry = entry_of(result)
    assert (entry.state, entry.attempt, entry.crashes) == ("succeeded", 1, 0)
    assert entry.args == [1, 2]
    assert entry.finished_at is not None


def test_apply_of_a_failure(call):
    """apply() returns the failure; the entry is dead, its attempt kept."""
    result = boom.apply(("bad",))
    assert (result.state, str(result.result)) == ("FAILURE", "bad")
    entry = entry_of(result)
    assert entry.state == "dead"
    assert entry.reason == "Failed once, the limit is 0 retries. Last: ValueError: bad"
    assert outcomes(result) == ["failed"]
    with pytest.raises(ValueError, match="bad"):
        boom.apply(("bad",), throw=True)


def test_retries_do_not_wait(call):
    """Eager attempts follow each other at once, however long the delays would be."""
    began = time.monotonic()
    result = tasks.asks_again.apply(("slow", 3))
    assert result.get() == {"attempt": 3, "retries": 2}
    assert time.monotonic() - began < 5
    assert outcomes(result) == ["retry", "retry"]


def test_a_retry_that_is_due_at_once_sends_nothing(call):
    """Not even a retry without a delay leaves a message for a worker."""
    assert tasks.asks_again.apply(("now", 3)).get() == {"attempt": 3, "retries": 2}


@pytest.mark.parametrize("task", [tasks.fail_until, tasks.fail_until_atomic])
def test_a_failed_attempt_leaves_the_callers_transaction_usable(call, task):
    """What a failed attempt did is undone; the caller's transaction goes on."""
    result = task.apply((3,))
    assert result.state == "SUCCESS"
    assert outcomes(result) == ["failed", "failed"]
    Item.objects.create(name="still usable")
    attempts = Effect.objects.filter(entry_id=result.id).values_list("attempt", flat=True)
    assert list(attempts) == ([3] if task.atomic else [])


def _apply_and_fail():
    assert tasks.fail_until_atomic.apply((2,)).get() == 2
    raise KeyError


def test_a_rolled_back_caller_takes_everything_along(transactional_db):
    """In a transaction that rolls back, the eager call never happened."""
    with pytest.raises(KeyError), transaction.atomic():
        _apply_and_fail()
    assert not Entry.objects.exists()
    assert not Attempt.objects.exists()
    assert not Effect.objects.exists()


def test_a_broken_statement_in_the_body(call):
    """A database error in the body, inside the caller's transaction, is one failed attempt."""
    result = tasks.breaks_a_statement.apply()
    assert result.get() == 2
    assert outcomes(result) == ["failed"]
    assert Item.objects.count() == (0 if connection.in_atomic_block else 1)


def test_delay_when_always_eager(call, always, folder):
    """delay() runs at once, with links, and tells of it in the ledger."""
    link = tasks.remember.s(str(folder))
    result = add.apply_async((1, 2), link=link, queue="other", priority=3, countdown=60)
    assert result.get() == 3
    assert entry_of(result).state == "succeeded"
    assert (folder.path / "seen").read_text() == "3\n"
    assert Entry.objects.get(task=tasks.remember.name).state == "succeeded"
    failed = boom.apply_async(("bad",), link_error=tasks.remember_failure.s(folder=str(folder)))
    assert failed.state == "FAILURE"
    assert (folder.path / "seen").read_text() == f"3\nfailed {failed.id}\n"


def test_enqueue_many_when_always_eager(call, always):
    """enqueue_many() runs each call at once and returns their ids."""
    found = add.enqueue_many([(1, 2), {"x": 3, "y": 4}])
    assert Entry.objects.filter(pk__in=found.ids, state="succeeded").count() == 2


def test_canvas_when_always_eager(call, always):
    """Chains, groups and chords run eagerly; each member has its entry."""
    assert chain(add.s(1, 2), add.s(3), tasks.combine_one.s())().get() == 7
    assert Entry.objects.filter(state="succeeded").count() == 3
    assert group(add.s(n, n) for n in range(3))().get() == [0, 2, 4]
    assert chord([add.s(1, 1), tasks.fail_until.s(2, value=5)], tasks.combine.s())().get() == 7
    assert Entry.objects.filter(state="succeeded").count() == 9
    assert not Entry.objects.exclude(state="succeeded").exists()


def test_replacements_when_always_eager(call, always):
    """A task that replaces itself runs what it put in its place, under its own id."""
    assert tasks.replaces_itself.delay(41).get() == 42
    assert tasks.becomes_a_chain.delay(1).get() == 102
    assert tasks.becomes_a_group.delay(1).get() == [1, 2, 3]
    assert tasks.counts_down.delay(3).get() == 3
    assert not Entry.objects.exclude(state="succeeded").exists()


def test_what_production_refuses_is_refused_eagerly(call, always):
    """An argument that cannot be kept is refused when the call is eager, too."""
    with pytest.raises(ArgumentError, match="set"):
        add.delay({1, 2}, 3)


def test_ignore_when_eager(call):
    """An eager body that raises Ignore has ended well and keeps what it wrote."""
    result = tasks.says_ignore.apply()
    assert result.state == "IGNORED"
    assert isinstance(result.result, Ignore)
    assert entry_of(result).state == "succeeded"
    assert Effect.objects.filter(entry_id=result.id).count() == 1


def test_a_direct_call_writes_nothing(call):
    """A task that is called as a function is one: no entry, no attempt, errors as they are."""
    assert add(1, 2) == 3
    with pytest.raises(ValueError, match="bad"):
        boom("bad")
    assert tasks.knows_itself() == (0, None, False)
    assert not Entry.objects.exists()


def test_a_body_calls_tasks_directly(call):
    """Within an attempt, a direct call of a task, also of the same one, is a plain call."""
    result = tasks.factorial.apply((4,))
    assert result.get() == {"value": 24, "other": [0] * 4}
    assert Entry.objects.count() == 1


def test_a_body_enqueues_when_always_eager(call, always):
    """A body's own delay() runs within it and has an entry with the caller as its parent."""
    result = tasks.delegates.delay(3)
    assert result.get() == 4
    child = Entry.objects.get(task=tasks.combine_one.name)
    assert (str(child.parent_id), child.state) == (result.id, "succeeded")


def test_an_interrupted_eager_call_gives_its_entry_back(transactional_db):
    """Ctrl-C in an eager call is for the caller; the entry waits, uncharged, for a worker."""
    with pytest.raises(KeyboardInterrupt):
        tasks.interrupted.apply()
    entry = Entry.objects.get()
    assert (entry.state, entry.crashes, entry.retries) == ("pending", 0, 0)


def test_nobody_is_its_own_parent(call):
    """A call that is made outside of any task has no parent, though it runs while it is written."""
    entry = entry_of(add.apply((1, 2)))
    assert (entry.parent_id, entry.root_id) in {(None, None), (None, entry.pk)}


def test_a_task_that_applies_itself_is_the_parent(call):
    """Of two eager calls of one task, the outer is the parent of the inner and the root of both."""
    assert tasks.applies_itself.apply((3,)).get() == 6
    inner, middle, outer = sorted(Entry.objects.all(), key=lambda entry: entry.args)
    assert [inner.parent_id, middle.parent_id, outer.parent_id] == [middle.pk, outer.pk, None]
    assert {inner.root_id, middle.root_id} == {outer.pk}
