"""One id from two connections."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests.entries import (
    GRACE,
    T0,
    new,
    row,
    state,
)
from tests.races.acts import claim


def write(entry_id, args):
    return lambda: ledger.enqueue(new(id=entry_id, args=args), grace=GRACE, now=T0)


def write_many(ids, args):
    return lambda: ledger.enqueue_many([new(id=each, args=args) for each in ids], grace=GRACE)


def write_alike(ids, args):
    calls = [(each, args, "{}") for each in ids]
    return lambda: ledger.enqueue_alike(new(), calls, grace=GRACE)


def test_one_id_from_two_connections(race):
    """Of two calls with the same id the first is the entry; the second waits and is told."""
    entry_id = new_id()
    assert race.overlap(write(entry_id, "[1]"), write(entry_id, "[2]")) == (True, False)
    assert row(entry_id).args == [1]


def test_one_id_after_a_rollback(race):
    """A call that waited for one which rolled back is the entry."""
    entry_id = new_id()
    answers = race.overlap(write(entry_id, "[1]"), write(entry_id, "[2]"), commit=False)
    assert answers == (True, True)
    assert row(entry_id).args == [2]


def test_a_herd_of_one_id(race):
    """However many write the same id at once, one entry comes of it and one of them is told so."""
    entry_id = new_id()
    answers = race.together(*[write(entry_id, f"[{n}]") for n in range(4)])
    assert sorted(answers) == [False, False, False, True]
    assert row(entry_id).args == [answers.index(True)]


@pytest.mark.parametrize("several", [write_many, write_alike])
@pytest.mark.parametrize("commit", [True, False])
def test_several_ids_from_two_connections(race, several, commit):
    """Of two calls that share ids, each shared id is the first one's entry unless that rolls back.

    The second waits, and writes what the first has not written.
    """
    ids = [new_id() for _ in range(3)]
    _, answer = race.overlap(several(ids[:2], "[1]"), several(ids[1:], "[2]"), commit=commit)
    assert answer is None
    written = dict(Entry.objects.values_list("pk", "args"))
    expected = {ids[0]: [1], ids[1]: [1], ids[2]: [2]} if commit else {ids[1]: [2], ids[2]: [2]}
    assert written == expected


def test_a_claim_does_not_see_what_is_not_committed(race):
    """A message that overtakes the commit of its entry claims nothing."""
    entry_id = new_id()
    answers = race.overlap(write(entry_id, "[1]"), claim(entry_id), waits=False)
    if answers[1] is None:  # it had not to wait for the commit
        assert state(entry_id) is State.PENDING
    else:
        assert answers[1].token == 1
