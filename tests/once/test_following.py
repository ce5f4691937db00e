"""What a duplicate in a canvas comes to, look by look."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery.backends.base import DisabledBackend
from django.utils import timezone

from reliable_tasks import ledger, operations
from reliable_tasks.models import Entry, Key
from reliable_tasks.states import State
from tests.celery_app import app
from tests.once.support import bury, claim, deliver, entry_of, held, keys_of, reschedule

pytestmark = pytest.mark.django_db


def follower_of(task, *args):
    """Call a task as a chain's step, so that a duplicate follows."""
    result = task.apply_async(args, parent_id="00000000-0000-4000-8000-000000000001")
    assert "follows" in entry_of(result).options
    return result


def look(task, result):
    """Let a follower take one look, due or not; return its entry."""
    past = timezone.now() - timedelta(seconds=1)
    Entry.objects.filter(pk=result.id).update(due_at=past)
    deliver(task, result.id)
    return entry_of(result)


def value_of(result):
    app.backend._cache.clear()
    return app.AsyncResult(result.id).result


def succeed(task, result):
    deliver(task, result.id)
    assert entry_of(result).state == State.SUCCEEDED


def forget(result):
    app.backend.forget(result.id)
    app.backend._cache.clear()


def test_a_follower_of_a_pruned_holder_whose_key_stays_for_ever_has_its_result(once):
    """Where the key outlasts its pruned entry, the follower ends with that entry's result."""
    task = once(window="forever")
    first = task.delay(5)
    follower = follower_of(task, 5)
    succeed(task, first)
    Entry.objects.filter(pk=first.id).delete()
    assert look(task, follower).state == State.SUCCEEDED
    assert value_of(follower) == 5


def test_a_follower_whose_key_another_entry_used_up_has_that_ones_result(once):
    """Holder cancelled, another entry succeeded within a window: the follower ends as that one."""
    task = once(window=3600)
    first = task.delay(5)
    follower = follower_of(task, 5)
    operations.cancel([entry_of(first).pk])
    succeed(task, task.delay(5))
    assert look(task, follower).state == State.SUCCEEDED
    assert value_of(follower) == 5


def test_a_follower_whose_key_another_dead_entry_keeps_dies_and_names_it(once):
    """A key that a dead entry holds is no reason to wait for a person for ever."""
    task = once(after_death="hold")
    first = task.delay(5)
    follower = follower_of(task, 5)
    operations.cancel([entry_of(first).pk])
    second = task.delay(5)
    bury(claim(second))
    entry = look(task, follower)
    assert entry.state == State.DEAD
    assert second.id in entry.reason


def test_a_follower_whose_key_another_live_entry_has_waits_for_that_one(once):
    """Whoever has taken the key of a cancelled holder is waited for, and its result counts."""
    task = once()
    first = task.delay(5)
    follower = follower_of(task, 5)
    operations.cancel([entry_of(first).pk])
    second = task.delay(5)
    assert look(task, follower).state == State.PENDING
    assert held(second)
    succeed(task, second)
    assert look(task, follower).state == State.SUCCEEDED
    assert Key.objects.count() == 0


def test_a_follower_may_look_for_months(once):
    """No number of looks is too many."""
    task = once()
    first = task.delay(5)
    follower = follower_of(task, 5)
    Entry.objects.filter(pk=follower.id).update(attempt=100_000)
    assert look(task, follower).state == State.PENDING
    succeed(task, first)
    assert look(task, follower).state == State.SUCCEEDED


def test_a_follower_waits_while_the_result_backend_does_not_answer(once, monkeypatch):
    """An outage of the result backend does not turn a result into None."""
    task = once()
    first = task.delay(5)
    follower = follower_of(task, 5)
    succeed(task, first)
    Entry.objects.filter(pk=first.id).update(finished_at=timezone.now() - timedelta(hours=1))

    def fail(*args, **kwargs):
        raise ConnectionError("the backend is down")

    with monkeypatch.context() as patched:
        patched.setattr(app.backend, "get_task_meta", fail)
        assert look(task, follower).state == State.PENDING
    assert look(task, follower).state == State.SUCCEEDED
    assert value_of(follower) == 5


def test_a_follower_whose_holders_result_is_lost_dies_with_a_reason(once):
    """A result that has expired is not replaced by None: the follower is dead and says why."""
    task = once()
    first = task.delay(5)
    follower = follower_of(task, 5)
    succeed(task, first)
    forget(first)
    assert look(task, follower).state == State.PENDING  # it may still be on its way
    Entry.objects.filter(pk=first.id).update(finished_at=timezone.now() - timedelta(hours=1))
    entry = look(task, follower)
    assert entry.state == State.DEAD
    assert first.id in entry.reason
    assert "result_expires" in entry.reason


