"""The sweeper's pass over what is due: publish, expire, cancel, put off."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.ledger.backlog import FUTILE
from reliable_tasks.models import Entry
from reliable_tasks.states import ENDED, State
from tests import entries
from tests.entries import GRACE, T0, enqueue, later, row, sweep

pytestmark = pytest.mark.django_db


def ids(wakeups):
    return {wakeup.entry for wakeup in wakeups}


# -------------------------------------------------------------------------------------- publish
def test_nothing_is_published_before_its_time():
    """A sweep leaves alone what nobody needs to look at yet."""
    entry_id = enqueue(delay=60.0)
    before = entries.snapshot(entry_id)
    assert sweep(now=later(59.9)).touched == 0
    assert entries.snapshot(entry_id) == before


def test_what_is_due_later_is_published_when_it_is_due():
    """An entry with a countdown is published at its time, without anybody having to miss it."""
    entry_id = enqueue(delay=60.0)
    assert ids(sweep(now=later(60)).wakeups) == {str(entry_id)}
    assert row(entry_id).publishes == 1


def test_a_publish_by_a_sweeper_leaves_its_time():
    """The row says when a sweeper last published it; a mere look and its caller's do not."""
    entry_id = enqueue()
    assert row(entry_id).published_at is None
    assert sweep(now=later(GRACE)).put_off == 1
    assert row(entry_id).published_at is None
    for seconds in (60, 120):
        Entry.objects.filter(pk=entry_id).update(wake_at=T0)
        assert ids(sweep(now=later(seconds)).wakeups) == {str(entry_id)}
        assert row(entry_id).published_at == later(seconds)
    entries.claim(entry_id, now=later(121))
    assert row(entry_id).published_at == later(120)


def test_a_wakeup_says_where_to_send_what():
    """A wake-up carries the entry's task, queue, priority and options."""
    entry_id = enqueue(
        delay=1.0, task="app.ship", queue="slow", priority=4, options='{"shadow":"x"}'
    )
    (wakeup,) = sweep(now=later(1)).wakeups
    assert (wakeup.entry, wakeup.task, wakeup.queue) == (str(entry_id), "app.ship", "slow")
    assert (wakeup.priority, wakeup.options) == (4, {"shadow": "x"})


def test_a_long_backlog_is_not_flooded():
    """Entries that were published and only wait their turn are put off, not published again."""
    waiting = [enqueue() for _ in range(10)]
    swept = sweep(now=later(GRACE))
    assert (swept.wakeups, swept.put_off) == ([], 10)
    assert {row(entry_id).publishes for entry_id in waiting} == {1}
    assert {row(entry_id).wake_at for entry_id in waiting} == {later(2 * GRACE)}


def test_where_messages_cannot_be_counted_an_entry_is_published_again():
    """With a broker that does not tell its depth, an entry that nobody claims is sent again."""
    entry_id = enqueue()
    assert not sweep(now=later(GRACE - 0.01), counted=False).wakeups
    assert ids(sweep(now=later(GRACE), counted=False).wakeups) == {str(entry_id)}
    assert row(entry_id).publishes == 2


def test_what_was_published_in_vain_is_published_at_each_look():
    """An entry that no count can help is published whenever it is looked at."""
    entry_id = enqueue()
    Entry.objects.filter(pk=entry_id).update(publishes=FUTILE)
    assert ids(sweep(now=later(GRACE)).wakeups) == {str(entry_id)}


@pytest.mark.parametrize(("seconds", "published"), [(GRACE, False), (60.0, True)])
def test_on_a_shared_queue_an_old_entry_is_published_again(seconds, published):
    """Where plain tasks' messages spoil the count, an entry that has waited long is sent again."""
    entry_id = enqueue()
    swept = sweep(now=later(seconds), shared={"celery"}, longest=60.0)
    assert bool(swept.wakeups) is published
    assert row(entry_id).publishes == 1 + published
    other = enqueue(queue="other", now=later(seconds - 60))
    assert not sweep(now=later(seconds), shared={"celery"}, longest=60.0).wakeups
    assert row(other).publishes == 1


