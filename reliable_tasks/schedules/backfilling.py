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
        unknown: due times that may have fired, because what became of them has been pruned; they
            were left alone.
        refused: due times whose call the task refused, with the reason.
        more: the range holds more to fire than the limit; the oldest were taken.
    """

    fired: list[datetime] = field(default_factory=list)
    already: list[datetime] = field(default_factory=list)
    unknown: list[datetime] = field(default_factory=list)
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
    unknown_too: bool = False,
    dry_run: bool = False,
) -> BackfillResult:
    """Fire the due times of a range that have not fired.

    A due time that was skipped or missed fires now and its occurrence says so; one that has fired
    stays as it is. So does one that may have fired, because occurrences that old have been pruned,
    unless ``unknown_too`` is given. The range is planned by the schedule's present definition.
    Overlap, pause and misfire grace have no effect; each run counts for ``max_runs``.

    Args:
        schedule: the schedule.
        start: first instant of the range, included.
        end: last instant of the range, included; not after now.
        limit: most due times to fire.
        reason: why, in words; kept on the occurrences.
        by: who, in words; kept with the reason.
        unknown_too: fire also what may have fired before its occurrence was pruned.
        dry_run: only tell what would be done.

    Returns:
        Which due times fired, had or may have fired, and were refused.

    Raises:
        ValueError: the range is empty, naive, or ends in the future.
    """
    now = overview.now()
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("The range needs time zones: pass aware datetimes.")
    if not start <= end <= now:
        raise ValueError(f"The range {start} to {end} is empty or ends in the future.")
    known = read_one(schedule.pk)
    progress = ensure_state(known, now)
    plan = _since(plan_of(known, progress), start)
    dues = due_times(plan, start - _INSTANT, end)
    span = {"from": start.isoformat(), "to": end.isoformat()}
    filling = _Filling(known, now, said_by(reason, by), limit, unknown_too, dry_run)
    while not filling.result.more and (some := list(islice(dues, _BATCH))):
        with transaction.atomic(using=ledger_connection().alias):
            if tried := filling.fill(some):
                on_record(Act.BACKFILL, known.name, by=by, reason=reason, rows=tried, details=span)
    return filling.result


class _Filling:
    """A backfill that is under way."""

    def __init__(
        self,
        known: Schedule,
        now: datetime,
        reason: str,
        limit: int,
        unknown_too: bool,
        dry_run: bool,
    ) -> None:
        self.result = BackfillResult()
        self._known, self._now, self._reason = known, now, reason
        self._left = limit
        self._unknown_too, self._dry_run = unknown_too, dry_run
        self._app = operations.celery_app()

    def fill(self, dues: Sequence[datetime]) -> list[Occurrence]:
        """Fire those of some due times that have not fired, in the caller's transaction.

        Returns:
            What came of each that was tried.
        """
        known = self._known
        pruned_until = ledger.lock([known.id])[known.id].pruned_until
        before = occurrences.recorded_between(known.id, dues[0], dues[-1])
        tried: list[Occurrence] = []
        for due in dues:
            found = _covering(before, due)
            if found is not None and found.outcome == Fate.FIRED:
                self.result.already.append(due)
            elif self._is_unknown(found, due, pruned_until):
                self.result.unknown.append(due)
            elif not self._left:
                self.result.more = True
                break
            else:
                self._left -= 1
                tried += self._fire(found, due)
        rows = [row for row in tried if row.outcome == Fate.FIRED]
        if rows:
            ledger.add_runs(known.id, len(rows), self._now)
        send_after_commit(rows, known)
        return tried

    def _is_unknown(
        self, found: Occurrence | None, due: datetime, pruned_until: datetime | None
    ) -> bool:
        pruned = found is None and pruned_until is not None and due <= pruned_until
        return pruned and not self._unknown_too

    def _fire(self, found: Occurrence | None, due: datetime) -> list[Occurrence]:
        known, result = self._known, self.result
        if self._dry_run:
            result.fired.append(due)
            return []
        row = fire(self._app, known, due, self._now, trigger=Trigger.BACKFILL, reason=self._reason)
        if row.outcome != Fate.FIRED:
            result.refused[due] = row.reason
            return [row]
        if found is None:
            occurrences.record([row])
        elif not occurrences.replace(found, row):
            raise ledger.LostRace("an occurrence was changed by somebody else")
        result.fired.append(due)
        return [row]


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
