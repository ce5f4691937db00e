"""Rescue: take over entries whose attempt is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import QuerySet

from ..dedup import WAITING_ONLY
from ..failure import fingerprint
from ..faults import reach
from ..models import Attempt, Entry
from ..states import Outcome, State
from ..wakeup import WakeUp
from . import keys
from .guard import ledger_connection, moment_expression, short_transaction
from .prepared import sqlstate

_LOCK_TIMEOUT: Final = "55P03"  # PostgreSQL's

#: ``error_class`` of a crash, which leaves no exception behind.
CRASH: Final = "reliable_tasks.WorkerLost"


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
    """

    id: UUID
    task: str
    attempt: int
    worker: str = ""
    crashes: int = 0
    reason: str = ""


@dataclass(slots=True)
class Swept:
    """What one pass over the due entries came to.

    Attributes:
        wakeups: to be published now that the pass has committed.
        put_off: how many entries only wait their turn and are looked at again later.
        rescued: running entries that were taken over and wait again.
        died: running entries that were taken over for the last time.
        cancelled: entries that were asked to stop and are stopped now.
        expired: entries whose ``expires`` passed.
    """

    wakeups: list[WakeUp] = field(default_factory=list)
    put_off: int = 0
    rescued: list[Taken] = field(default_factory=list)
    died: list[Taken] = field(default_factory=list)
    cancelled: list[Taken] = field(default_factory=list)
    expired: list[Taken] = field(default_factory=list)

    @property
    def touched(self) -> int:
        """How many entries the pass moved, published or put off."""
        return self.put_off + sum(
            len(part) for part in (self.wakeups, self.died, self.cancelled, self.expired)
        )


def rescue_lost(
    entry_ids: Iterable[UUID], worker: str, *, dead_for: float = 0.0, now: datetime | None = None
) -> Swept:
    """Take over entries whose process is known to be gone, without waiting for the lease's end.

    Args:
        entry_ids: what the lost process ran.
        worker: the worker it belonged to; entries that somebody else holds are left alone.
        dead_for: seconds since the process was known to be gone. An attempt that began later is
            that of another process, and is left alone too.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done.
    """
    swept = Swept()
    with short_transaction():
        held = entries().filter(pk__in=list(entry_ids), state=State.RUNNING, worker=worker)
        held = held.filter(started_at__lte=moment_expression(-dead_for, now))
        rescue_rows(list(lock(held.only(*READ))), swept, now, expired_lease=False)
    return swept


def has_ended_leases(*, now: datetime | None = None) -> bool:
    """Tell whether the lease of some running entry has ended; takes no lock."""
    at = moment_expression(0.0, now)
    return entries().filter(state=State.RUNNING, wake_at__lte=at).exists()


def release_left(worker: str, *, now: datetime | None = None) -> int:
    """Give back, uncharged, what a worker that has stopped in good order left behind.

    A child that was told to stop while it waited in native code could not say so itself.

    Args:
        worker: the worker; it has no process left that could still be running an entry.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many entries were given back.
    """
    at = moment_expression(0.0, now)
    reach("leave.begin")
    with short_transaction():
        left = []
        # Every running entry has a wake_at: saying so lets the partial index serve.
        mine = entries().filter(state=State.RUNNING, worker=worker, wake_at__isnull=False)
        for row in lock(mine.only(*READ)):
            held = entries().filter(pk=row.pk, state=State.RUNNING, attempt=row.attempt)
            left += [row] * held.update(
                state=State.RETRYING if row.retries else State.PENDING,
                crashes=max(0, row.crashes - 1),
                wake_at=at,
                publishes=0,
            )
        Attempt.objects.using(ledger_connection().alias).bulk_create(
            Attempt(
                entry_id=row.pk,
                number=row.attempt,
                outcome=Outcome.RELEASED,
                error_message="its worker was told to stop",
                worker=worker,
                started_at=row.started_at,
                ended_at=at,
            )
            for row in left
        )
        _block_again(left, now)
    reach("leave.written")
    return len(left)


