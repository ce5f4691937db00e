"""Pause and resume a queue or a task."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from .. import ledger
from ..oversight import Act, Kind


def pause(
    kind: Kind | str,
    name: str,
    reason: str = "",
    *,
    by: str = "",
    ends_at: datetime | None = None,
) -> bool:
    """Keep the entries of a queue or task from being claimed; what runs goes on.

    It holds in every process from the moment it commits. Nothing is lost: what is enqueued
    meanwhile waits.

    Args:
        kind: ``"queue"`` or ``"task"``.
        name: the queue's or task's name.
        reason: why, in words.
        by: who, in words.
        ends_at: when it ends by itself; None: until somebody resumes it.

    Returns:
        False if it is paused already; that pause stays as it is.

    Raises:
        ValueError: neither a queue nor a task, or no name.
    """
    of = Kind(kind)
    if not name:
        raise ValueError(f"Which {of}? Its name is empty.")
    with transaction.atomic(using=ledger.ledger_connection().alias):
        done = ledger.pause(of, name, reason=reason, by=by, ends_at=ends_at)
        if done:
            until = None if ends_at is None else {"until": ends_at.isoformat()}
            ledger.record(
                Act.PAUSE, by=by, reason=reason, target=f"{of} {name}", details=until, done=1
            )
    return done


def resume(
    kind: Kind | str,
    name: str,
    reason: str = "",
    *,
    by: str = "",
    since: datetime | None = None,
) -> bool:
    """End a pause; a sweeper wakes what waits within about two of its turns.

    Args:
        kind: ``"queue"`` or ``"task"``.
        name: the queue's or task's name.
        reason: why, in words.
        by: who, in words.
        since: only the pause that began then, and no newer one.

    Returns:
        False if it is not paused, or not since then.

    Raises:
        ValueError: neither a queue nor a task.
    """
    of = Kind(kind)
    with transaction.atomic(using=ledger.ledger_connection().alias):
        done = ledger.resume(of, name, since=since)
        if done:
            ledger.record(Act.RESUME, by=by, reason=reason, target=f"{of} {name}", done=1)
    return done
