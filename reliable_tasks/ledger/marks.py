"""What is noted of schedules beside how far they have come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.db import models
from django.db.models import Q

from ..models import ScheduleState
from .guard import explained, ledger_connection
from .schedules import lock

_TABLE: Final = ScheduleState._meta.db_table


def note_problems(problems: Mapping[int, str]) -> None:
    """Keep why the due times of schedules cannot be told; empty where they can."""
    for schedule, problem in problems.items():
        _states().filter(pk=schedule).exclude(problem=problem).update(problem=problem)


def ran_elsewhere(schedules: Mapping[int, datetime]) -> None:
    """Note when schedules ran without a beat of ours."""
    for schedule, at in schedules.items():
        later = Q(ran_elsewhere_at__isnull=True) | Q(ran_elsewhere_at__lt=at)
        _states().filter(later, pk=schedule).update(ran_elsewhere_at=at)


def mark_pruned(marks: Mapping[int, datetime]) -> None:
    """Note up to when due times may have been pruned, in the caller's transaction.

    Args:
        marks: for each schedule, the last of them.
    """
    later = {
        schedule: marks[schedule]
        for schedule, known in lock(marks).items()
        if known.pruned_until is None or known.pruned_until < marks[schedule]
    }
    if not later:
        return
    connection = ledger_connection()
    adapt = connection.ops.adapt_datetimefield_value
    with explained(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_MARK_MANY, [list(later), list(later.values())])
        else:
            cursor.executemany(_MARK, [[adapt(at), schedule] for schedule, at in later.items()])


_MARK: Final = f"UPDATE {_TABLE} SET pruned_until = %s WHERE schedule_id = %s"  # noqa: S608
_MARK_MANY: Final = (
    f"UPDATE {_TABLE} SET pruned_until = mark.until "  # noqa: S608 - constants
    "FROM unnest(%s::int[], %s::timestamptz[]) AS mark (schedule, until) "
    "WHERE schedule_id = mark.schedule"
)


def _states() -> models.QuerySet[ScheduleState]:
    return ScheduleState.objects.using(ledger_connection().alias)
