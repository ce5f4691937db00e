"""Notes from Celery's event loop to the keeper's thread.

Celery's main process must not wait for a database: a slow statement there stalls acknowledgements,
heartbeats and every child. So its hooks only leave a note here.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A hard time limit ended an attempt.

    Attributes:
        entry: the entry.
        limit: the limit in seconds.
        noticed: when, on this process's monotonic clock.
    """

    entry: UUID
    limit: float
    noticed: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A child died with this entry in its hands.

    Attributes:
        entry: the entry.
        pid: the child, if Celery knows which it was.
        noticed: when Celery said so, on this process's monotonic clock.
    """

    entry: UUID
    pid: int | None
    noticed: float


@dataclass(frozen=True, slots=True)
class Revoked:
    """Somebody revoked the task through Celery."""

    entry: UUID


@dataclass(frozen=True, slots=True)
class Stopping:
    """The worker stops at once and has told the process that runs this entry to end.

    Attributes:
        entry: the entry.
        pid: the process.
    """

    entry: UUID
    pid: int


Note = TimedOut | Lost | Revoked | Stopping
_notes: Final[SimpleQueue[Note]] = SimpleQueue()


def leave(note: Note) -> None:
    """Leave a note; never blocks."""
    _notes.put(note)


def take(timeout: float) -> Note | None:
    """Return the next note, or None if there is none within that many seconds."""
    try:
        return _notes.get(timeout=max(0.0, timeout))
    except Empty:
        return None
