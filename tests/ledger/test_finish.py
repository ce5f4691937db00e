"""Finish: each ending of an attempt, under its token."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.errors import Fenced
from reliable_tasks.failure import Failure
from reliable_tasks.models import Attempt
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.models import Effect
from tests.entries import FAILURE, GRACE, T0, WORKER, claim, enqueue, later, new, row, running
from tests.statements import verbs

pytestmark = pytest.mark.django_db

FINISHES = {
    "succeed": lambda held: ledger.succeed(held, now=T0),
    "reschedule": entries.reschedule,
    "bury": entries.bury,
    "release": lambda held: ledger.release(held, why="shutdown", now=T0),
    "stop": lambda held: ledger.stop(held, now=T0),
    "replace": lambda held: ledger.replace(held, new(), grace=GRACE, now=T0),
    "discard": lambda held: ledger.discard(held, FAILURE, reason="gone", now=T0),
}


def only_attempt(held):
    (found,) = Attempt.objects.filter(entry_id=held.entry)
    return found


# -------------------------------------------------------------------------------------- succeed
def test_success_ends_the_entry():
    """A success ends the entry, takes it off the sweeper's list and leaves no attempt row."""
    held = running()
    ledger.succeed(held, now=later(3))
    found = row(held)
    assert (found.state, found.finished_at, found.wake_at) == (State.SUCCEEDED, later(3), None)
    assert found.crashes == 0
    assert not Attempt.objects.exists()


def test_success_is_one_statement():
    """A success costs one statement, with no transaction of its own around it."""
    held = running(now=None)
    with CaptureQueriesContext(connection) as captured:
        ledger.succeed(held)
    assert verbs(captured) == ["UPDATE"]


def test_success_after_failures_keeps_their_count():
    """How often an entry was retried can be seen after its success."""
    held = running()
    entries.reschedule(held, delay=1.0)
    ledger.succeed(claim(held.entry, now=later(1)), now=later(1))
    assert (row(held).retries, row(held).crashes, row(held).attempt) == (1, 0, 2)


# ----------------------------------------------------------------------------------- reschedule
def test_a_failure_waits_for_its_delay():
    """A failed attempt is kept, charged as a retry, and the entry is due after the delay."""
    held = running(now=T0)
    entries.reschedule(held, now=later(2), delay=60.0, max_retries=20)
    found = row(held)
    assert (found.state, found.finished_at) == (State.RETRYING, None)
    assert (found.due_at, found.wake_at, found.publishes) == (later(62), later(62), 0)
    assert (found.retries, found.max_retries, found.crashes) == (1, 20, 0)
    assert (found.error_class, found.error_message) == (FAILURE.error_class, FAILURE.message)
    assert found.fingerprint == FAILURE.fingerprint


def test_each_failed_attempt_is_kept():
    """A failed attempt keeps number, outcome, error, traceback, worker and times."""
    held = running(now=later(1))
    entries.reschedule(held, now=later(4))
    found = only_attempt(held)
    assert (found.number, found.outcome, found.worker) == (1, Outcome.FAILED, WORKER)
    assert (found.started_at, found.ended_at) == (later(1), later(4))
    kept = Failure(
        found.error_class,
        found.error_message,
        found.traceback,
        found.fingerprint,
    )
    assert kept == FAILURE


def test_a_retry_at_a_set_time_is_due_then():
    """A retry with an eta is due at that time."""
    held = running()
    entries.reschedule(held, delay=0.0, due_at=later(99))
    assert (row(held).due_at, row(held).wake_at, row(held).publishes) == (later(99), later(99), 0)


@pytest.mark.parametrize("delay", [1e300, float("inf"), float("nan"), -1e300])
def test_a_delay_is_a_time_that_the_database_knows(delay):
    """Whatever a task's options or `raise Retry` say, the attempt's end is written."""
    held = running(now=None)
    ledger.reschedule(held, FAILURE, Outcome.FAILED, delay=delay, grace=GRACE)
    found = row(held)
    assert found.state == State.RETRYING
    assert timedelta(0) <= found.due_at - found.started_at < timedelta(days=36_700)