@pytest.mark.parametrize("counted", [True, False])
def test_what_was_never_published_is_published(counted):
    """A requeued entry is published at once, whatever the broker can tell."""
    entry_id = entries.in_state(State.DEAD)
    ledger.requeue([entry_id], now=later(1))
    assert ids(sweep(now=later(1), counted=counted).wakeups) == {str(entry_id)}


def test_the_looks_at_an_old_entry_grow_apart():
    """The older an entry that waits its turn, the rarer the looks, up to the longest interval."""
    entry_id = enqueue()
    gaps, now = [], GRACE
    for _ in range(9):
        sweep(now=later(now), longest=120.0)
        following = (row(entry_id).wake_at - T0).total_seconds()
        gaps.append(round(following - now, 6))
        now = following
    assert gaps[0] == GRACE
    assert gaps == sorted(gaps)
    assert gaps[-1] == 120.0
    assert len(gaps) > len(set(gaps))


def test_a_short_recheck_does_not_spin():
    """However short the time between looks, an entry is looked at no more than once a second."""
    entry_id = enqueue()
    sweep(now=later(GRACE), recheck=0.001)
    assert row(entry_id).wake_at >= later(GRACE + 1)


def test_while_the_broker_is_down_nothing_is_marked():
    """While the broker is down what only waits for a publish is left as it is."""
    entry_id = enqueue(delay=1.0)
    before = entries.snapshot(entry_id)
    assert sweep(now=later(1), publishing=False).touched == 0
    assert entries.snapshot(entry_id) == before


def test_while_the_broker_is_down_the_rest_goes_on():
    """While the broker is down leases are rescued, expiries and cancels carried out."""
    lost, expired, asked = entries.running(), enqueue(expires_in=4.0), entries.running()
    ledger.cancel([asked.entry], now=T0)
    ledger.release(asked, why="shutdown", now=T0)
    swept = sweep(now=later(entries.LEASE), publishing=False)
    assert [taken.id for taken in swept.rescued] == [lost.entry]
    assert [taken.id for taken in swept.expired] == [expired]
    assert [taken.id for taken in swept.cancelled] == [asked.entry]
    assert not swept.wakeups
    assert row(lost).wake_at <= later(entries.LEASE)


def test_a_publish_that_failed_is_taken_back():
    """An entry that the broker did not take is published at the next try, unconditionally."""
    entry_id = enqueue(delay=1.0)
    sweep(now=later(1))
    assert ledger.take_back([entry_id], retry_in=3.0, now=later(1)) == 1
    assert (row(entry_id).publishes, row(entry_id).wake_at) == (0, later(4))
    assert row(entry_id).published_at is None
    assert ids(sweep(now=later(4)).wakeups) == {str(entry_id)}


