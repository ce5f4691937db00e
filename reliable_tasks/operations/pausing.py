"""Pause and resume a queue or a task."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count, Q

from .. import ledger, overview
from ..ledger.guard import moment_expression
from ..oversight import Act, Kind
from ..states import WAITING, State


@dataclass(frozen=True, slots=True)
class Concerned:
    """The entries that a pause holds up, or would.

    Attributes:
        waiting: wait there.
        due: of these, would begin if it were not for this pause: they are due, and no other pause
            holds them.
        running: run there, and go on.
        exact: whether all live entries were looked at; otherwise there may be more.
    """

    waiting: int
    due: int
    running: int
    exact: bool


def concerned(kind: Kind | str, name: str) -> Concerned:
    """Count what a pause of a queue or task holds up, whether or not it is paused now.

    Args:
        kind: ``"queue"`` or ``"task"``.
        name: the queue's or task's name.

    Raises:
        ValueError: neither a queue nor a task.
    """
    of = Kind(kind)
    field = {Kind.QUEUE: "queue", Kind.TASK: "task"}[of]
    others = Q(pk__in=[])
    for other, its in overview.pauses().exclude(kind=of, name=name).values_list("kind", "name"):
        others |= Q(**{"queue" if other == Kind.QUEUE else "task": its})
    there = Q(**{field: name})
    waiting = there & Q(state__in=WAITING)
    found = overview.soonest().aggregate(
        waiting=Count("pk", filter=waiting),
        due=Count("pk", filter=waiting & Q(due_at__lte=moment_expression()) & ~others),
        running=Count("pk", filter=there & Q(state=State.RUNNING)),
        seen=Count("pk"),
    )
    exact = found.pop("seen") < overview.SAMPLE
    return Concerned(**found, exact=exact)


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
