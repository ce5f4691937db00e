"""The reins of operations: pause, resume, stop, and their rate."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from .. import ledger, overview
from ..models import Entry, Operation
from ..oversight import Act, Steps
from ..states import ACTIVE, WAITING
from .background import check_rate, hand_on


def pause_operation(operation: UUID, *, reason: str = "", by: str = "") -> bool:
    """Let an operation rest after its current batch.

    Args:
        operation: the operation's id.
        reason: why, in words.
        by: who, in words.

    Returns:
        False if it has ended, or rests already.
    """
    return _steer(operation, Steps.PAUSED, reason, by)


def stop_operation(operation: UUID, *, reason: str = "", by: str = "") -> bool:
    """End an operation after its current batch. What it has done stays done.

    Args:
        operation: the operation's id.
        reason: why, in words.
        by: who, in words.

    Returns:
        False if it has ended.
    """
    return _steer(operation, Steps.STOPPED, reason, by)


def resume_operation(
    operation: UUID, *, reason: str = "", by: str = "", turn: int | None = None
) -> bool:
    """Let an operation go on: one that was paused, or whose task has died.

    Args:
        operation: the operation's id.
        reason: why, in words.
        by: who, in words.
        turn: the turn that somebody saw it in; each pause begins another one.

    Returns:
        False if it has ended, or has another turn by now.
    """
    return _steer(operation, Steps.RUNNING, reason, by, turn)


def set_rate(operation: UUID, rate: float | None, *, reason: str = "", by: str = "") -> bool:
    """Set how many entries a second an operation may touch, from now on.

    A rest that the old rate asked for ends.

    Args:
        operation: its id.
        rate: entries a second; None for no limit.
        reason: why, in words.
        by: who, in words.

    Returns:
        False if it has ended.

    Raises:
        ValueError: the rate is out of bounds; see :func:`check_rate`.
    """
    check_rate(rate)
    with transaction.atomic(using=ledger.ledger_connection().alias):
        done = ledger.set_rate(operation, rate)
        if done:
            words = "no limit" if rate is None else f"{rate:g} entries a second"
            target = f"rate of operation {operation}: {words}"
            ledger.record(Act.STEER, by=by, reason=reason, target=target)
            found = _row(operation)
            carried_by = carrier(found)
            if carried_by is not None and carried_by.state in WAITING:
                hand_on(operation, found.turn)
    return done


def stalled(operation: Operation) -> bool:
    """Tell whether nothing carries an operation that should go on: its entry has ended.

    Args:
        operation: the operation, as it was read.
    """
    if operation.state != Steps.RUNNING:
        return False
    found = carrier(operation)
    return found is None or found.state not in ACTIVE


def carrier(operation: Operation) -> Entry | None:
    """Return the entry that carries an operation, or did last.

    Args:
        operation: the operation, as it was read.
    """
    if operation.entry_id is None:
        return None
    return overview.entries().filter(pk=operation.entry_id).first()


def _steer(operation: UUID, to: Steps, reason: str, by: str, turn: int | None = None) -> bool:
    with transaction.atomic(using=ledger.ledger_connection().alias):
        if not ledger.steer_operation(operation, to, turn=turn):
            return False
        words = {Steps.PAUSED: "pause", Steps.STOPPED: "stop", Steps.RUNNING: "resume"}[to]
        ledger.record(Act.STEER, by=by, reason=reason, target=f"{words} operation {operation}")
        if to == Steps.RUNNING:
            hand_on(operation, _row(operation).turn)
    return True


def _row(operation: UUID) -> Operation:
    return Operation.objects.using(ledger.ledger_connection().alias).get(pk=operation)