@pytest.mark.parametrize(("end", "state"), [("SUCCESS", State.SUCCEEDED), ("FAILURE", State.DEAD)])
def test_a_follower_waits_for_the_workflow_that_took_its_holders_place(once, end, state):
    """What self.replace() began ends under the holder's id, however much later."""
    task = once()
    first = task.delay(5)
    follower = follower_of(task, 5)
    ledger.hand_over(claim(first))
    Entry.objects.filter(pk=first.id).update(finished_at=timezone.now() - timedelta(hours=1))
    assert look(task, follower).state == State.PENDING
    app.backend.store_result(first.id, 5 if end == "SUCCESS" else ValueError("no"), end)
    app.backend._cache.clear()
    entry = look(task, follower)
    assert entry.state == state
    if state == State.SUCCEEDED:
        assert value_of(follower) == 5
    else:
        assert first.id in entry.reason


@pytest.mark.parametrize("why", ["task", "call", "backend"])
def test_where_results_are_not_kept_a_follower_ends_with_none(once, monkeypatch, why):
    """Without a result to be had by anybody, a follower succeeds when its holder has."""
    task = once()
    first = task.apply_async((5,), ignore_result=True) if why == "call" else task.delay(5)
    follower = follower_of(task, 5)
    if why == "task":
        task.ignore_result = True
    if why == "backend":
        monkeypatch.setattr(type(task), "backend", DisabledBackend(app))
    succeed(task, first)
    Entry.objects.filter(pk=first.id).update(finished_at=timezone.now() - timedelta(hours=1))
    assert look(task, follower).state == State.SUCCEEDED


@pytest.mark.parametrize("blocks", ["waiting", "unstarted"])
def test_a_follower_that_does_the_work_frees_its_key_where_bodies_do_not_block(make_task, blocks):
    """With blocks="waiting", a follower that takes over holds no key while its body runs."""
    during = []

    def body(order):
        during.append(Key.objects.count())

    task = make_task(body, once={"blocks": blocks})
    first = task.delay(5)
    follower = follower_of(task, 5)
    operations.cancel([entry_of(first).pk])
    assert look(task, follower).state == State.SUCCEEDED
    assert during == [0]
    assert keys_of(follower) == []


INTERRUPTIONS = {
    "a lost connection": reschedule,
    "a stop": lambda running: ledger.release(running, why="shutdown"),
    "a crash": lambda running: ledger.rescue_lost([running.entry], running.worker),
}


@pytest.mark.parametrize("how", INTERRUPTIONS)
def test_a_follower_that_is_interrupted_takes_no_key(once, how):
    """With blocks="waiting", it does not block calls that come while the holder's body runs."""
    task = once(blocks="waiting")
    first = task.delay(5)
    follower = follower_of(task, 5)
    claim(first)
    INTERRUPTIONS[how](claim(follower))
    assert Key.objects.count() == 0
    assert held(task.delay(5))


def test_a_follower_whose_holder_is_gone_takes_the_key(make_task):
    """A follower of an entry that is no more does the work, and holds the key meanwhile."""
    during = []

    def body(order):
        during.append([str(key.entry_id) for key in Key.objects.all()])

    task = make_task(body, once=True)
    first = task.delay(5)
    follower = follower_of(task, 5)
    ledger.cancel([entry_of(first).pk])
    Entry.objects.filter(pk=first.id).delete()
    assert look(task, follower).state == State.SUCCEEDED
    assert during == [[follower.id]]


def test_a_step_whose_idempotency_key_has_other_arguments_is_a_dead_letter(once):
    """Nobody could be told of KeyReused inside a chain: the step has an entry, dead with that."""
    task = once(keys=["order"], window="forever")
    first = task.delay(5, "one")
    step = follower_of(task, 5, "other")
    assert held(first)
    entry = look(task, step)
    assert entry.state == State.DEAD
    assert "with other arguments" in entry.reason
    assert first.id in entry.reason
    assert app.AsyncResult(step.id).state == "FAILURE"


def test_such_a_step_does_the_work_once_it_has_the_key(once):
    """Requeued after the key was released, a refused step runs with its own arguments."""
    task = once(keys=["order"], window="forever")
    first = task.delay(5, "one")
    step = follower_of(task, 5, "other")
    look(task, step)
    assert not operations.requeue([entry_of(step).pk]).requeued
    (key,) = keys_of(first)
    operations.release_key(key.pk, "the sender reused it")
    assert operations.requeue([entry_of(step).pk]).requeued
    assert look(task, step).state == State.SUCCEEDED
