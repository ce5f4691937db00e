"""The record of what operators do, and the state of the operations that carry out large acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import F, QuerySet

from ..ids import new_id
from ..oversight import Act, Operation, OperatorAct, Steps, TouchedEntry
from .guard import explained, ledger_connection, moment_expression

_GOING: Final = (Steps.RUNNING, Steps.PAUSED)


def record(
    act: Act,
    *,
    by: str,
    reason: str,
    target: str,
    details: Mapping[str, Any] | None = None,
    done: int | None = None,
    skipped: int | None = None,
    now: datetime | None = None,
) -> OperatorAct:
    """Write down what a person does, in the transaction that does it.

    Args:
        act: what.
        by: who, in words.
        reason: why, in words.
        target: to what, in words.
        details: parameters, as JSON values.
        done: how many it touched; None if an operation counts them.
        skipped: how many it left alone.
        now: a fixed time instead of the database's clock, for tests.
    """
    with explained():
        return OperatorAct.objects.using(ledger_connection().alias).create(
            act=act,
            by=by[:255],
            reason=reason,
            target=target,
            details=dict(details) if details else None,
            done=done,
            skipped=skipped,
            at=moment_expression(0.0, now),
        )


def touch(act: UUID, entry_ids: Iterable[UUID], result: str) -> None:
    """Note which entries an act touched, in the transaction that touches them.

    Args:
        act: the act's id.
        entry_ids: the entries.
        result: what became of them, in a word.
    """
    TouchedEntry.objects.using(ledger_connection().alias).bulk_create(
        [TouchedEntry(act_id=act, entry_id=pk, result=result) for pk in entry_ids], batch_size=500
    )


def begin_operation(
    act: OperatorAct,
    *,
    chosen: Mapping[str, Any],
    params: Mapping[str, Any],
    total: int,
    rate: float | None,
    as_of: datetime,
    now: datetime | None = None,
) -> Operation:
    """Write an operation that is to be carried out.

    Args:
        act: the act that it carries out.
        chosen: which entries, as JSON.
        params: how, as JSON.
        total: how many there are.
        rate: most entries a second; None for no limit.
        as_of: entries that changed after this time are left alone.
        now: a fixed time instead of the database's clock, for tests.
    """
    at = moment_expression(0.0, now)
    fresh = new_id()
    _operations().create(
        id=fresh,
        act=act,
        verb=act.act,
        chosen=dict(chosen),
        params=dict(params),
        state=Steps.RUNNING,
        total=total,
        rate=rate,
        as_of=as_of,
        started_at=at,
        moved_at=at,
    )
    return _operations().get(pk=fresh)


def hold_operation(operation: UUID, turn: int) -> Operation | None:
    """Lock an operation for one batch, if it is still this turn's to go on.

    Args:
        operation: its id.
        turn: the turn that the caller was given.

    Returns:
        The operation; None if it was paused, stopped, has ended, or another turn has it.
    """
    rows = _operations().filter(pk=operation, turn=turn, state=Steps.RUNNING)
    with explained():
        return rows.select_for_update().first()


def advance_operation(
    operation: Operation, cursor: UUID, *, done: int, skipped: int, now: datetime | None = None
) -> None:
    """Note how far an operation has come, in the transaction that does the batch.

    Args:
        operation: as :func:`hold_operation` returned it.
        cursor: the last entry of the batch.
        done: entries touched by it.
        skipped: entries left alone by it.
        now: a fixed time instead of the database's clock, for tests.
    """
    _operations().filter(pk=operation.pk, turn=operation.turn, state=Steps.RUNNING).update(
        cursor=cursor,
        done=F("done") + done,
        skipped=F("skipped") + skipped,
        moved_at=moment_expression(0.0, now),
    )


def end_operation(operation: Operation, *, now: datetime | None = None) -> None:
    """End an operation that has come to the end of what was chosen.

    Args:
        operation: as :func:`hold_operation` returned it.
        now: a fixed time instead of the database's clock, for tests.
    """
    at = moment_expression(0.0, now)
    # What was counted at the start and not met any more had changed meanwhile.
    _operations().filter(pk=operation.pk, turn=operation.turn, state=Steps.RUNNING).update(
        state=Steps.DONE,
        skipped=max(operation.skipped, operation.total - operation.done),
        moved_at=at,
        ended_at=at,
    )


def pass_operation_on(operation: UUID, turn: int, entry: UUID) -> bool:
    """Give an operation to its next turn.

    Args:
        operation: its id.
        turn: the turn that ends.
        entry: the entry that carries the next one.

    Returns:
        False if it does not run, or another turn has it already.
    """
    rows = _operations().filter(pk=operation, turn=turn, state=Steps.RUNNING)
    return rows.update(turn=turn + 1, entry_id=entry) == 1


def steer_operation(
    operation: UUID,
    to: Steps,
    *,
    entry: UUID | None = None,
    turn: int | None = None,
    now: datetime | None = None,
) -> bool:
    """Pause, resume or stop an operation. Whichever turn has it ends with its current batch.

    Args:
        operation: its id.
        to: the state wanted.
        entry: for a resume, the entry that carries the next turn.
        turn: the turn that somebody saw; the operation is left alone if it has another one by now.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if it has ended, is paused already, or has another turn.
    """
    at = moment_expression(0.0, now)
    changes: dict[str, Any] = {"state": to, "turn": F("turn") + 1, "moved_at": at}
    if to == Steps.STOPPED:
        changes["ended_at"] = at
    if entry is not None:
        changes["entry_id"] = entry
    rows = _operations().filter(pk=operation, state__in=_GOING)
    if to == Steps.PAUSED:
        rows = rows.filter(state=Steps.RUNNING)
    if turn is not None:
        rows = rows.filter(turn=turn)
    return rows.update(**changes) == 1


def set_rate(operation: UUID, rate: float | None) -> bool:
    """Set how many entries a second an operation may touch.

    Args:
        operation: its id.
        rate: entries a second; None for no limit.

    Returns:
        False if it has ended.
    """
    return _operations().filter(pk=operation, state__in=_GOING).update(rate=rate) == 1


def _operations() -> QuerySet[Operation]:
    return Operation.objects.using(ledger_connection().alias)
