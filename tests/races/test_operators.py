"""People, and prune, at the same entries at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reliable_tasks import ledger
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import State
from tests import entries
from tests.entries import (
    T0,
    bury,
    enqueue,
    in_state,
    later,
    row,
    state,
)
from tests.races.acts import cancel, claim, prune, requeue


def test_two_requeues(race):
    """Of two requeues of one dead entry, the second does nothing and says so."""
    entry_id = in_state(State.DEAD)
    assert race.overlap(requeue(entry_id), requeue(entry_id)) == ([entry_id], [])


def test_a_requeue_against_a_claim_of_what_it_brings_back(race):
    """A claim that waits for a requeue gets the entry with its budgets restored."""
    entry_id = in_state(State.DEAD)
    _, held = race.overlap(requeue(entry_id), claim(entry_id), waits=False)
    if held is None:  # it had not to wait, and found the entry still dead
        held = claim(entry_id)()
    assert (held.token, held.crashes, held.retries) == (2, 1, 0)


def test_a_prune_against_a_requeue(race):
    """A requeue that waits for a prune finds nothing left, and says so."""
    entry_id = in_state(State.DEAD)
    deleted, back = race.overlap(prune(State.DEAD), requeue(entry_id))
    assert (deleted, back) == (1, [])
    assert not Entry.objects.exists()
    assert not Attempt.objects.exists()


def test_a_requeue_against_a_prune(race):
    """An entry that is being requeued is not pruned, and keeps its attempts."""
    entry_id = in_state(State.DEAD)
    back, deleted = race.overlap(requeue(entry_id), prune(State.DEAD), waits=False)
    assert (back, deleted) == ([entry_id], 0)
    assert state(entry_id) is State.PENDING
    assert Attempt.objects.count() == 1


def test_two_prunes(race):
    """Two prunes at the same time delete each entry once, without waiting for each other."""
    for _ in range(6):
        in_state(State.CANCELLED)
    here, there = race.overlap(
        lambda: ledger.prune(State.CANCELLED, timedelta(0), batch=4, now=later(1)),
        prune(State.CANCELLED),
        waits=False,
    )
    assert (here, there) == (4, 2)
    assert not Entry.objects.exists()


def test_two_cancels(race):
    """Of two cancels of one entry, the second skips it and its reason is not kept."""
    entry_id = enqueue()
    first, second = race.overlap(
        cancel(entry_id), lambda: ledger.cancel([entry_id], reason="second", now=T0)
    )
    assert (first.cancelled, second.skipped) == ([entry_id], [entry_id])
    assert row(entry_id).reason == "race"


def test_a_cancel_against_a_requeue_of_what_somebody_saw_waiting(race):
    """What was cancelled and requeued meanwhile, which keeps its number, is left alone."""
    entry_id = enqueue()
    seen = ledger.marks_of(Entry.objects.all())

    def elsewhere():
        ledger.cancel([entry_id], now=later(1))
        return ledger.requeue([entry_id], now=later(2))

    back, done = race.overlap(elsewhere, lambda: ledger.cancel([entry_id], seen=seen, now=later(3)))
    assert (back, done.cancelled, done.skipped) == ([entry_id], [], [entry_id])
    assert (state(entry_id), row(entry_id).attempt) == (State.PENDING, 0)


@pytest.mark.parametrize("act", [ledger.requeue, ledger.discard_dead])
def test_an_act_against_the_next_death_of_what_somebody_saw_dead(race, act):
    """An entry that was requeued and died again meanwhile is not the one that somebody saw."""
    entry_id = in_state(State.DEAD)
    seen = ledger.marks_of(Entry.objects.all())

    def elsewhere():
        ledger.requeue([entry_id], now=later(1))
        bury(entries.claim(entry_id, now=later(2)), now=later(3))

    _, done = race.overlap(elsewhere, lambda: act([entry_id], seen=seen, now=later(4)))
    assert done == []
    assert (state(entry_id), row(entry_id).attempt) == (State.DEAD, 2)


def test_cancels_of_overlapping_selections_do_not_deadlock(race):
    """People who cancel the same entries in different orders wait for each other and go on."""
    chosen = [enqueue() for _ in range(20)]
    answers = race.together(
        lambda: ledger.cancel(chosen, now=T0),
        lambda: ledger.cancel(chosen[::-1], now=T0),
        lambda: ledger.requeue(chosen[::2] + chosen[1::2], now=T0),
    )
    assert not [answer for answer in answers if isinstance(answer, Exception)]
