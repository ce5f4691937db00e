"""From due times to occurrences and entries: the one place where a beat fires.

Note [Exactly once]: the occurrence, its entry and the schedule's progress are written in one
transaction, which holds the lock of the schedule's state. Whoever comes second finds that the due
time is accounted for. If a lock should not hold, as on databases without one, the guarded write of
the progress and the unique constraint of the occurrence refuse the second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from celery import Celery
from django.db import DatabaseError, InterfaceError

from .. import operations, outage
from ..errors import LedgerNotReady
from ..gathering import Gathering
from ..ledger import occurrences, schedules
from ..ledger.guard import ledger_connection, short_transaction
from ..ledger.schedules import Advance, LostRace, Progress
from ..models import Occurrence
from ..occurrence import Fate, Overlap
from . import deciding
from .deciding import Settlement, Situation
from .firing import fire, stretches
from .reading import Schedule

logger = logging.getLogger("reliable_tasks.beat")

# How long one transaction decides before it writes. The database ends one that is silent for long.
_DECIDING: Final = 2.0


@dataclass(slots=True)
class Settled:
    """What a settlement came to.

    Attributes:
        progress: for each schedule that is there and enabled, how far it has come.
        buffered: schedules with a due time that waits.
        more: schedules that have more to settle at once.
        finished: schedules that have no runs left, and are disabled now.
        ran: schedules that fired.
        fired: how many occurrences fired.
        to_send: those of them whose message is to be sent: plain Celery tasks.
        elsewhere: schedules whose row says another last run than a beat of ours left, and which.
        errors: schedules that cannot be settled, and why.
    """

    progress: dict[int, datetime] = field(default_factory=dict)
    buffered: set[int] = field(default_factory=set)
    more: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    ran: set[int] = field(default_factory=set)
    fired: int = 0
    to_send: list[Occurrence] = field(default_factory=list)
    elsewhere: dict[int, datetime] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)

    def add(self, other: Settled) -> None:
        """Take over what another settlement came to."""
        self.progress.update(other.progress)
        self.buffered |= other.buffered
        self.more |= other.more
        self.finished |= other.finished
        self.ran |= other.ran
        self.fired += other.fired
        self.to_send += other.to_send
        self.elsewhere.update(other.elsewhere)
        self.errors.update(other.errors)


def settle(
    app: Celery, chosen: Sequence[Schedule], now: datetime, *, until: datetime | None = None
) -> Settled:
    """Bring schedules up to the present: each due time gets its occurrence, and its entry.

    All of them share a transaction, and the statements in it. If that fails, for whatever reason,
    each gets one of its own, so that one schedule cannot hold up the others. Nor can somebody who
    holds a row of one locked: such a schedule is an error, to be tried again.

    Args:
        app: the Celery app that has the tasks.
        chosen: the schedules.
        now: the present.
        until: the due times up to this one, without a delay; None for those that fire by now.

    Raises:
        OperationalError, InterfaceError, LedgerNotReady: the database is out of reach, or has no
            such tables.
    """
    try:
        return _together(app, chosen, now, until)
    except Exception as error:
        if out_of_reach(error):
            raise
        logger.info("%d schedules are settled one by one: %r", len(chosen), error)
    settled = Settled()
    for schedule in chosen:
        settled.add(_alone(app, schedule, now, until))
    return settled


def _alone(app: Celery, schedule: Schedule, now: datetime, until: datetime | None) -> Settled:
    try:
        return _together(app, [schedule], now, until, careful=True)
    except LostRace as error:
        logger.info("%s is left for the next tick: %s.", schedule.name, error)
    except Exception as error:  # whatever one schedule can do wrong; the others must go on
        if out_of_reach(error):
            raise
        return Settled(errors={schedule.id: error})
    return Settled(more={schedule.id})


def out_of_reach(error: Exception) -> bool:
    """Tell whether the database itself is out of reach, not only one statement refused."""
    if isinstance(error, (InterfaceError, LedgerNotReady)):
        return True
    if not isinstance(error, DatabaseError):
        return False
    return outage.out_of_reach(ledger_connection(), error)


def _together(
    app: Celery,
    chosen: Sequence[Schedule],
    now: datetime,
    until: datetime | None,
    *,
    careful: bool = False,
) -> Settled:
    with short_transaction():
        if careful:
            schedules.wait_less()
        batch = _Batch(app, now, None if careful else Gathering())
        locked = schedules.lock(each.id for each in chosen)
        decided_by = time.monotonic() + _DECIDING
        for schedule in chosen:
            if time.monotonic() > decided_by:
                batch.settled.more.add(schedule.id)
                continue
            progress = locked.get(schedule.id)
            if progress is not None and progress.enabled and progress.active:
                batch.settle(schedule, progress, until, careful=careful)
        batch.write()
    return batch.settled


def situation(schedule: Schedule, progress: Progress) -> Situation:
    """Return what must be known of a locked schedule to settle it."""
    policy = schedule.policy
    busy, failing = False, ""
    if policy.overlap != Overlap.ALLOW or progress.buffered is not None:
        busy = bool(occurrences.unended(schedule.id))
    if policy.pause_after_failures is not None:
        wanted = policy.pause_after_failures
        failed = occurrences.failures_in_a_row(schedule.id, wanted, progress.failures_since)
        if failed >= wanted:
            failing = f"Its latest {wanted} runs have ended as dead."
    return Situation(
        handled_until=progress.handled_until,
        runs=progress.runs,
        buffered=progress.buffered,
        paused_at=progress.paused_at,
        paused_until=progress.paused_until,
        pause_reason=progress.pause_reason,
        busy=busy,
        failing=failing,
    )


class _Batch:
    """What one transaction is going to write."""

    def __init__(self, app: Celery, now: datetime, gathering: Gathering | None) -> None:
        self.settled = Settled()
        self._gathering = gathering
        self._app = app
        self._now = now
        self._moves: list[Advance] = []
        self._rows: list[Occurrence] = []
        self._runs: dict[int, int] = {}

    def settle(
        self, schedule: Schedule, progress: Progress, until: datetime | None, *, careful: bool
    ) -> None:
        settled = self.settled
        try:
            found = deciding.settle(
                schedule.plan,
                schedule.policy,
                situation(schedule, progress),
                self._now,
                delay=schedule.delay,
                until=until,
            )
        except DatabaseError:
            raise
        except Exception as error:  # whatever a spec can do wrong; the others must go on
            settled.errors[schedule.id] = error
            return
        settled.progress[schedule.id] = found.handled_until
        if progress.last_run_at and progress.fired_at not in (None, progress.last_run_at):
            settled.elsewhere[schedule.id] = progress.last_run_at
        if careful:
            known = occurrences.recorded(schedule.id, [each.due for each in found.verdicts])
            found.verdicts = [each for each in found.verdicts if each.due not in known]
        runs = self._carry_out(schedule, found)
        before = (progress.handled_until, progress.buffered)
        if runs or (found.handled_until, found.buffered) != before:
            self._moves.append(
                Advance(
                    schedule.id,
                    progress.handled_until,
                    found.handled_until,
                    runs,
                    found.buffered,
                    self._now if runs else progress.fired_at,
                )
            )
        if found.buffered is not None:
            settled.buffered.add(schedule.id)
        if found.more:
            settled.more.add(schedule.id)
        if found.finished:
            settled.finished.add(schedule.id)

    def _carry_out(self, schedule: Schedule, found: Settlement) -> int:
        if found.pause:
            schedules.pause(schedule.id, self._now, found.pause, None)
            logger.warning("%s is paused: %s", schedule.name, found.pause)
        if found.cancels:
            reason = f"A newer run of the schedule {schedule.name} took its place."
            operations.cancel(occurrences.unended(schedule.id), reason)
        runs = 0
        for verdict in found.verdicts:
            if verdict.fate is Fate.FIRED:
                row = fire(self._app, schedule, verdict.due, self._now, gathering=self._gathering)
                self._rows.append(row)
                runs += row.outcome == Fate.FIRED
        self._rows += stretches(schedule.id, found.verdicts, self._now)
        if runs:
            self._runs[schedule.id] = runs
        return runs

    def write(self) -> None:
        """Write all of it. See Note [Exactly once]."""
        if self._moves:
            schedules.advance(self._moves)
        if self._rows:
            occurrences.record_many(self._rows)
        if self._runs:
            schedules.count_runs(self._runs, self._now)
        if self.settled.finished:
            schedules.finish(self.settled.finished, self._now)
        # Last: whatever refuses the batch has done so before anything tells of an entry.
        if self._gathering is not None:
            self._gathering.write()
        for row in self._rows:
            if row.outcome == Fate.FIRED:
                self.settled.fired += 1
                self.settled.ran.add(row.schedule_id)
                if row.send_at is not None:
                    self.settled.to_send.append(row)