def test_a_retry_at_once_leaves_the_caller_time_to_publish():
    """A retry without delay is due now; its publish is counted and looked at a grace later."""
    held = running()
    entries.reschedule(held, delay=0.0)
    assert (row(held).due_at, row(held).wake_at, row(held).publishes) == (T0, later(GRACE), 1)


def test_a_retry_may_change_the_call():
    """The next attempt gets other arguments, options and queue if the body asks for it."""
    held = running(args="[1]", kwargs="{}", queue="celery")
    entries.reschedule(
        held,
        changes={
            "args": "[2]",
            "kwargs": '{"a":1}',
            "options": '{"headers":{"x":1}}',
            "queue": "slow",
        },
    )
    found = row(held)
    assert (found.args, found.kwargs, found.queue) == ([2], {"a": 1}, "slow")
    assert found.options == {"headers": {"x": 1}}


def test_a_retry_keeps_what_it_does_not_change():
    """A retry that names only other arguments leaves options and queue as they were."""
    held = running(args="[1]", kwargs='{"a":1}', options='{"shadow":"x"}', queue="slow")
    entries.reschedule(held, changes={"args": "[2]"})
    found = row(held)
    assert (found.args, found.kwargs, found.options, found.queue) == (
        [2],
        {"a": 1},
        {"shadow": "x"},
        "slow",
    )


def test_a_retry_after_a_cancel_is_looked_at_at_once():
    """An attempt that fails after it was cancelled does not make the cancel wait for a retry."""
    held = running()
    ledger.cancel([held.entry], now=later(1))
    entries.reschedule(held, now=later(2), delay=600.0)
    assert row(held).wake_at == later(1)
    swept = entries.sweep(now=later(2))
    assert [taken.id for taken in swept.cancelled] == [held.entry]
    assert entries.state(held) is State.CANCELLED


# ----------------------------------------------------------------------------------------- bury
def test_death_has_a_reason():
    """A dead entry tells why in words, and keeps its last error and attempt."""
    held = running()
    entries.bury(held, now=later(3), reason="Failed 3 times.", max_retries=2)
    found = row(held)
    assert (found.state, found.finished_at, found.wake_at) == (State.DEAD, later(3), None)
    assert (found.reason, found.max_retries) == ("Failed 3 times.", 2)
    assert (found.error_class, found.fingerprint) == (FAILURE.error_class, FAILURE.fingerprint)
    assert (found.retries, found.crashes) == (0, 0)
    assert only_attempt(held).outcome == Outcome.FAILED


# -------------------------------------------------------------------------------------- release
def test_a_release_charges_nothing():
    """An attempt that is given back waits again at once, with neither retry nor crash charged."""
    held = running()
    ledger.release(held, why="its worker was told to stop", now=later(3))
    found = row(held)
    assert (found.state, found.wake_at, found.publishes) == (State.PENDING, later(3), 0)
    assert (found.retries, found.crashes) == (0, 0)
    kept = only_attempt(held)
    assert (kept.outcome, kept.error_message) == (Outcome.RELEASED, "its worker was told to stop")
    assert claim(held.entry, now=later(3)).token == 2


def test_a_release_of_a_retry_is_a_retry_again():
    """An entry that had failed before is shown as retrying when its attempt is given back."""
    held = running()
    entries.reschedule(held, delay=1.0)
    ledger.release(claim(held.entry, now=later(1)), why="shutdown", now=later(2))
    assert (row(held).state, row(held).retries) == (State.RETRYING, 1)


# ----------------------------------------------------------------------------------------- stop
def test_an_attempt_that_was_asked_to_stop_ends_the_entry():
    """An attempt that stops as asked ends the entry as cancelled, for the person's own reason."""
    held = running()
    ledger.cancel([held.entry], reason="wrong customer", now=later(1))
    ledger.stop(held, now=later(2))
    found = row(held)
    assert (found.state, found.finished_at, found.wake_at) == (State.CANCELLED, later(2), None)
    assert (found.reason, found.crashes) == ("wrong customer", 0)
    assert only_attempt(held).outcome == Outcome.CANCELLED


def test_nobody_stops_who_was_not_asked():
    """An attempt cannot end its entry as cancelled if nobody cancelled it."""
    held = running()
    before = entries.snapshot(held)
    with pytest.raises(Fenced):
        ledger.stop(held, now=T0)
    assert entries.snapshot(held) == before
    assert not Attempt.objects.exists()


