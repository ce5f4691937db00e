"""What the sweeper does to entries whose ``wake_at`` has come.

One column, one index and one query serve everything that has a time: an entry that waits is
published (again), cancelled or expired; an entry that runs has lost its lease and is rescued.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, Q, QuerySet

from ..failure import fingerprint
from ..models import Attempt, Entry
from ..states import WAITING, Outcome, State
from ..wakeup import WakeUp
from .guard import explained, ledger_connection, moment_expression

#: ``error_class`` of a crash, which leaves no exception behind.
CRASH: Final = "reliable_tasks.WorkerLost"
_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """An entry that a sweep moved on.

    Attributes:
        id: the entry.
        task: its task.
        attempt: its last attempt's number.
        worker: who held it.
        crashes: crashes charged to it.
        reason: why it ended, if it did.
        options: its options.
    """

    id: UUID
    task: str
    attempt: int
    worker: str = ""
    crashes: int = 0
    reason: str = ""
    options: dict[str, object] | None = None


@dataclass(slots=True)
class Swept:
    """What one pass over the due entries came to.

    Attributes:
        wakeups: to be published now that the pass has committed.
        rescued: running entries that were taken over and wait again.
        died: running entries that were taken over for the last time.
        cancelled: entries that were asked to stop and are stopped now.
        expired: entries whose ``expires`` passed.
    """

    wakeups: list[WakeUp] = field(default_factory=list)
    rescued: list[Taken] = field(default_factory=list)
    died: list[Taken] = field(default_factory=list)
    cancelled: list[Taken] = field(default_factory=list)
    expired: list[Taken] = field(default_factory=list)

    @property
    def touched(self) -> int:
        """How many entries the pass moved or published."""
        return sum(
            len(part)
            for part in (self.wakeups, self.rescued, self.died, self.cancelled, self.expired)
        )


def seconds_until_wake(*, now: datetime | None = None) -> float | None:
    """Return seconds until the next entry needs the sweeper (negative if overdue), or None."""
    wait = ExpressionWrapper(
        F("wake_at") - moment_expression(0.0, now), output_field=DurationField()
    )
    with explained():
        first: timedelta | None = (
            _entries()
            .filter(wake_at__isnull=False)
            .order_by("wake_at")
            .annotate(wait=wait)
            .values_list("wait", flat=True)
            .first()
        )
    return None if first is None else first.total_seconds()


def sweep_due(
    *,
    limit: int,
    grace: float,
    longest: float,
    publishing: bool = True,
    now: datetime | None = None,
) -> Swept:
    """Move on every entry whose ``wake_at`` has come, up to a limit, in one transaction.

    Any number of sweepers may do this at once: each row is locked by one of them and skipped by
    the others.

    Args:
        limit: most entries to take.
        grace: seconds until an entry that is published now is published again.
        longest: the interval between publishes doubles up to this many seconds.
        publishing: False while the broker is down: entries that only wait for a publish are left
            as they are then.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done. Publishing is left to the caller, after the commit.
    """
    connection = ledger_connection()
    swept = Swept()
    with explained(), transaction.atomic(using=connection.alias):
        due = _entries().filter(wake_at__lte=moment_expression(0.0, now))
        if not publishing:
            due = due.filter(
                Q(state=State.RUNNING) | Q(cancel_requested_at__isnull=False) | _expired(now)
            )
        due = _lock(due.annotate(is_expired=_expired(now)).order_by("wake_at").only(*_READ))
        rows = list(due[:limit])
        running = [row for row in rows if row.state == State.RUNNING]
        waiting = [row for row in rows if row.state in WAITING]
        _rescue(running, swept, now, expired_lease=True)
        _end_waiting(waiting, swept, now)
        _mark_published(waiting, swept, grace=grace, longest=longest, now=now)
    return swept


def rescue_lost(entry_ids: Iterable[UUID], worker: str, *, now: datetime | None = None) -> Swept:
    """Take over entries whose process is known to be gone, without waiting for the lease's end.

    Args:
        entry_ids: what the lost process ran.
        worker: the worker it belonged to; entries that somebody else holds are left alone.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done.
    """
    connection = ledger_connection()
    swept = Swept()
    with explained(), transaction.atomic(using=connection.alias):
        held = _entries().filter(pk__in=list(entry_ids), state=State.RUNNING, worker=worker)
        _rescue(list(_lock(held.only(*_READ))), swept, now, expired_lease=False)
    return swept


def take_back(entry_ids: Iterable[UUID], *, retry_in: float, now: datetime | None = None) -> int:
    """Undo the mark of a publish that the broker did not take.

    Without it, an outage would count as publishes and the entries would wait longer and longer.

    Args:
        entry_ids: what was not published after all.
        retry_in: seconds until the sweeper tries again.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many entries still wait.
    """
    waiting = _entries().filter(pk__in=list(entry_ids), state__in=WAITING, publishes__gt=0)
    return waiting.update(publishes=F("publishes") - 1, wake_at=moment_expression(retry_in, now))


_READ: Final = (
    "id",
    "task",
    "state",
    "attempt",
    "crashes",
    "crash_budget",
    "worker",
    "queue",
    "priority",
    "options",
    "publishes",
    "expires_at",
    "started_at",
    "wake_at",
    "cancel_requested_at",
)


def _entries() -> QuerySet[Entry]:
    return Entry.objects.using(ledger_connection().alias)


def _lock(rows: QuerySet[Entry]) -> QuerySet[Entry]:
    # Where rows cannot be locked (SQLite), the transaction itself excludes every other writer.
    if not ledger_connection().features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=True)


def _expired(now: datetime | None) -> Q:
    return Q(expires_at__isnull=False, expires_at__lte=moment_expression(0.0, now))


def _rescue(
    rows: Sequence[Entry], swept: Swept, now: datetime | None, *, expired_lease: bool
) -> None:
    records = []
    for row in rows:
        taken = _take_over(row, now, expired_lease)
        if taken is None:
            continue
        state, entry = taken
        {
            State.RETRYING: swept.rescued,
            State.DEAD: swept.died,
            State.CANCELLED: swept.cancelled,
        }[state].append(entry)
        records.append(_crash_record(row, state))
    if records:
        Attempt.objects.using(ledger_connection().alias).bulk_create(records)


def _take_over(row: Entry, now: datetime | None, expired_lease: bool) -> tuple[State, Taken] | None:
    changes, reason = _verdict(row, now)
    held = _entries().filter(pk=row.pk, state=State.RUNNING, attempt=row.attempt, worker=row.worker)
    if expired_lease:
        held = held.filter(wake_at__lte=moment_expression(0.0, now))
    if held.update(**changes) != 1:  # renewed, or finished after all
        return None
    return State(str(changes["state"])), Taken(
        id=row.pk,
        task=row.task,
        attempt=row.attempt,
        worker=row.worker,
        crashes=row.crashes,
        reason=reason,
        options=row.options,
    )


def _verdict(row: Entry, now: datetime | None) -> tuple[dict[str, object], str]:
    at = moment_expression(0.0, now)
    if row.cancel_requested_at is not None:
        reason = "Cancelled while it was running; its process is gone."
        return (
            {"state": State.CANCELLED, "wake_at": None, "finished_at": at, "reason": reason},
            reason,
        )
    error = {
        "error_class": CRASH,
        "error_message": f"the worker {row.worker} or its process was lost",
        "fingerprint": fingerprint(CRASH, row.task),
    }
    if row.crashes >= row.crash_budget:
        reason = (
            f"Its process was lost {row.crashes} times in a row of attempts, the crash budget is "
            f"{row.crash_budget}. Something in it kills its process (memory, a signal, a fault in "
            "native code), or its workers were stopped without notice each time."
        )
        return (
            {"state": State.DEAD, "wake_at": None, "finished_at": at, "reason": reason, **error},
            reason,
        )
    # Due at once and published by this very sweeper's next pass.
    return {"state": State.RETRYING, "wake_at": at, "publishes": 0, **error}, ""


def _crash_record(row: Entry, state: State) -> Attempt:
    cancelled = state is State.CANCELLED
    return Attempt(
        entry_id=row.pk,
        number=row.attempt,
        outcome=Outcome.CANCELLED if cancelled else Outcome.CRASHED,
        error_class=CRASH,
        error_message=f"the worker {row.worker} or its process was lost",
        fingerprint=fingerprint(CRASH, row.task),
        worker=row.worker,
        started_at=row.started_at,
    )


def _end_waiting(rows: Sequence[Entry], swept: Swept, now: datetime | None) -> None:
    expired = [row for row in rows if row.is_expired]  # type: ignore[attr-defined]
    asked = [row for row in rows if row.cancel_requested_at is not None and row not in expired]
    for chosen, into, reason in (
        (expired, swept.expired, "Expired before an attempt could begin."),
        (asked, swept.cancelled, "Cancelled while an attempt was running."),
    ):
        if chosen:
            _entries().filter(pk__in=[row.pk for row in chosen], state__in=WAITING).update(
                state=State.CANCELLED,
                wake_at=None,
                finished_at=moment_expression(0.0, now),
                reason=reason,
            )
            into += [
                Taken(
                    id=row.pk,
                    task=row.task,
                    attempt=row.attempt,
                    reason=reason,
                    options=row.options,
                )
                for row in chosen
            ]


def _mark_published(
    rows: Sequence[Entry],
    swept: Swept,
    *,
    grace: float,
    longest: float,
    now: datetime | None,
) -> None:
    # The next look is set before the message is sent: were it the other way round, a sweeper that
    # dies in between would leave rows that every other sweeper publishes again and again.
    ended = {taken.id for taken in (*swept.expired, *swept.cancelled)}
    groups: dict[int, list[Entry]] = defaultdict(list)
    for row in rows:
        if row.pk not in ended:
            groups[row.publishes].append(row)
    for publishes, group in groups.items():
        interval = min(max(grace, 1.0) * 2 ** min(publishes, _DOUBLINGS), longest)
        next_look = moment_expression(interval, now)
        mine = _entries().filter(
            pk__in=[row.pk for row in group], state__in=WAITING, publishes=publishes
        )
        mine.update(wake_at=next_look, publishes=publishes + 1)
        # An entry that expires before that must be looked at when it expires.
        expiring = [row.pk for row in group if row.expires_at is not None]
        if expiring:
            _entries().filter(pk__in=expiring, expires_at__lt=F("wake_at")).update(
                wake_at=F("expires_at")
            )
        swept.wakeups += [
            WakeUp(str(row.pk), row.task, row.queue, row.priority, row.options) for row in group
        ]
