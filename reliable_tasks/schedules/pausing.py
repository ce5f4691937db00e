"""Pause and resume a schedule."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django_celery_beat.models import PeriodicTask

from .. import overview
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..oversight import Act
from .acting import ensure_state, on_record, said_by
from .reading import read_one


def pause(
    schedule: PeriodicTask, reason: str, *, until: datetime | None = None, by: str = ""
) -> bool:
    """Skip a schedule's due times from now on, each with the reason.

    Args:
        schedule: the schedule.
        reason: why, in words.
        until: when the pause ends by itself; None for not at all.
        by: who, in words; kept with the reason.

    Returns:
        False if it is paused already; that pause stays as it is.

    Raises:
        ValueError: ``until`` has passed.
    """
    now = overview.now()
    if until is not None and until <= now:
        raise ValueError(f"The pause would have ended already, at {until}.")
    ensure_state(read_one(schedule.pk), now)
    with transaction.atomic(using=ledger_connection().alias):
        new = ledger.pause(schedule.pk, now, said_by(reason, by), until)
        if new:
            details = None if until is None else {"until": until.isoformat()}
            on_record(Act.PAUSE, schedule.name, by=by, reason=reason, details=details)
    return new


def resume(
    schedule: PeriodicTask, reason: str = "", *, by: str = "", as_of: datetime | None = None
) -> bool:
    """End a pause. Failures from before no longer count for ``pause_after_failures``.

    Args:
        schedule: the schedule.
        reason: why, in words.
        by: who, in words.
        as_of: when somebody saw the pause; a newer one stays.

    Returns:
        False if it was not paused, or only since then.
    """
    with transaction.atomic(using=ledger_connection().alias):
        done = ledger.resume(schedule.pk, overview.now(), as_of)
        if done:
            on_record(Act.RESUME, schedule.name, by=by, reason=reason)
    return done