# -------------------------------------------------------------------------------------- replace
def test_a_replaced_task_goes_on_under_the_same_id():
    """An entry whose task replaced itself waits as the other task, with fresh budgets."""
    held = running(args="[1]", options='{"shadow":"x"}', priority=3)
    entries.reschedule(held, delay=1.0)
    held = claim(held.entry, now=later(1))
    successor = new(task="app.other", args="[2]", queue="slow", crash_budget=9, max_retries=4)
    ledger.replace(held, successor, grace=GRACE, now=later(2))
    found = row(held)
    assert (found.state, found.task, found.args) == (State.PENDING, "app.other", [2])
    assert (found.options, found.queue, found.priority) == (None, "slow", None)
    assert (found.retries, found.crashes, found.crash_budget, found.max_retries) == (0, 0, 9, 4)
    assert (found.due_at, found.wake_at, found.publishes) == (later(2), later(2 + GRACE), 1)
    assert claim(held.entry, now=later(2)).token == 3


# -------------------------------------------------------------------------------------- fencing
@pytest.mark.parametrize("verb", FINISHES)
@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_an_attempt_that_lost_its_entry_changes_nothing(verb, state):
    """No ending is written for an entry that does not run, and no attempt row appears."""
    entry_id = entries.in_state(state)
    held = replace(running(), entry=entry_id, token=row(entry_id).attempt)
    before = entries.snapshot(entry_id)
    attempts = Attempt.objects.count()
    with pytest.raises(Fenced, match=str(entry_id)):
        FINISHES[verb](held)
    assert entries.snapshot(entry_id) == before
    assert Attempt.objects.count() == attempts


@pytest.mark.parametrize("verb", FINISHES)
def test_an_attempt_with_an_old_token_changes_nothing(verb):
    """An attempt that was taken over cannot end the one that runs now."""
    old = running()
    entries.sweep(now=later(11))
    current = claim(old.entry, now=later(12), worker=WORKER)
    ledger.cancel([old.entry], now=later(12))
    before = entries.snapshot(current)
    attempts = Attempt.objects.count()
    with pytest.raises(Fenced, match=f"Attempt 1 of {old.task}"):
        FINISHES[verb](old)
    assert entries.snapshot(current) == before
    assert Attempt.objects.count() == attempts


@pytest.mark.parametrize("verb", FINISHES)
def test_an_entry_that_was_deleted_fences_its_attempt(verb):
    """An attempt whose entry is gone is fenced like any other."""
    held = running()
    row(held).delete()
    with pytest.raises(Fenced):
        FINISHES[verb](held)


def test_a_fenced_attempt_leaves_nothing_of_its_transaction():
    """What a body wrote in the transaction of its finish is rolled back when it is fenced."""
    held = running()
    entries.sweep(now=later(11))

    def body_and_finish():
        with transaction.atomic():
            Effect.objects.create(name="of a fenced attempt")
            ledger.succeed(held, now=later(12))

    with pytest.raises(Fenced):
        body_and_finish()
    assert not Effect.objects.exists()
    assert entries.state(held) is State.RETRYING


def test_a_finish_and_the_bodys_effects_commit_together():
    """What a body writes in the transaction of its finish is there with the success, or neither."""
    held = running()
    with transaction.atomic():
        Effect.objects.create(name="paid")
        ledger.succeed(held, now=T0)
        transaction.set_rollback(True)
    assert (Effect.objects.count(), entries.state(held)) == (0, State.RUNNING)
    with transaction.atomic():
        Effect.objects.create(name="paid")
        ledger.succeed(held, now=T0)
    assert (Effect.objects.count(), entries.state(held)) == (1, State.SUCCEEDED)


@pytest.mark.parametrize("verb", [verb for verb in FINISHES if verb not in ("replace", "stop")])
def test_the_crash_charged_in_advance_is_taken_back(verb):
    """An attempt that reports, whatever it reports, costs no crash; earlier crashes stay."""
    entry_id = enqueue()
    claim(entry_id)
    entries.sweep(now=later(11))
    held = claim(entry_id, now=later(12))
    assert held.crashes == 2
    FINISHES[verb](held)
    assert row(entry_id).crashes == 1
