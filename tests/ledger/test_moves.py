"""The table of moves against the ledger itself: each verb, from each state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from reliable_tasks import ledger
from reliable_tasks.errors import Fenced
from reliable_tasks.ledger import Claim
from reliable_tasks.states import ENDED, MOVES, State
from tests import entries
from tests.entries import GRACE, LEASE, WORKER, later, new

pytestmark = pytest.mark.django_db

AT = later(1)


def by_token(act: Callable[[Claim], None]) -> Callable[[UUID], None]:
    """Do something as the attempt with the entry's current token."""

    def verb(entry_id: UUID) -> None:
        template = entries.running()
        held = replace(template, entry=entry_id, token=entries.row(entry_id).attempt)
        try:
            act(held)
        except Fenced:
            return

    return verb


def both(*verbs: Callable[[UUID], object]) -> Callable[[UUID], None]:
    """Do one thing in each of the ways in which it is done."""

    def act(entry_id: UUID) -> None:
        for verb in verbs:
            verb(entry_id)

    return act


def stop(held: Claim) -> None:
    ledger.cancel([held.entry], now=AT)
    ledger.stop(held, now=AT)


def expire(entry_id: UUID) -> None:
    entries.row(entry_id)
    type(entries.row(entry_id)).objects.filter(pk=entry_id).update(expires_at=AT)
    entries.sweep(now=later(600))


VERBS: dict[str, Callable[[UUID], object]] = {
    "claim": lambda entry_id: ledger.claim(entry_id, WORKER, lease=LEASE, now=AT),
    "succeed": by_token(lambda held: ledger.succeed(held, now=AT)),
    "reschedule": by_token(lambda held: entries.reschedule(held, now=AT)),
    "bury": by_token(lambda held: entries.bury(held, now=AT)),
    "discard": both(
        by_token(lambda held: ledger.discard(held, entries.FAILURE, reason="Not run.", now=AT)),
        lambda entry_id: ledger.discard_dead([entry_id], now=AT),
    ),
    "release": by_token(lambda held: ledger.release(held, why="x", now=AT)),
    "replace": by_token(lambda held: ledger.replace(held, new(), grace=GRACE, now=AT)),
    "rescue": lambda entry_id: entries.sweep(now=later(LEASE)),
    "cancel": lambda entry_id: ledger.cancel([entry_id], now=AT),
    "requeue": lambda entry_id: ledger.requeue([entry_id], now=AT),
}
# These come with a cancel or an expiry, which move by themselves what waits.
SPECIAL: dict[str, Callable[[UUID], object]] = {"stop": by_token(stop), "expire": expire}


def test_every_verb_of_the_table_is_tested():
    """The table of moves has no verb that the ledger lacks, and the other way round."""
    assert {move.verb for move in MOVES} == {*VERBS, *SPECIAL}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_moves_what_the_table_says(verb, state):
    """From each state a verb makes exactly the move of the table, or none at all."""
    (move,) = (move for move in MOVES if move.verb == verb)
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    VERBS[verb](entry_id)
    if state in move.before:
        assert entries.state(entry_id) in move.after
        assert entries.snapshot(entry_id) != before
    else:
        touched = {"cancel_requested_at", "reason"} if verb == "cancel" else set()
        after = entries.snapshot(entry_id)
        # A sweep publishes what waits; it does not change its state.
        touched |= {"publishes", "published_at", "wake_at"} if verb == "rescue" else set()
        assert {name for name in before if before[name] != after[name]} <= touched


@pytest.mark.parametrize("state", [State.PENDING, State.RETRYING])
def test_what_waits_expires(state):
    """An expiry ends what waits as cancelled."""
    entry_id = entries.in_state(state)
    SPECIAL["expire"](entry_id)
    assert entries.state(entry_id) is State.CANCELLED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_ended_neither_expires_nor_stops(state):
    """Neither an expiry nor an attempt's stop touches what has ended."""
    for verb in SPECIAL.values():
        entry_id = entries.in_state(state)
        verb(entry_id)
        assert entries.state(entry_id) is state


def test_what_runs_stops_when_asked():
    """An attempt that was asked to stop ends its entry as cancelled."""
    entry_id = entries.in_state(State.RUNNING)
    SPECIAL["stop"](entry_id)
    assert entries.state(entry_id) is State.CANCELLED


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("asked", [True, False])
def test_a_rescue_reaches_each_of_its_states(lost, asked):
    """A rescue leads to another attempt, to death at the budget, or to the cancel asked for."""
    entry_id = entries.enqueue(crash_budget=2)
    for n in range(lost):
        held = entries.claim(entry_id, now=later(20 * n))
        if asked and n == lost - 1:
            ledger.cancel([held.entry], now=later(20 * n))
        entries.sweep(now=later(20 * n + LEASE))
    expected = State.CANCELLED if asked else {1: State.RETRYING, 2: State.DEAD}[lost]
    assert entries.state(entry_id) is expected
