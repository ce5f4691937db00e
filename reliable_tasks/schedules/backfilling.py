"""Backfill: fire the due times of a range that have not fired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.db import transaction
from django_celery_beat.models import PeriodicTask

from .. import operations, overview
from ..ledger import occurrences
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..models import Occurrence
from ..occurrence import Fate, Trigger
from ..oversight import Act
from .acting import ensure_state, on_record, plan_of, said_by, send_after_commit
from .firing import fire
from .reading import Schedule, read_one
from .spec import Interval, Plan
from .times import due_times

_INSTANT: Final = timedelta(microseconds=1)
_BATCH: Final = 100


@dataclass(slots=True)
class BackfillResult:
    """What became of the due times of a range.

    Attributes:
        fired: due times that were fired.
        already: due times that had fired before, and were left alone.
        refused: due times whose call the task refused, with the reason.
        more: the range holds more due times than the limit; the oldest were taken.
    """

    fired: list[datetime] = field(default_factory=list)
    already: list[datetime] = field(default_factory=list)
    refused: dict[datetime, str] = field(default_factory=dict)
    more: bool = False


def backfill(
    schedule: PeriodicTask,
    start: datetime,
    end: datetime,
    *,
    limit: int = 1000,
    reason: str = "",
    by: str = "",
    dry_run: bool = False,
) -> BackfillResult:
    """Fire the due times of a range that have not fired.

    A due time that was skipped or missed fires now and its occurrence says so; one that has fired
    stays as it is. The range is planned by the schedule's present definition. Overlap, pause and
    misfire grace have no effect; each run counts for ``max_runs``.

    Args:
        schedule: the schedule.
        start: first instant of the range, included.
        end: last instant of the range, included; not after now.
        limit: most due times to fire.
        reason: why, in words; kept on the occurrences.
        by: who, in words; kept with the reason.
        dry_run: only tell what would be done.

    Returns:
        Which due times fired, had fired, and were refused.

    Raises:
        ValueError: the range is empty, naive, or ends in the future.
    """
    now = overview.now()
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("The range needs time zones: pass aware datetimes.")
    if not start <= end <= now:
        raise ValueError(f"The range {start} to {end} is empty or ends in the future.")
    known = read_one(schedule.pk)
    plan = _since(plan_of(known, ensure_state(known, now)), start)
    dues = list(islice(due_times(plan, start - _INSTANT, end), limit + 1))
    result = BackfillResult(more=len(dues) > limit)
    span = {"from": start.isoformat(), "to": end.isoformat()}
    for begin in range(0, len(dues[:limit]), _BATCH):
        some = dues[begin : min(begin + _BATCH, limit)]
        with transaction.atomic(using=ledger_connection().alias):
            ledger.lock([known.id])
            rows = _backfill(known, some, now, said_by(reason, by), result, dry_run=dry_run)
            if rows:
                on_record(Act.BACKFILL, known.name, by=by, reason=reason, rows=rows, details=span)
    return result


def _backfill(
    known: Schedule,
    dues: Sequence[datetime],
    now: datetime,
    reason: str,
    result: BackfillResult,
    *,
    dry_run: bool,
) -> list[Occurrence]:
    """Fire some due times; return what came of each that was tried."""
    app = operations.celery_app()
    before = occurrences.recorded_between(known.id, dues[0], dues[-1])
    rows: list[Occurrence] = []
    tried: list[Occurrence] = []
    for due in dues:
        found = _covering(before, due)
        if found is not None and found.outcome == Fate.FIRED:
            result.already.append(due)
            continue
        if dry_run:
            result.fired.append(due)
            continue
        row = fire(app, known, due, now, trigger=Trigger.BACKFILL, reason=reason)
        tried.append(row)
        if row.outcome != Fate.FIRED:
            result.refused[due] = row.reason
            continue
        if found is None:
            occurrences.record([row])
        elif not occurrences.replace(found, row):
            raise ledger.LostRace("an occurrence was changed by somebody else")
        result.fired.append(due)
        rows.append(row)
    if rows:
        ledger.add_runs(known.id, len(rows))
        ledger.count_runs({known.id: len(rows)}, now, disabled_too=True)
    send_after_commit(rows, known)
    return tried


def _covering(before: Sequence[Occurrence], due: datetime) -> Occurrence | None:
    exact = next((each for each in before if each.due_at == due and each.count == 1), None)
    if exact is not None:
        return exact
    return next(
        (
            each
            for each in before
            if each.last_due_at is not None and each.due_at <= due <= each.last_due_at
        ),
        None,
    )


def _since(plan: Plan, start: datetime) -> Plan:
    # An interval that began to count later is counted backwards.
    spec = plan.spec
    if not isinstance(spec, Interval) or plan.start is not None or spec.first <= start:
        return plan
    steps = -((start - spec.first) // spec.every)
    return replace(plan, spec=replace(spec, first=spec.first - steps * spec.every))
