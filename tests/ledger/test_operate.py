"""What a person does: cancel, requeue, prune."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import ENDED, REQUEUEABLE, WAITING, State
from tests import entries
from tests.entries import T0, claim, enqueue, later, row, running

pytestmark = pytest.mark.django_db


# --------------------------------------------------------------------------------------- cancel
@pytest.mark.parametrize("state", sorted(WAITING))
def test_what_waits_is_cancelled_at_once(state):
    """An entry that waits ends as cancelled, for the reason that was given."""
    entry_id = entries.in_state(state)
    result = ledger.cancel([entry_id], reason="wrong customer", now=later(3))
    assert (result.cancelled, result.asked, result.skipped) == ([entry_id], [], [])
    found = row(entry_id)
    assert (found.state, found.wake_at, found.finished_at) == (State.CANCELLED, None, later(3))
    assert found.reason == "wrong customer"


def test_what_runs_is_asked_to_stop():
    """An entry that runs goes on, and is marked as asked to stop since when."""
    held = running()
    result = ledger.cancel([held.entry], reason="wrong customer", now=later(3))
    assert (result.cancelled, result.asked, result.skipped) == ([], [held.entry], [])
    found = row(held)
    assert (found.state, found.wake_at) == (State.RUNNING, later(entries.LEASE))
    assert (found.cancel_requested_at, found.reason) == (later(3), "wrong customer")


def test_what_was_asked_before_is_left_alone():
    """A second cancel of what runs neither restarts its time to stop nor changes the reason."""
    held = running()
    ledger.cancel([held.entry], reason="first", now=later(3))
    result = ledger.cancel([held.entry], reason="second", now=later(4))
    assert result.skipped == [held.entry]
    assert (row(held).cancel_requested_at, row(held).reason) == (later(3), "first")


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_ended_is_not_cancelled(state):
    """An entry that has ended stays as it ended."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.cancel([entry_id], now=later(9)).skipped == [entry_id]
    assert entries.snapshot(entry_id) == before


def test_a_mixed_selection_is_told_apart():
    """Of many entries each is told as cancelled, asked or skipped, and none is left out."""
    waiting, held, gone = enqueue(), running(), new_id()
    done = entries.in_state(State.SUCCEEDED)
    bystander = enqueue()
    result = ledger.cancel([waiting, held.entry, gone, done], now=T0)
    assert (result.cancelled, result.asked) == ([waiting], [held.entry])
    assert set(result.skipped) == {gone, done}
    assert entries.state(bystander) is State.PENDING


def test_a_cancel_without_a_reason_says_who():
    """A cancel without words still leaves words."""
    entry_id = enqueue()
    ledger.cancel([entry_id], now=T0)
    assert row(entry_id).reason == "Cancelled by a person."


def test_success_wins_over_a_late_cancel():
    """An attempt that succeeds although it was asked to stop has succeeded."""
    held = running()
    ledger.cancel([held.entry], now=T0)
    ledger.succeed(held, now=later(1))
    assert entries.state(held) is State.SUCCEEDED


def test_nothing_to_cancel_is_nothing():
    """An empty selection is answered with an empty result."""
    assert ledger.cancel([]) == ledger.CancelResult()


# -------------------------------------------------------------------------------------- requeue
@pytest.mark.parametrize("state", sorted(REQUEUEABLE))
def test_a_requeued_entry_starts_afresh(state):
    """A requeued entry waits, is due now, is published by the next sweep and has its budgets."""
    entry_id = enqueue(expires_in=3600.0)
    for n in range(3):
        entries.reschedule(claim(entry_id, now=later(n)), now=later(n), delay=1.0)
    if state is State.DEAD:
        entries.bury(claim(entry_id, now=later(3)), now=later(3))
    else:
        ledger.cancel([entry_id], now=later(3))
    assert ledger.requeue([entry_id], reason="gateway is back", now=later(9)) == [entry_id]
    found = row(entry_id)
    assert (found.state, found.due_at, found.wake_at) == (State.PENDING, later(9), later(9))
    assert (found.retries, found.crashes, found.publishes) == (0, 0, 0)
    assert (found.expires_at, found.finished_at, found.cancel_requested_at) == (None, None, None)
    assert found.reason == "gateway is back"
    assert [w.entry for w in entries.sweep(now=later(9)).wakeups] == [str(entry_id)]
    assert claim(entry_id, now=later(9)).token > 3


