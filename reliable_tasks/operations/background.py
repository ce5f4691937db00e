"""Acts on more entries than a web request has patience for, carried out by a task of our own.

An operation is a row that says which entries, what and how far it has come. Each batch is one
transaction: the operation's row is locked, the next entries after its cursor are acted on, the
cursor moves. So a process that dies leaves a whole number of batches, and whoever takes over goes
on behind the last of them: each entry is touched once. What carries an operation is an ordinary
entry of a reliable task; after some seconds it enqueues its successor in the transaction that gives
the operation to it, so no entry is long and no crash budget is used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from celery import shared_task
from django.db import transaction
from django.db.models import Q
from django.utils import translation
from django.utils.dateparse import parse_datetime

from .. import ledger, overview
from ..ids import new_id
from ..models import Operation, OperatorAct
from ..oversight import Act
from ..task import ReliableTask
from .acting import Spread, cancel, discard, requeue
from .chosen import Chosen
from .keys import release_keys_of
from .matching import POSSIBLE, matching
from .recording import BATCH

#: Seconds after which the task that carries an operation hands it on.
TURN_SECONDS: Final = 5.0
#: Entries a second, at least and at most: one a day, and more than any database does.
SLOWEST: Final = 1 / 86_400
FASTEST: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation that has begun.

    Attributes:
        operation: its id.
        total: how many entries it is about.
    """

    operation: UUID
    total: int


def begin(
    verb: Act,
    chosen: Chosen,
    reason: str = "",
    *,
    by: str = "",
    params: Mapping[str, Any] | None = None,
    rate: float | None = None,
    as_of: datetime | None = None,
) -> Begun:
    """Begin an act on all entries that match, in the background.

    Args:
        verb: requeue, cancel, discard, or the release of keys.
        chosen: which entries.
        reason: why, in words; kept on each entry.
        by: who, in words.
        params: for a requeue: ``due_at`` (ISO 8601) or ``spread`` (seconds).
        rate: most entries a second; None for no limit.
        as_of: leave alone what changes after this time; now unless given.

    Returns:
        The operation's id, and how many entries it is about.

    Raises:
        ValueError: the act is none on entries, or the rate is out of bounds.
    """
    if verb not in POSSIBLE:
        raise ValueError(f"{verb} is no act on entries; use one of {', '.join(POSSIBLE)}.")
    check_rate(rate)
    at, kept, given = as_of or overview.now(), chosen.as_json(), dict(params or {})
    with transaction.atomic(using=ledger.ledger_connection().alias):
        total = matching(verb, chosen, at).count()
        details = {"chosen": kept, **given, "matching": total}
        with translation.override(None):  # a record is in one language, whoever makes it
            target = chosen.words()
        act = ledger.record(verb, by=by, reason=reason, target=target, details=details)
        operation = ledger.begin_operation(
            act, chosen=kept, params=given, total=total, rate=rate, as_of=at
        )
        hand_on(operation.pk, 0)
    return Begun(operation.pk, total)


def check_rate(rate: float | None) -> None:
    """Refuse a rate that would never end, or that is none.

    Raises:
        ValueError: it is not from ``SLOWEST`` to ``FASTEST``.
    """
    # A comparison with what is no number is false.
    if rate is not None and not SLOWEST <= rate <= FASTEST:
        raise ValueError(
            f"{rate:g} entries a second is out of bounds. The rate must be above zero: from one a "
            f"day ({SLOWEST:.6f}) to {FASTEST:,.0f}. To rest, pause the operation."
        )


# -- carrying it out ------------------------------------------------------------------------------


@shared_task(  # type: ignore[untyped-decorator]
    base=ReliableTask,
    bind=True,
    name="reliable_tasks.carry_out",
    max_retries=None,
    ignore_result=True,
)
def carry_out(self: ReliableTask, operation: str, turn: int) -> None:
    """Go on with an operation for some seconds, then hand it on."""
    go_on(UUID(operation), turn, self.raise_if_cancelled)


def go_on(operation: UUID, turn: int, between: Callable[[], None] = lambda: None) -> None:
    """Carry batches of an operation out until the turn is over, or the operation.

    Args:
        operation: its id.
        turn: the turn that the caller was given.
        between: called between two batches; may raise.
    """
    began = time.monotonic()
    handled = 0
    while True:
        step = _one_batch(operation, turn, handled)
        if step is None:
            return
        handled += step.handled
        between()
        elapsed = time.monotonic() - began
        paced = step.rate is not None and handled >= step.rate * TURN_SECONDS
        if paced or elapsed >= TURN_SECONDS:
            # What is too slow for a whole entry in a turn rests for longer than a turn.
            rest = 0.0 if step.rate is None else handled / step.rate - elapsed
            hand_on(operation, turn, countdown=max(0.0, rest))
            return


@dataclass(frozen=True, slots=True)
class _Step:
    handled: int
    rate: float | None


def _one_batch(pk: UUID, turn: int, handled: int) -> _Step | None:
    with transaction.atomic(using=ledger.ledger_connection().alias):
        operation = ledger.hold_operation(pk, turn)
        if operation is None:  # paused, stopped, over, or somebody else's by now
            return None
        size = BATCH
        if operation.rate is not None:
            left = operation.rate * TURN_SECONDS - handled
            size = int(max(1, min(BATCH, left)))
        verb = Act(operation.verb)
        rows = matching(verb, Chosen.from_json(operation.chosen), operation.as_of)
        after = Q() if operation.cursor is None else Q(pk__gt=operation.cursor)
        batch = list(rows.filter(after).order_by("pk").values_list("pk", flat=True)[:size])
        if not batch:
            ledger.end_operation(operation)
            return None
        done = _act(verb, operation, batch)
        ledger.advance_operation(operation, batch[-1], done=done, skipped=len(batch) - done)
        return _Step(len(batch), operation.rate)


def _act(verb: Act, operation: Operation, batch: list[UUID]) -> int:
    act: OperatorAct = operation.act
    shared: dict[str, Any] = {"by": act.by, "as_of": operation.as_of, "act": act}
    if verb is Act.CANCEL:
        done = cancel(batch, act.reason, **shared)
        return len(done.cancelled) + len(done.asked)
    if verb is Act.DISCARD:
        return len(discard(batch, act.reason, **shared).discarded)
    if verb is Act.RELEASE_KEY:
        return len(release_keys_of(batch, act.reason, **shared))
    due_at, spread = _when(operation)
    return len(requeue(batch, act.reason, due_at=due_at, spread=spread, **shared).requeued)


def _when(operation: Operation) -> tuple[datetime | None, Spread | None]:
    if seconds := operation.params.get("spread"):
        before = operation.done + operation.skipped
        return None, Spread(operation.started_at, float(seconds), operation.total, before)
    text = operation.params.get("due_at")
    return (parse_datetime(text) if text else None), None


def hand_on(operation: UUID, turn: int, countdown: float = 0.0) -> None:
    """Enqueue the entry that goes on with an operation, and give the operation to it.

    Args:
        operation: its id.
        turn: the turn that ends; nothing happens if it has ended already.
        countdown: seconds until the next one begins.
    """
    # In one transaction: the successor exists if and only if the operation is its.
    entry = new_id()
    with transaction.atomic(using=ledger.ledger_connection().alias):
        if ledger.pass_operation_on(operation, turn, entry):
            carry_out.apply_async(
                (str(operation), turn + 1), task_id=str(entry), countdown=countdown or None
            )
