"""Rescue: taking over what a lost process ran."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.entries import LEASE, OTHER_WORKER, T0, WORKER, claim, enqueue, later, row, running

pytestmark = pytest.mark.django_db


def by_lease(held, seconds=LEASE):
    return entries.sweep(now=later(seconds))


def by_keeper(held, seconds=LEASE):
    return ledger.rescue_lost([held.entry], held.worker, now=later(seconds))


RESCUES = {"lease": by_lease, "keeper": by_keeper}


@pytest.fixture(params=RESCUES)
def rescue(request):
    """Rescue an entry, once by the end of its lease and once because its process is known lost."""
    return RESCUES[request.param]


def test_a_lost_attempt_is_followed_by_another(rescue):
    """An entry whose process was lost waits again at once, and the loss is told."""
    held = running()
    swept = rescue(held)
    (taken,) = swept.rescued
    assert (taken.id, taken.attempt, taken.worker, taken.crashes) == (held.entry, 1, WORKER, 1)
    found = row(held)
    assert (found.state, found.crashes, found.retries) == (State.RETRYING, 1, 0)
    assert (found.error_class, found.finished_at) == (ledger.CRASH, None)
    assert WORKER in found.error_message
    assert claim(held.entry, now=later(LEASE)).token == 2


def test_a_lost_attempt_is_kept(rescue):
    """A crash leaves an attempt row with number, worker, times and a fingerprint."""
    held = running(now=later(1))
    rescue(held, LEASE + 1)
    found = Attempt.objects.get()
    assert (found.entry_id, found.number) == (held.entry, 1)
    assert (found.outcome, found.error_class) == (Outcome.CRASHED, ledger.CRASH)
    assert (found.worker, found.started_at) == (WORKER, later(1))
    assert found.ended_at == later(LEASE + 1)
    assert found.fingerprint == row(held).fingerprint
    assert len(found.fingerprint) == 16


def test_crashes_of_one_task_share_a_fingerprint(rescue):
    """Crashes are grouped by task."""
    first, second, other = running(), running(), running(task="tests.app.tasks.boom")
    for held in (first, second, other):
        rescue(held)
    prints = [row(held).fingerprint for held in (first, second, other)]
    assert prints[0] == prints[1] != prints[2]


def test_the_crash_budget_ends_a_poison_loop(rescue):
    """An entry that takes its process down as often as its budget allows is dead, with a reason."""
    entry_id = enqueue(crash_budget=2)
    assert rescue(claim(entry_id)).rescued
    held = claim(entry_id, now=later(LEASE))
    swept = rescue(held, 2 * LEASE)
    assert [taken.id for taken in swept.died] == [entry_id]
    assert not swept.rescued
    found = row(entry_id)
    assert (found.state, found.wake_at, found.finished_at) == (State.DEAD, None, later(2 * LEASE))
    assert "lost 2 times" in found.reason
    assert "crash budget is 2" in found.reason
    assert swept.died[0].reason == found.reason
    assert list(Attempt.objects.values_list("number", "outcome")) == [
        (1, Outcome.CRASHED),
        (2, Outcome.CRASHED),
    ]


def test_failures_do_not_use_up_the_crash_budget(rescue):
    """An entry with many failures behind it survives a crash as well as a fresh one."""
    entry_id = enqueue(crash_budget=2)
    for n in range(4):
        entries.reschedule(claim(entry_id, now=later(n)), now=later(n), delay=1.0)
    held = claim(entry_id, now=later(4))
    assert rescue(held, 4 + LEASE).rescued
    assert (row(entry_id).crashes, row(entry_id).retries) == (1, 4)


def test_a_cancelled_entry_whose_process_is_gone_is_cancelled(rescue):
    """An entry that was asked to stop and lost its process ends as cancelled, charged nothing."""
    held = running()
    ledger.cancel([held.entry], reason="wrong customer", now=later(1))
    swept = rescue(held)
    assert [taken.id for taken in swept.cancelled] == [held.entry]
    found = row(held)
    assert (found.state, found.wake_at, found.finished_at) == (State.CANCELLED, None, later(LEASE))
    assert found.reason == "wrong customer"
    assert Attempt.objects.get().outcome == Outcome.CANCELLED


@pytest.mark.parametrize("seconds", [0.0, LEASE - 0.001])
def test_a_healthy_lease_is_left_alone(seconds):
    """A sweeper takes nothing over before the lease has ended."""
    held = running()
    before = entries.snapshot(held)
    assert not by_lease(held, seconds).rescued
    assert entries.snapshot(held) == before


def test_a_renewed_lease_is_left_alone():
    """A lease that was renewed counts from its renewal."""
    held = running()
    ledger.renew([held.entry], WORKER, lease=LEASE, now=later(5))
    assert not by_lease(held, 5 + LEASE - 0.001).rescued
    assert by_lease(held, 5 + LEASE).rescued


def test_no_lease_is_taken_over_after_an_outage():
    """While workers get their chance to renew after an outage, a sweeper leaves leases alone."""
    held = running()
    waiting = enqueue(delay=1.0)
    swept = entries.sweep(now=later(LEASE), rescuing=False)
    assert not swept.rescued
    assert entries.state(held) is State.RUNNING
    assert [wakeup.entry for wakeup in swept.wakeups] == [str(waiting)]


def test_the_keeper_takes_over_its_own_workers_entries_only():
    """What another worker holds by now is not taken over by a late note of a lost process."""
    held = running(worker=OTHER_WORKER)
    assert not ledger.rescue_lost([held.entry], WORKER, now=T0).rescued
    assert entries.state(held) is State.RUNNING


def test_an_attempt_that_began_after_the_loss_is_left_alone():
    """A late note of a lost process does not take over what another process claimed meanwhile."""
    held = running(now=later(3))
    assert not ledger.rescue_lost([held.entry], WORKER, dead_for=2.0, now=later(4)).rescued
    assert entries.state(held) is State.RUNNING
    assert ledger.rescue_lost([held.entry], WORKER, dead_for=1.0, now=later(4)).rescued


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_only_what_runs_is_rescued(state):
    """A note of a lost process for an entry that waits or has ended changes nothing."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    attempts = Attempt.objects.count()
    ledger.rescue_lost([entry_id], WORKER, now=T0)
    assert entries.snapshot(entry_id) == before
    assert Attempt.objects.count() == attempts


