"""The transition table: the whole life of an entry on one screen."""

from __future__ import annotations

from itertools import product

import pytest

from reliable_tasks.states import (
    ACTIVE,
    ENDED,
    MOVES,
    REQUEUEABLE,
    WAITING,
    Outcome,
    State,
    legal,
)

LEGAL = {
    State.PENDING: {State.RUNNING, State.CANCELLED},
    State.RETRYING: {State.RUNNING, State.CANCELLED},
    State.RUNNING: set(State) - {State.RUNNING},
    State.SUCCEEDED: set(),
    State.DEAD: {State.PENDING, State.CANCELLED},
    State.CANCELLED: {State.PENDING},
}


def test_each_state_waits_runs_or_has_ended():
    """Every state is in exactly one of waiting, running and ended."""
    assert WAITING | {State.RUNNING} == ACTIVE
    assert set(State) == ACTIVE | ENDED
    assert not ACTIVE & ENDED
    assert not WAITING & {State.RUNNING}


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_the_documented_moves_are_legal(before, after):
    """A state leads to the states that the design names, and to no other."""
    assert legal(before, after) == (after in LEGAL[before])


def test_success_is_final():
    """No verb touches an entry that has succeeded."""
    assert not [move for move in MOVES if State.SUCCEEDED in move.before]


def test_an_end_is_left_by_requeue_alone():
    """Only a person's requeue brings an ended entry back, and only a dead or cancelled one."""
    back = {move.verb for move in MOVES if move.before & ENDED and not move.after <= ENDED}
    assert back == {"requeue"}
    assert {move.verb for move in MOVES if move.before & ENDED} == {"requeue", "discard"}
    assert ENDED - {State.SUCCEEDED} == REQUEUEABLE


def test_every_state_can_be_reached_and_every_active_one_left():
    """From pending every state can be reached, and no entry that has not ended is stuck."""
    reached = {State.PENDING}
    for _ in State:
        reached |= {after for before in reached for after in LEGAL[before]}
    assert reached == set(State)
    assert all(LEGAL[state] & ENDED or LEGAL[state] & {State.RUNNING} for state in ACTIVE)


def test_only_claim_leads_to_running():
    """There is one way to begin an attempt."""
    assert {move.verb for move in MOVES if State.RUNNING in move.after} == {"claim"}


def test_verbs_are_told_apart():
    """Each verb stands in the table once and says whose right it is."""
    assert len({move.verb for move in MOVES}) == len(MOVES)
    assert all(move.by for move in MOVES)


def test_words_fit_their_columns():
    """States and outcomes are plain words that fit the columns which keep them."""
    assert all(word.isalpha() and len(word) <= 16 for word in (*State, *Outcome))
