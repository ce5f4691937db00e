"""Who claims, cancels, expires or publishes one waiting entry first."""

from __future__ import annotations

from reliable_tasks.states import State
from tests.entries import (
    GRACE,
    LEASE,
    OTHER_WORKER,
    T0,
    WORKER,
    enqueue,
    later,
    row,
    state,
)
from tests.races.acts import cancel, claim, sweep


def test_two_claims_of_one_entry(race):
    """Of two claims that meet, the first has the entry and the second gets nothing."""
    entry_id = enqueue()
    first, second = race.overlap(claim(entry_id), claim(entry_id, OTHER_WORKER))
    assert (first.token, second) == (1, None)
    assert (row(entry_id).attempt, row(entry_id).worker) == (1, WORKER)


def test_a_claim_after_one_that_rolled_back(race):
    """A claim that waited for one which came to nothing has the entry."""
    entry_id = enqueue()
    _, second = race.overlap(claim(entry_id), claim(entry_id, OTHER_WORKER), commit=False)
    assert second.token == 1
    assert (row(entry_id).worker, row(entry_id).crashes) == (OTHER_WORKER, 1)


def test_a_herd_of_claims(race):
    """Of many claims at the same time exactly one has the entry, each time."""
    for _ in range(10):
        entry_id = enqueue()
        answers = race.together(*[claim(entry_id, f"w{n}") for n in range(4)])
        (won,) = [answer for answer in answers if answer is not None]
        assert (row(entry_id).attempt, row(entry_id).worker) == (1, won.worker)


def test_a_claim_against_a_cancel(race):
    """An entry that is claimed first is only asked to stop."""
    entry_id = enqueue()
    held, result = race.overlap(claim(entry_id), cancel(entry_id))
    assert (held.token, result.asked, result.cancelled) == (1, [entry_id], [])
    assert state(entry_id) is State.RUNNING


def test_a_cancel_against_a_claim(race):
    """An entry that is cancelled first is not claimed."""
    entry_id = enqueue()
    result, held = race.overlap(cancel(entry_id), claim(entry_id))
    assert (result.cancelled, held) == ([entry_id], None)
    assert state(entry_id) is State.CANCELLED


def test_a_claim_against_an_expiry(race):
    """An entry that is claimed in time is not expired by a sweeper that saw it waiting."""
    entry_id = enqueue(expires_in=3.0)
    held, swept = race.overlap(claim(entry_id), sweep(now=later(GRACE)), waits=False)
    assert (held.token, swept.expired) == (1, [])
    assert state(entry_id) is State.RUNNING


def test_an_expiry_against_a_claim(race):
    """An entry that a sweeper expires is not claimed, even by a worker with a slow clock."""
    entry_id = enqueue(expires_in=3.0)
    swept, held = race.overlap(sweep(now=later(GRACE)), claim(entry_id, now=T0))
    assert ([taken.id for taken in swept.expired], held) == ([entry_id], None)
    assert state(entry_id) is State.CANCELLED


def test_a_publish_against_a_claim(race):
    """A sweeper that publishes an entry neither stops nor disturbs its claim."""
    entry_id = enqueue(delay=1.0)
    swept, held = race.overlap(sweep(now=later(1)), claim(entry_id, now=later(1)))
    assert (len(swept.wakeups), held.token) == (1, 1)
    assert row(entry_id).wake_at == later(1 + LEASE)


def test_a_claim_against_a_publish(race):
    """A sweeper leaves an entry alone that is being claimed."""
    entry_id = enqueue(delay=1.0)
    _, swept = race.overlap(claim(entry_id, now=later(1)), sweep(now=later(1)), waits=False)
    assert swept.touched == 0
    assert (state(entry_id), row(entry_id).wake_at) == (State.RUNNING, later(1 + LEASE))