def test_many_lost_entries_are_rescued_together():
    """All entries of a lost worker are taken over in one pass, each with its own attempt row."""
    held = [running() for _ in range(20)]
    swept = entries.sweep(now=later(LEASE))
    assert {taken.id for taken in swept.rescued} == {each.entry for each in held}
    assert Attempt.objects.filter(outcome=Outcome.CRASHED).count() == 20


def test_a_rescued_entry_is_published_by_the_same_sweep():
    """Nobody waits another round: the sweeper that rescues an entry publishes it."""
    held = running()
    swept = by_lease(held)
    assert [wakeup.entry for wakeup in swept.wakeups] == [str(held.entry)]
    assert row(held).publishes == 1


def test_a_rescue_by_the_keeper_is_published_by_the_next_sweep():
    """What the keeper takes over is due for the very next sweep."""
    held = running()
    by_keeper(held, 1)
    assert (row(held).wake_at, row(held).publishes) == (later(1), 0)
    assert [wakeup.entry for wakeup in entries.sweep(now=later(1)).wakeups] == [str(held.entry)]


def test_a_dead_or_rescued_entry_is_not_told_twice():
    """A second sweep finds nothing more to take over."""
    running(), running(crash_budget=1)
    first = entries.sweep(now=later(LEASE))
    assert (len(first.rescued), len(first.died)) == (1, 1)
    again = entries.sweep(now=later(LEASE))
    assert not [*again.rescued, *again.died, *again.wakeups]
    assert Entry.objects.filter(state=State.RUNNING).count() == 0


def test_what_a_stopped_worker_left_is_released_uncharged():
    """An entry whose worker ended in good order waits again with no crash and no retry counted."""
    left, elsewhere = running(), running(worker=OTHER_WORKER)
    assert ledger.release_left(WORKER, now=later(1)) == 1
    found = row(left)
    assert (found.state, found.crashes, found.retries) == (State.PENDING, 0, 0)
    assert (found.wake_at, found.publishes) == (later(1), 0)
    assert Attempt.objects.get().outcome == Outcome.RELEASED
    assert row(elsewhere).state == State.RUNNING
    assert ledger.release_left(WORKER, now=later(1)) == 0
