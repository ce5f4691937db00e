"""What an operator does to schedules. The admin and ``manage.py reliable_tasks`` call these."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django_celery_beat.models import PeriodicTask

from .. import operations, overview
from ..conf import current
from ..ledger import occurrences
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..models import Occurrence
from ..occurrence import Fate, Trigger
from ..oversight import Act
from . import words
from .acting import ensure_state, on_record, said_by, send_after_commit
from .backfilling import BackfillResult, backfill
from .firing import fire
from .pausing import pause, resume
from .reading import read_one
from .standing import Run, Standing, Survey, last_runs, next_runs, standing, survey

logger = logging.getLogger("reliable_tasks.beat")

__all__ = [
    "BackfillResult",
    "Run",
    "Standing",
    "Survey",
    "backfill",
    "describe",
    "last_runs",
    "next_runs",
    "pause",
    "prune_occurrences",
    "reset_runs",
    "resume",
    "run_now",
    "standing",
    "survey",
]


def run_now(schedule: PeriodicTask, *, reason: str = "", by: str = "") -> Occurrence:
    """Fire a schedule once, now, besides its due times; also if it is disabled or paused.

    It counts as a run for ``max_runs`` and pays no heed to overlap.

    Args:
        schedule: the schedule.
        reason: why, in words; kept on the occurrence.
        by: who, in words; kept with the reason.

    Returns:
        The occurrence; its ``outcome`` is "missed" if the task refused the call.
    """
    app, now = operations.celery_app(), overview.now()
    known = read_one(schedule.pk)
    ensure_state(known, now)
    with transaction.atomic(using=ledger_connection().alias):
        ledger.lock([known.id])
        row = fire(app, known, now, now, trigger=Trigger.RUN_NOW, reason=said_by(reason, by))
        occurrences.record([row])
        if row.outcome == Fate.FIRED:
            ledger.add_runs(known.id, 1, now)
        refused = {"refused": row.reason} if row.outcome != Fate.FIRED else None
        on_record(Act.RUN_SCHEDULE, known.name, by=by, reason=reason, rows=[row], details=refused)
        send_after_commit([row], known)
    return row


def describe(schedule: PeriodicTask) -> str:
    """Return a schedule's due times in words, with the time zone: "at 02:30 (Europe/Berlin)"."""
    return words.describe(schedule)


def reset_runs(schedule: PeriodicTask, *, reason: str = "", by: str = "") -> bool:
    """Let ``max_runs`` count from zero again.

    A schedule that was disabled because it had had all its runs counts anew once it is enabled.

    Args:
        schedule: the schedule.
        reason: why, in words.
        by: who, in words.

    Returns:
        False if it has not run since it was created, enabled or counted anew.
    """
    with transaction.atomic(using=ledger_connection().alias):
        done = ledger.reset_runs(schedule.pk)
        if done:
            on_record(Act.RESET_RUNS, schedule.name, by=by, reason=reason)
    return done


def prune_occurrences(older_than: timedelta) -> Iterator[int]:
    """Delete occurrences handled longer ago than that; yields how many each batch deleted."""
    batch = current().PRUNE_BATCH
    while deleted := occurrences.prune(older_than, batch=batch):
        yield deleted