@pytest.mark.parametrize("state", [State.RUNNING, *sorted(ENDED)])
def test_taking_back_touches_only_what_waits(state):
    """An entry that was claimed or has ended meanwhile is not brought back to a sweeper."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.take_back([entry_id], retry_in=3.0, now=T0) == 0
    assert entries.snapshot(entry_id) == before


def test_the_mark_comes_before_the_message():
    """A second sweep at the same time publishes nothing again, even if the first one died."""
    for _ in range(3):
        enqueue(delay=1.0)
    assert len(sweep(now=later(1)).wakeups) == 3
    assert sweep(now=later(1)).touched == 0


# --------------------------------------------------------------------------------------- expire
@pytest.mark.parametrize("state", [State.PENDING, State.RETRYING])
def test_what_expired_is_cancelled_with_a_reason(state):
    """An entry whose expiry has come while it waits ends as cancelled and says why."""
    entry_id = enqueue(expires_in=30.0)
    if state is State.RETRYING:
        entries.reschedule(entries.claim(entry_id), delay=1.0)
    swept = sweep(now=later(30))
    assert [taken.id for taken in swept.expired] == [entry_id]
    found = row(entry_id)
    assert (found.state, found.wake_at, found.finished_at) == (State.CANCELLED, None, later(30))
    assert found.reason == swept.expired[0].reason == "Expired before an attempt could begin."
    assert not swept.wakeups


def test_an_expiry_is_carried_out_when_it_comes():
    """The sweeper looks at an entry when it expires, not when the next publish would be due."""
    entry_id = enqueue(expires_in=GRACE + 2)
    sweep(now=later(GRACE))
    assert row(entry_id).wake_at == later(GRACE + 2)
    assert [taken.id for taken in sweep(now=later(GRACE + 2)).expired] == [entry_id]


def test_an_expiry_does_not_stop_what_runs():
    """An attempt that began in time is not ended by the expiry."""
    held = entries.running(expires_in=3.0)
    assert sweep(now=later(4)).touched == 0
    assert entries.state(held) is State.RUNNING


def test_an_entry_rescued_after_its_expiry_expires():
    """A lost attempt whose entry has expired meanwhile is not followed by another."""
    held = entries.running(expires_in=3.0)
    sweep(now=later(entries.LEASE))
    sweep(now=later(entries.LEASE))
    assert entries.state(held) is State.CANCELLED


# --------------------------------------------------------------------------------------- cancel
def test_a_cancel_of_what_came_back_is_carried_out():
    """An entry that was asked to stop and came back to waiting is cancelled for that reason."""
    held = entries.running()
    ledger.cancel([held.entry], reason="wrong customer", now=later(1))
    ledger.release(held, why="shutdown", now=later(2))
    (taken,) = sweep(now=later(2)).cancelled
    assert (taken.id, taken.reason) == (held.entry, "wrong customer")
    found = row(held)
    assert (found.state, found.reason) == (State.CANCELLED, "wrong customer")
    assert (found.wake_at, found.finished_at) == (None, later(2))


# ----------------------------------------------------------------------------------- limit, next
def test_a_sweep_takes_the_most_overdue_first():
    """A sweep is bounded, and takes first what has waited longest."""
    waiting = [enqueue(delay=float(10 - n)) for n in range(10)]
    assert ids(sweep(now=later(60), limit=3).wakeups) == {str(each) for each in waiting[-3:]}
    assert ids(sweep(now=later(60), limit=100).wakeups) == {str(each) for each in waiting[:-3]}


def test_a_sweep_counts_each_entry_once():
    """What a sweep touched is the number of entries that it took, whatever became of them."""
    enqueue(delay=1.0), enqueue(), enqueue(expires_in=1.0)
    entries.running(), entries.running(crash_budget=1)
    assert sweep(now=later(entries.LEASE)).touched == 5
    assert sweep(now=later(entries.LEASE)).touched == 0


def test_a_sweep_costs_few_statements():
    """A pass over a hundred due entries costs a handful of statements, not one for each."""
    for n in range(100):
        enqueue(delay=1.0, expires_in=30.0 if n % 3 else None)
    with CaptureQueriesContext(connection) as captured:
        assert len(sweep(now=later(2)).wakeups) == 100
    assert len(captured) <= 7


def test_an_ended_entry_is_never_looked_at():
    """Whatever ended has no timer, and no sweep ever reads it again."""
    for state in ENDED:
        entries.in_state(state)
    assert not Entry.objects.filter(wake_at__isnull=False).exists()
    assert sweep(now=later(10**9)).touched == 0


def test_the_next_look_is_known():
    """The sweeper knows how long it may sleep, how far it is behind, or that nothing is due."""
    assert ledger.seconds_until_wake(now=T0) is None
    entries.in_state(State.SUCCEEDED)
    assert ledger.seconds_until_wake(now=T0) is None
    enqueue(delay=60.0)
    assert ledger.seconds_until_wake(now=T0) == 60.0
    enqueue(delay=7.5)
    assert ledger.seconds_until_wake(now=T0) == 7.5
    assert ledger.seconds_until_wake(now=later(10)) == -2.5


def test_the_next_look_is_told_by_the_databases_clock():
    """Without a fixed time the wait counts from the database's present."""
    enqueue(now=None, delay=60.0)
    assert 55.0 < ledger.seconds_until_wake() <= 60.0
