"""What is written of due times: the call and the occurrence of one that fires, and the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from celery import Celery
from django.db import DatabaseError, IntegrityError, transaction

from .. import options
from ..gathering import Gathering
from ..ids import new_id
from ..ledger import occurrences
from ..ledger.guard import ledger_connection
from ..models import Occurrence
from ..occurrence import Cause, Fate, Trigger
from ..task import ReliableTask
from .deciding import Verdict
from .reading import Schedule

logger = logging.getLogger("reliable_tasks.beat")

#: How long a message of a plain Celery task is left to the beat that fired it.
SEND_SECONDS: Final = 10.0
# A stretch of due times that did not fire is one row but for its newest ones.
_OWN_ROWS: Final = 100


def fire(
    app: Celery,
    schedule: Schedule,
    due: datetime,
    now: datetime,
    *,
    trigger: Trigger = Trigger.TICK,
    reason: str = "",
    gathering: Gathering | None = None,
) -> Occurrence:
    """Enqueue a schedule's call in the caller's transaction.

    Args:
        app: the Celery app that has the tasks.
        schedule: the schedule.
        due: the due time.
        now: the present.
        trigger: what makes it run.
        reason: why, in words.
        gathering: takes the call if it can, to be written with others; None to write it now.

    Returns:
        The occurrence, not written yet. Its outcome is missed if the task refused the call. If its
        ``send_at`` is set, the message of a plain Celery task is to be sent after the commit.
    """
    row = Occurrence(
        schedule_id=schedule.id,
        due_at=due,
        trigger=trigger,
        outcome=Fate.FIRED,
        reason=reason,
        handled_at=now,
    )
    task = app.tasks.get(schedule.task)
    if not isinstance(task, ReliableTask):
        row.reliable = False
        row.entry_id = new_id()
        row.send_at = now + timedelta(seconds=SEND_SECONDS)
        return row
    try:
        row.entry_id = _enqueue(task, schedule, gathering)
    except DatabaseError:
        raise
    except Exception as error:  # whatever a task can say against a call
        if ledger_connection().needs_rollback:
            raise IntegrityError(f"{schedule.task} refused the call: {error}") from error
        row.outcome, row.cause = Fate.MISSED, Cause.REFUSED
        row.reason = f"{type(error).__name__}: {error}"
        logger.error("%s could not call %s: %s", schedule.name, schedule.task, row.reason)
    return row


def _enqueue(task: ReliableTask, schedule: Schedule, gathering: Gathering | None) -> UUID:
    entry, args, kwargs = new_id(), schedule.args, schedule.kwargs
    # A task with an apply_async of its own is called by it.
    alike = type(task).apply_async is ReliableTask.apply_async
    if alike and gathering and gathering.add(task, entry, args, kwargs, schedule.options):
        return entry
    # A savepoint would cost two statements for each entry. Our own call needs none: one that is
    # refused is refused before its statement. Another may enqueue first, and then raise.
    alias = ledger_connection().alias
    with nullcontext() if alike else transaction.atomic(using=alias):
        result = task.apply_async(args, kwargs, task_id=entry, **schedule.options)
    return entry if result is None else options.entry_id(result.id)


def stretches(schedule: int, verdicts: Sequence[Verdict], now: datetime) -> list[Occurrence]:
    """Return the occurrences of due times that did not fire, long stretches of them as one row."""
    rows: list[Occurrence] = []
    if len(verdicts) > _OWN_ROWS:
        # A row for many would not be refused for one that a backfill has fired meanwhile.
        dues = [each.due for each in verdicts]
        known = occurrences.dues_between(schedule, min(dues), max(dues))
        verdicts = [each for each in verdicts if each.due not in known]
    same: Callable[[Verdict], Any] = lambda each: (each.fate, each.cause, each.reason)  # noqa: E731
    for (fate, cause, reason), some in groupby(verdicts, same):
        if fate is Fate.FIRED:
            continue
        dues = [each.due for each in some]
        long = dues[:-_OWN_ROWS]
        parts = [long] if len(long) > 1 else []
        parts += [[due] for due in (dues[len(long) :] if parts else dues)]
        rows += [
            Occurrence(
                schedule_id=schedule,
                due_at=part[0],
                last_due_at=part[-1] if len(part) > 1 else None,
                count=len(part),
                outcome=fate,
                cause=cause or "",
                reason=reason,
                handled_at=now,
            )
            for part in parts
        ]
    return rows
