"""The rows in which workers report themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db.models import QuerySet

from ..models import WorkerProcess
from .guard import explained, ledger_connection, moment_expression

#: What a worker with an embedded beat (``-B``) reports beside its versions.
EMBEDDED_BEAT: Final = "embedded_beat"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself.

    Attributes:
        identity: see :func:`reliable_tasks.identity.identity`.
        hostname: Celery's node name.
        pid: process id of its main process.
        pool: kind of pool.
        concurrency: how many tasks it runs at once.
        queues: the queues it consumes.
        fetched: for each queue, the messages it has fetched and not begun.
        versions: of Python, Django, Celery and this package; and :data:`EMBEDDED_BEAT`, if any.
        tasks: the names of the reliable tasks that it knows; None if it does not say.
    """

    identity: str
    hostname: str
    pid: int
    pool: str
    concurrency: int | None
    queues: Sequence[str]
    versions: Mapping[str, str]
    fetched: Mapping[str, int] = field(default_factory=dict)
    tasks: Sequence[str] | None = None


def beat(report: WorkerReport, *, draining: bool = False, now: datetime | None = None) -> None:
    """Record that a worker is alive, with one statement after the first time."""
    alias = ledger_connection().alias
    at = moment_expression(0.0, now)
    changes = {
        "beat_at": at,
        "draining": draining,
        "queues": list(report.queues),
        "fetched": dict(report.fetched),
    }
    with explained():
        mine = WorkerProcess.objects.using(alias).filter(pk=report.identity)
        if not mine.update(**changes):
            first = WorkerProcess(
                identity=report.identity,
                hostname=report.hostname,
                pid=report.pid,
                pool=report.pool,
                concurrency=report.concurrency,
                versions=dict(report.versions),
                tasks=None if report.tasks is None else list(report.tasks),
                started_at=at,
                **changes,
            )
            # Another thread may have been quicker.
            WorkerProcess.objects.using(alias).bulk_create([first], ignore_conflicts=True)


def fetched(silent_after: float, *, now: datetime | None = None) -> Counter[str]:
    """Return how many messages of each queue the live workers have fetched and not begun.

    Args:
        silent_after: seconds without a beat after which a worker counts as gone.
        now: a fixed time instead of the database's clock, for tests.
    """
    total: Counter[str] = Counter()
    for part in _live(silent_after, now).values_list("fetched", flat=True):
        total.update(part)
    return total


def first_alive(silent_after: float, *, now: datetime | None = None) -> str | None:
    """Return the live worker that does what one of them is enough for; None if none lives.

    Args:
        silent_after: seconds without a beat after which a worker counts as gone.
        now: a fixed time instead of the database's clock, for tests.
    """
    return _live(silent_after, now).order_by("pk").values_list("pk", flat=True).first()


def _live(silent_after: float, now: datetime | None) -> QuerySet[WorkerProcess]:
    since = moment_expression(-silent_after, now)
    return WorkerProcess.objects.using(ledger_connection().alias).filter(beat_at__gte=since)


def leave(identity: str) -> None:
    """Remove a worker that has stopped in good order."""
    WorkerProcess.objects.using(ledger_connection().alias).filter(pk=identity).delete()


def forget_silent(older_than: timedelta, *, now: datetime | None = None) -> int:
    """Remove workers that have been silent for long; returns how many."""
    alias = ledger_connection().alias
    before = moment_expression(-older_than.total_seconds(), now)
    deleted, _ = WorkerProcess.objects.using(alias).filter(beat_at__lt=before).delete()
    return deleted
