"""Entries in every state, made by the ledger's own verbs at a fixed time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from reliable_tasks import ledger
from reliable_tasks.failure import Failure
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import Claim, NewEntry, Swept
from reliable_tasks.models import Entry
from reliable_tasks.states import Outcome, State

T0 = datetime(2031, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
GRACE = 5.0
LEASE = 10.0
WORKER = "celery@here#0a0a0a0a"
OTHER_WORKER = "celery@there#0b0b0b0b"
FAILURE = Failure("app.errors.GatewayDown", "503", "Traceback ...", "0123456789abcdef")


def later(seconds: float) -> datetime:
    """Return the time so many seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def new(**changes: Any) -> NewEntry:
    """Return an entry to be written."""
    given = {"id": new_id(), "task": "tests.app.tasks.add", "queue": "celery", "crash_budget": 3}
    return NewEntry(**{**given, **changes})


def enqueue(*, now: datetime | None = T0, **changes: Any) -> UUID:
    """Write one entry and return its id."""
    entry = new(**changes)
    assert ledger.enqueue(entry, grace=GRACE, now=now)
    return entry.id


def enqueue_alike(
    count: int, *, now: datetime | None = T0, grace: float = GRACE, **changes: Any
) -> list[UUID]:
    """Write that many entries that differ in nothing but their ids, and return those."""
    ids = [new_id() for _ in range(count)]
    calls = [(each, "[]", "{}") for each in ids]
    ledger.enqueue_alike(new(**changes), calls, grace=grace, now=now)
    return ids


def claim(
    entry_id: UUID, *, now: datetime | None = T0, worker: str = WORKER, lease: float = LEASE
) -> Claim:
    """Claim an entry that can be claimed."""
    found = ledger.claim(entry_id, worker, lease=lease, now=now)
    assert found is not None
    return found


def running(*, now: datetime | None = T0, worker: str = WORKER, **changes: Any) -> Claim:
    """Write an entry and claim it."""
    return claim(enqueue(now=now, **changes), now=now, worker=worker)


def reschedule(held: Claim, *, now: datetime | None = T0, **how: Any) -> None:
    """Let another attempt follow, a minute later unless told otherwise."""
    given = {"delay": 60.0, "grace": GRACE, "now": now}
    ledger.reschedule(held, FAILURE, Outcome.FAILED, **{**given, **how})


def bury(held: Claim, *, now: datetime | None = T0, **changes: Any) -> None:
    """End an entry as dead."""
    given = {"reason": "Not retried.", "now": now}
    ledger.bury(held, FAILURE, Outcome.FAILED, **{**given, **changes})


def sweep(*, now: datetime | None = T0, limit: int = 100, **changes: Any) -> Swept:
    """Move on all that is due, as a sweeper does."""
    given = {"recheck": GRACE, "longest": 600.0}
    return ledger.sweep_due(limit=limit, now=now, **{**given, **changes})


def row(entry: UUID | Claim) -> Entry:
    """Read an entry."""
    return Entry.objects.get(pk=entry.entry if isinstance(entry, Claim) else entry)


def state(entry: UUID | Claim) -> State:
    """Read the state of an entry."""
    return State(row(entry).state)


def snapshot(entry: UUID | Claim) -> dict[str, Any]:
    """Read all columns of an entry, to compare them later."""
    found = row(entry)
    return {field.attname: getattr(found, field.attname) for field in Entry._meta.concrete_fields}


def _pending(now: datetime) -> UUID:
    return enqueue(now=now)


def _running(now: datetime) -> UUID:
    return running(now=now).entry


def _retrying(now: datetime) -> UUID:
    held = running(now=now)
    reschedule(held, now=now, delay=0.001)
    return held.entry


def _succeeded(now: datetime) -> UUID:
    held = running(now=now)
    ledger.succeed(held, now=now)
    return held.entry


def _dead(now: datetime) -> UUID:
    held = running(now=now)
    bury(held, now=now)
    return held.entry


def _cancelled(now: datetime) -> UUID:
    entry_id = enqueue(now=now)
    assert ledger.cancel([entry_id], now=now).cancelled == [entry_id]
    return entry_id


_MAKERS: dict[State, Callable[[datetime], UUID]] = {
    State.PENDING: _pending,
    State.RUNNING: _running,
    State.RETRYING: _retrying,
    State.SUCCEEDED: _succeeded,
    State.DEAD: _dead,
    State.CANCELLED: _cancelled,
}


def in_state(wanted: State, *, now: datetime = T0) -> UUID:
    """Make an entry and bring it into a state."""
    entry_id = _MAKERS[wanted](now)
    assert state(entry_id) is wanted
    return entry_id