def test_a_requeued_crasher_has_its_whole_budget():
    """An entry that died of crashes survives as many again after a requeue."""
    entry_id = enqueue(crash_budget=2)
    for n in (0, 1):
        claim(entry_id, now=later(n * 20))
        entries.sweep(now=later(n * 20 + 10))
    assert entries.state(entry_id) is State.DEAD
    ledger.requeue([entry_id], now=later(50))
    claim(entry_id, now=later(50))
    assert entries.sweep(now=later(60)).rescued


def test_an_attempt_from_before_cannot_finish_a_requeued_entry():
    """The token goes on counting, so an old attempt stays fenced off."""
    old = running()
    entries.sweep(now=later(10))
    ledger.cancel([old.entry], now=later(11))
    ledger.requeue([old.entry], now=later(12))
    current = claim(old.entry, now=later(12))
    with pytest.raises(ledger.finish.Fenced):
        ledger.succeed(old, now=later(13))
    ledger.succeed(current, now=later(13))


@pytest.mark.parametrize("state", sorted(set(State) - REQUEUEABLE))
def test_only_the_dead_and_cancelled_are_requeued(state):
    """An entry that waits, runs or has succeeded is not requeued."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.requeue([entry_id, new_id()], now=later(9)) == []
    assert entries.snapshot(entry_id) == before


def test_a_renamed_task_can_be_requeued_under_its_new_name():
    """Entries of a task that was renamed come back under the new name, and due when wanted."""
    entry_id = entries.in_state(State.DEAD)
    ledger.requeue([entry_id], task="app.renamed", due_at=later(60), now=T0)
    found = row(entry_id)
    assert (found.task, found.due_at, found.wake_at) == ("app.renamed", later(60), later(60))


def test_the_attempts_are_kept_through_a_requeue():
    """What went wrong before stays to be read after a requeue."""
    entry_id = entries.in_state(State.DEAD)
    ledger.requeue([entry_id], now=T0)
    assert Attempt.objects.filter(entry_id=entry_id).count() == 1
    assert row(entry_id).error_class


# ---------------------------------------------------------------------------------------- prune
DAY = timedelta(days=1)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_prune_deletes_what_ended_long_ago(state):
    """Entries of one state that ended before the age are deleted, with their attempts."""
    old, young = entries.in_state(state, now=T0), entries.in_state(state, now=later(3600))
    others = [entries.in_state(other, now=T0) for other in State if other is not state]
    attempts = Attempt.objects.filter(entry_id__in=[young, *others]).count()
    assert ledger.prune(state, DAY, now=T0 + DAY + timedelta(seconds=1)) == 1
    assert not Entry.objects.filter(pk=old).exists()
    assert Entry.objects.filter(pk__in=[young, *others]).count() == len(others) + 1
    assert Attempt.objects.count() == attempts


def test_prune_keeps_what_is_not_old_enough():
    """An entry is kept for the whole of its age."""
    entries.in_state(State.SUCCEEDED)
    assert ledger.prune(State.SUCCEEDED, DAY, now=T0 + DAY) == 0
    assert ledger.prune(State.SUCCEEDED, DAY, now=T0 + DAY + timedelta(seconds=1)) == 1


def test_prune_is_bounded_and_takes_the_oldest():
    """One call deletes at most a batch, the oldest first, and 0 says that it is done."""
    ended = [entries.in_state(State.CANCELLED, now=later(n)) for n in range(5)]
    at = T0 + 2 * DAY
    assert ledger.prune(State.CANCELLED, DAY, batch=2, now=at) == 2
    assert set(Entry.objects.values_list("pk", flat=True)) == set(ended[2:])
    assert [ledger.prune(State.CANCELLED, DAY, batch=2, now=at) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("state", sorted(set(State) - ENDED))
def test_what_has_not_ended_is_never_pruned(state):
    """Pruning a state that is no end is refused."""
    entries.in_state(state)
    with pytest.raises(ValueError, match=f"{state} is not an ended state"):
        ledger.prune(state, timedelta(0), now=later(10**6))
    assert Entry.objects.count() == 1


def test_prune_costs_few_statements(django_assert_max_num_queries):
    """A batch is deleted without reading its rows, however many attempts they have."""
    for _ in range(20):
        entries.in_state(State.DEAD)
    with django_assert_max_num_queries(6):
        assert ledger.prune(State.DEAD, timedelta(0), now=later(1)) == 20
    assert not Attempt.objects.exists()