READ: Final = (
    "id",
    "task",
    "state",
    "attempt",
    "crashes",
    "crash_budget",
    "worker",
    "queue",
    "priority",
    "publishes",
    "expires_at",
    "started_at",
    "wake_at",
    "due_at",
    "cancel_requested_at",
    "reason",
    "retries",
    "key",
)


def entries() -> QuerySet[Entry]:
    """Return all entries, on the ledger's database."""
    return Entry.objects.using(ledger_connection().alias)


def lock(rows: QuerySet[Entry]) -> QuerySet[Entry]:
    """Lock rows until the transaction ends, leaving out those that somebody else holds."""
    # Where rows cannot be locked (SQLite), the transaction itself excludes every other writer.
    if not ledger_connection().features.has_select_for_update_skip_locked:
        return rows
    return rows.select_for_update(skip_locked=True)


def rescue_rows(
    rows: Sequence[Entry], swept: Swept, now: datetime | None, *, expired_lease: bool
) -> list[Entry]:
    """Take over running entries; return those that wait now, not yet published."""
    if rows:
        reach("rescue.begin")
    records = []
    waiting = []
    ended: dict[State, list[UUID]] = {State.DEAD: [], State.CANCELLED: []}
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
        records.append(_crash_record(row, state, now))
        if state is State.RETRYING:
            row.publishes = 0
            waiting.append(row)
        elif row.key is not None:
            ended[state].append(row.pk)
    if records:
        Attempt.objects.using(ledger_connection().alias).bulk_create(records)
    keys.release(ended[State.DEAD], died=True)
    keys.release(ended[State.CANCELLED])
    _block_again(waiting, now)
    if records:
        reach("rescue.written")
    return waiting


def _block_again(rows: Sequence[Entry], now: datetime | None) -> None:
    holds = keys.holds_of(rows, following=False)
    alias = ledger_connection().alias
    for row in rows:
        if row.pk not in holds or holds[row.pk].blocks != WAITING_ONLY:
            continue
        try:
            with transaction.atomic(using=alias):
                keys.take_again([(row.pk, row.task, holds[row.pk])], now)
        except OperationalError as error:
            # An open transaction is about to take the key: it goes to that one, if it commits.
            if sqlstate(error) != _LOCK_TIMEOUT:
                raise


def _take_over(row: Entry, now: datetime | None, expired_lease: bool) -> tuple[State, Taken] | None:
    changes, reason = _verdict(row, now)
    held = entries().filter(pk=row.pk, state=State.RUNNING, attempt=row.attempt, worker=row.worker)
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
    )


def _verdict(row: Entry, now: datetime | None) -> tuple[dict[str, object], str]:
    at = moment_expression(0.0, now)
    if row.cancel_requested_at is not None:
        # The reason was written when it was asked to stop.
        return {"state": State.CANCELLED, "wake_at": None, "finished_at": at}, row.reason
    error = {
        "error_class": CRASH,
        "error_message": f"the worker {row.worker} or its process was lost",
        "fingerprint": fingerprint(CRASH, row.task),
    }
    if row.crashes >= row.crash_budget:
        reason = (
            f"Its process was lost {row.crashes} times; the crash budget is "
            f"{row.crash_budget}. Something in it kills its process (memory, a signal, a fault in "
            "native code), or its workers were stopped without notice each time."
        )
        return (
            {"state": State.DEAD, "wake_at": None, "finished_at": at, "reason": reason, **error},
            reason,
        )
    # Due at once. The sweeper that rescues it publishes it; the keeper nudges one.
    return {"state": State.RETRYING, "wake_at": at, "publishes": 0, **error}, ""


def _crash_record(row: Entry, state: State, now: datetime | None) -> Attempt:
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
        ended_at=moment_expression(0.0, now),
    )
