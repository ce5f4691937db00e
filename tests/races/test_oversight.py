"""Operations against each other, and against people, on two connections."""

from __future__ import annotations

import pytest
from django.db import transaction

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.models import Operation, OperatorAct, TouchedEntry
from reliable_tasks.oversight import Act, Kind, Steps
from reliable_tasks.states import State
from tests.entries import T0, enqueue, in_state, later, state
from tests.races.acts import requeue


@pytest.fixture
def operation(transactional_db):
    """Give the test an operation whose turn is 1."""
    act = ledger.record(Act.REQUEUE, by="ann", reason="Again.", target="all", now=T0)
    made = ledger.begin_operation(act, chosen={}, params={}, total=9, rate=None, as_of=T0, now=T0)
    assert ledger.pass_operation_on(made.pk, 0, new_id())
    return Operation.objects.get(pk=made.pk)


def discard(entry_id):
    return lambda: ledger.discard_dead([entry_id], now=T0)


def pass_on(operation):
    return lambda: ledger.pass_operation_on(operation.pk, 1, new_id())


def steer(operation, to):
    return lambda: ledger.steer_operation(operation.pk, to, now=T0)


def advance(operation):
    return lambda: ledger.advance_operation(operation, new_id(), done=3, skipped=0, now=T0)


def end(operation):
    return lambda: ledger.end_operation(operation, now=T0)


def set_rate(operation):
    return lambda: ledger.set_rate(operation.pk, 5.0)


def forget():
    return ledger.forget_ended(now=later(2))


def record():
    return ledger.record(Act.CANCEL, by="ann", reason="x", target="y", now=T0).pk


def test_a_discard_against_a_requeue(race):
    """Of a discard and a requeue of one dead entry the second finds it no longer dead."""
    entry_id = in_state(State.DEAD)
    assert race.overlap(requeue(entry_id), discard(entry_id)) == ([entry_id], [])
    assert state(entry_id) is State.PENDING
    other = in_state(State.DEAD)
    assert race.overlap(discard(other), discard(other)) == ([other], [])


def test_only_one_turn_passes_an_operation_on(race, operation):
    """Of two processes that end the same turn, one has a successor."""
    assert race.overlap(pass_on(operation), pass_on(operation)) == (True, False)


def test_a_pause_between_two_batches(race, operation):
    """A pause that comes while a turn is passed on is not lost: nobody holds the operation then."""
    race.overlap(pass_on(operation), steer(operation, Steps.PAUSED))
    now = Operation.objects.get(pk=operation.pk)
    assert now.state == "paused"
    with transaction.atomic():
        assert ledger.hold_operation(operation.pk, now.turn) is None


def test_a_stop_against_a_stop(race, operation):
    """Of two people who stop one operation, one does, and nothing changes it afterwards."""
    stop = steer(operation, Steps.STOPPED)
    assert race.overlap(stop, stop) == (True, False)
    again = race.together(set_rate(operation), steer(operation, Steps.RUNNING))
    assert again == [False, False]


def test_a_batch_of_a_turn_that_is_over_counts_nothing(race, operation):
    """A batch or an end that waited for somebody's stop moves neither cursor nor count."""
    race.overlap(steer(operation, Steps.STOPPED), advance(operation))
    race.together(advance(operation), end(operation))
    now = Operation.objects.get(pk=operation.pk)
    assert (now.state, now.done, now.cursor) == ("stopped", 0, None)


def test_acts_are_recorded_side_by_side(race):
    """Records of several people at once are all kept."""

    def begin():
        act = ledger.record(Act.REQUEUE, by="bob", reason="x", target="z", now=T0)
        return ledger.begin_operation(
            act, chosen={}, params={}, total=0, rate=None, as_of=T0, now=T0
        ).pk

    assert len(set(race.together(record, record, begin))) == 3
    assert OperatorAct.objects.count() == 3


def test_an_act_touches_an_entry_once(race):
    """The database itself refuses that one act touches an entry twice."""
    act, entry_id = record(), enqueue()
    answers = race.together(*[lambda: ledger.touch(act, [entry_id], "cancelled")] * 2)
    assert TouchedEntry.objects.count() == 1
    assert sum(isinstance(answer, Exception) for answer in answers) == 1


def test_two_sweepers_forget_one_pause(race):
    """A pause whose end has come is taken away by one of two sweepers."""
    ledger.pause(Kind.QUEUE, "mail", ends_at=later(1), now=T0)
    assert sorted(race.together(forget, forget)) == [0, 1]
