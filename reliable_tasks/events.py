"""The one seam through which everything that happens to an entry is told to the outside.

The ledger's callers call :func:`emit` with one of the event classes below. From here it becomes a
structured log line, a count, and a Django signal; metrics and tracing subscribe to the signals.
A receiver that raises is logged and never disturbs the entry.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.dispatch import Signal

from .errands import tell

logger = logging.getLogger("reliable_tasks")

entry_enqueued = Signal()
entry_published = Signal()
entry_claimed = Signal()
entry_succeeded = Signal()
entry_rescheduled = Signal()
entry_died = Signal()
entry_released = Signal()
entry_rescued = Signal()
entry_cancelled = Signal()
entry_expired = Signal()
entry_requeued = Signal()
entry_adopted = Signal()
entry_dropped = Signal()
entry_deduplicated = Signal()
entry_key_released = Signal()
entry_fenced = Signal()
publish_failed = Signal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event tells.

    Attributes:
        entry: the entry's id, which is Celery's task id too; None where many are meant.
        task: the task's name.
    """

    signal: ClassVar[Signal]
    level: ClassVar[int] = logging.DEBUG
    words: ClassVar[str]

    entry: UUID | None
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued(Event):
    """An entry was written. Sent at once; the caller's transaction may still roll back."""

    signal = entry_enqueued
    words = "enqueued"
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Event):
    """A wake-up was handed to the broker."""

    signal = entry_published
    words = "published"
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFailed(Event):
    """The broker refused, or did not answer in time. The sweeper publishes later."""

    signal = publish_failed
    level = logging.WARNING
    words = "not published, the sweeper will"
    error: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(Event):
    """An attempt begins."""

    signal = entry_claimed
    words = "claimed"
    attempt: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(Event):
    """The attempt succeeded and the entry ended."""

    signal = entry_succeeded
    words = "succeeded"
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescheduled(Event):
    """The attempt failed; another one follows after ``delay`` seconds."""

    signal = entry_rescheduled
    level = logging.WARNING
    words = "rescheduled"
    attempt: int
    outcome: str
    error: str
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Died(Event):
    """The entry is dead and waits for a person."""

    signal = entry_died
    level = logging.ERROR
    words = "died"
    attempt: int
    outcome: str
    error: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """The attempt was given back by a worker that stops; nothing is charged."""

    signal = entry_released
    level = logging.INFO
    words = "released"
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued(Event):
    """A lease ended unrenewed and the entry was taken over by a sweeper."""

    signal = entry_rescued
    level = logging.WARNING
    words = "rescued"
    attempt: int
    worker: str
    crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Event):
    """The entry was cancelled."""

    signal = entry_cancelled
    level = logging.INFO
    words = "cancelled"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired(Event):
    """The entry's ``expires`` passed before an attempt could begin."""

    signal = entry_expired
    level = logging.WARNING
    words = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued(Event):
    """A dead or cancelled entry was put back by a person."""

    signal = entry_requeued
    level = logging.INFO
    words = "requeued"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted(Event):
    """A message without an entry arrived and one was written for it."""

    signal = entry_adopted
    level = logging.INFO
    words = "adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduplicated(Event):
    """A call found its key held. ``entry`` is the holder; ``did`` is what the policy made of it."""

    signal = entry_deduplicated
    words = "stands for another call"
    key: str
    did: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReleased(Event):
    """A person released the key that ``entry`` held."""

    signal = entry_key_released
    level = logging.WARNING
    words = "lost its key"
    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped(Event):
    """A message woke nothing: the entry is running, ended, not yet due, or does not exist."""

    signal = entry_dropped
    words = "dropped a message"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FencedOff(Event):
    """An attempt came back after its lease had ended; its database effects were refused."""

    signal = entry_fenced
    level = logging.ERROR
    words = "fenced off"
    attempt: int


_counts: Counter[tuple[str, str]] = Counter()


def emit(event: Event) -> None:
    """Tell the world: one count, one log line, one Django signal.

    The keeper and the sweeper leave the signal to another thread; see Note [Errands] there.

    Args:
        event: what happened.
    """
    name = type(event).__name__
    _counts[name, getattr(event, "reason", "") if name == "Dropped" else ""] += 1
    if logger.isEnabledFor(event.level):
        _log(event)
    if event.signal.receivers:
        tell(partial(event.signal.send_robust, sender=event.task, event=event))


def emit_many(kind: type[Event], task: str, entries: Sequence[UUID], **fields: Any) -> None:
    """Emit the same kind of event for many entries; nearly free where nobody listens.

    Args:
        kind: the event's class.
        task: the tasks' name.
        entries: the entries.
        **fields: what else the event has.
    """
    if kind.signal.receivers or logger.isEnabledFor(kind.level):
        for entry in entries:
            emit(kind(entry=entry, task=task, **fields))
    else:
        _counts[kind.__name__, ""] += len(entries)


def counts() -> dict[str, int]:
    """Return how many events of each kind this process has seen, drops split by reason."""
    return {f"{name}:{why}" if why else name: n for (name, why), n in sorted(_counts.items())}


def _log(event: Event) -> None:
    details: dict[str, Any] = asdict(event)
    entry, task = details.pop("entry"), details.pop("task")
    text = " ".join(f"{key}={value!r}" for key, value in details.items())
    extra = {
        f"reliable_{key}": value
        for key, value in {"entry": str(entry), "task": task, **details}.items()
    }
    logger.log(event.level, "%s[%s] %s %s", task, entry, event.words, text, extra=extra)
