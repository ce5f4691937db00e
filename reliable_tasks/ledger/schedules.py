"""How far each schedule has come: the rows that beats lock, and move ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.apps import apps
from django.db import models
from django.db.models import F, Q

from ..models import ScheduleState
from .guard import explained, ledger_connection

_TABLE: Final = ScheduleState._meta.db_table
_FIELDS: Final = (
    "schedule_id",
    "spec",
    "handled_until",
    "active",
    "runs",
    "buffered",
    "paused_at",
    "paused_until",
    "pause_reason",
    "failures_since",
    "problem",
    "fired_at",
    "pruned_until",
    "ran_elsewhere_at",
)


class LostRace(Exception):
    """Another beat, or a person, changed a schedule in between. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A row of :class:`ScheduleState`, and what its schedule's row says beside the plan."""

    schedule: int
    spec: Mapping[str, Any]
    handled_until: datetime
    active: bool
    runs: int
    buffered: datetime | None
    paused_at: datetime | None
    paused_until: datetime | None
    pause_reason: str
    failures_since: datetime | None
    problem: str
    fired_at: datetime | None
    pruned_until: datetime | None
    ran_elsewhere_at: datetime | None
    enabled: bool
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True)
class Advance:
    """How a schedule moves ahead.

    Attributes:
        schedule: the schedule.
        before: its ``handled_until`` as it was locked.
        handled_until: as it will be.
        runs: how many runs were added.
        buffered: the due time that waits; None for none.
        fired_at: when it ran last.
    """

    schedule: int
    before: datetime
    handled_until: datetime
    runs: int
    buffered: datetime | None
    fired_at: datetime | None = None


def begin(
    states: Sequence[tuple[int, Mapping[str, Any], datetime, int]], *, active: bool = True
) -> None:
    """Write the first state of schedules that have none; one that has keeps it.

    Args:
        states: for each schedule its id, its spec, up to when its due times need no account, and
            how many runs it has had.
        active: whether they are enabled.
    """
    rows = [
        ScheduleState(
            schedule_id=schedule, spec=dict(spec), handled_until=until, runs=runs, active=active
        )
        for schedule, spec, until, runs in states
    ]
    _states().bulk_create(rows, ignore_conflicts=True, batch_size=500)


def progress(schedules: Iterable[int] | None = None) -> dict[int, Progress]:
    """Read how far schedules have come, without a lock; None for all of them."""
    rows = _states() if schedules is None else _states().filter(pk__in=list(schedules))
    return _read(rows)


def disabled() -> dict[int, Progress]:
    """Read how far those have come that a beat saw enabled and that are disabled now."""
    return _read(_states().filter(active=True, schedule__enabled=False))


def changed_at() -> datetime | None:
    """Return when anything of any schedule was last changed; None for never."""
    marks = _model("PeriodicTasks").objects.using(_alias())
    found: datetime | None = marks.values_list("last_update", flat=True).first()
    return found


def lock(schedules: Iterable[int]) -> dict[int, Progress]:
    """Lock schedules for the transaction and read how far they have come.

    In the order of their ids, so that two beats cannot deadlock. Where a database has no such
    lock, :func:`advance` notices that somebody came in between.
    """
    rows = _states().filter(pk__in=list(schedules)).order_by("pk")
    if ledger_connection().features.has_select_for_update_of:
        return _read(rows.select_for_update(of=("self",)))
    return _read(rows.select_for_update())


def wait_less() -> None:
    """Wait for a locked row only a moment in the transaction that is open, where many may be."""
    connection = ledger_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', '100ms', true)")


def advance(moves: Sequence[Advance]) -> None:
    """Move schedules ahead.

    Raises:
        LostRace: one of them is not where it was.
    """
    connection = ledger_connection()
    adapt = connection.ops.adapt_datetimefield_value
    with explained(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            columns = zip(
                *(
                    (m.schedule, m.before, m.handled_until, m.runs, m.buffered, m.fired_at)
                    for m in moves
                ),
                strict=True,
            )
            cursor.execute(_ADVANCE_MANY, [list(column) for column in columns])
            moved = cursor.rowcount
        else:
            moved = 0
            for m in moves:
                times = [None if at is None else adapt(at) for at in (m.buffered, m.fired_at)]
                cursor.execute(
                    _ADVANCE,
                    [adapt(m.handled_until), m.runs, *times, m.schedule, adapt(m.before)],
                )
                moved += cursor.rowcount
    if moved != len(moves):
        raise LostRace("a schedule was moved ahead by somebody else")


_ADVANCE: Final = (
    f"UPDATE {_TABLE} SET handled_until = %s, runs = runs + %s, buffered = %s, "
    "fired_at = %s "
    "WHERE schedule_id = %s AND handled_until = %s"
)
_ADVANCE_MANY: Final = (
    f"UPDATE {_TABLE} SET handled_until = move.until, runs = {_TABLE}.runs + move.runs, "
    "buffered = move.buffered, fired_at = move.fired_at "
    "FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[], %s::int[], %s::timestamptz[], "
    "%s::timestamptz[]) AS move (schedule, before, until, runs, buffered, fired_at) "
    f"WHERE schedule_id = move.schedule AND {_TABLE}.handled_until = move.before"
)


def count_runs(runs: Mapping[int, int], at: datetime, *, disabled_too: bool = False) -> None:
    """Tell people's own row of a schedule that it ran: ``last_run_at``, ``total_run_count``.

    Args:
        runs: for each schedule, how often.
        at: when.
        disabled_too: also a schedule that is disabled.

    Raises:
        LostRace: one of them was disabled or deleted meanwhile.
    """
    for times in set(runs.values()):
        chosen = [schedule for schedule, each in runs.items() if each == times]
        rows = _periodic_tasks().filter(pk__in=chosen)
        if not disabled_too:
            rows = rows.filter(enabled=True)
        changed = rows.update(last_run_at=at, total_run_count=F("total_run_count") + times)
        if changed != len(chosen):
            raise LostRace("a schedule was disabled or deleted")


def finish(schedules: Iterable[int], at: datetime) -> None:
    """Disable schedules that have no runs left, and let every beat read its schedules again."""
    chosen = list(schedules)
    # As the stock scheduler leaves a one-off schedule, should that one take over some day.
    _periodic_tasks().filter(pk__in=chosen, enabled=True).update(enabled=False, total_run_count=0)
    _states().filter(pk__in=chosen).update(active=False)
    marks = _model("PeriodicTasks").objects.using(_alias()).filter(ident=1)
    if ledger_connection().features.has_select_for_update_skip_locked:
        # Whoever holds it is saving a schedule, and tells the beats as well.
        unheld = marks.select_for_update(skip_locked=True)
        marks = marks.filter(pk__in=list(unheld.values_list("pk", flat=True)))
    marks.update(last_update=at)


def replan(
    schedule: int, before: datetime, spec: Mapping[str, Any], handled_until: datetime
) -> None:
    """Give a schedule another plan, whose due times count after ``handled_until``.

    Args:
        schedule: its primary key.
        before: how far it has come, as the caller has read it.
        spec: the new plan as JSON.
        handled_until: how far it has come from now on.

    Raises:
        LostRace: it is not where it was.
    """
    found = _states().filter(pk=schedule, handled_until=before)
    if not found.update(spec=dict(spec), handled_until=handled_until, active=True, problem=""):
        raise LostRace("a schedule was moved ahead by somebody else")


def activate(schedule: int, spec: Mapping[str, Any], handled_until: datetime) -> None:
    """Note that a schedule was enabled again: its due times and runs count from here."""
    _states().filter(pk=schedule, active=False).update(
        spec=dict(spec), handled_until=handled_until, active=True, runs=0, buffered=None, problem=""
    )


def deactivate(schedule: int, before: datetime, handled_until: datetime) -> None:
    """Note that a schedule was disabled.

    Args:
        schedule: its primary key.
        before: how far it has come, as the caller has read it.
        handled_until: until when its due times are accounted for.

    Raises:
        LostRace: it is not where it was.
    """
    found = _states().filter(pk=schedule, handled_until=before, active=True)
    if not found.update(handled_until=handled_until, active=False, buffered=None):
        raise LostRace("a schedule was moved ahead by somebody else")


def pause(schedule: int, at: datetime, reason: str, until: datetime | None) -> bool:
    """Pause a schedule from an instant on; False if a pause is in force, which stays as it is."""
    in_force = Q(paused_at__isnull=False) & (Q(paused_until__isnull=True) | Q(paused_until__gt=at))
    rows = _states().filter(pk=schedule)
    free = rows.exclude(in_force)
    return bool(free.update(paused_at=at, paused_until=until, pause_reason=reason))


def resume(schedule: int, at: datetime, as_of: datetime | None = None) -> bool:
    """End a pause at an instant; False if none is in force, or only one that began after as_of."""
    rows = _states().filter(pk=schedule, paused_at__isnull=False)
    if as_of is not None:
        rows = rows.filter(paused_at__lte=as_of)
    in_force = rows.filter(Q(paused_until__isnull=True) | Q(paused_until__gt=at))
    return bool(in_force.update(paused_until=at, failures_since=at))


def add_runs(schedule: int, runs: int, at: datetime) -> None:
    """Count runs that were fired besides the due times, in the caller's transaction."""
    _states().filter(pk=schedule).update(runs=F("runs") + runs, fired_at=at)
    count_runs({schedule: runs}, at, disabled_too=True)


def reset_runs(schedule: int) -> bool:
    """Count a schedule's runs from zero again; False if none were counted."""
    return bool(_states().filter(pk=schedule, runs__gt=0).update(runs=0))


def _read(rows: models.QuerySet[ScheduleState]) -> dict[int, Progress]:
    with explained():
        found = rows.values_list(*_FIELDS, "schedule__enabled", "schedule__last_run_at")
        return {row[0]: Progress(*row) for row in found}


def _states() -> models.QuerySet[ScheduleState]:
    return ScheduleState.objects.using(_alias())


def _periodic_tasks() -> Any:
    return _model("PeriodicTask").objects.using(_alias())


def _model(name: str) -> Any:
    # Looked up late: the ledger is imported where django_celery_beat may not be installed.
    return apps.get_model("django_celery_beat", name)


def _alias() -> str:
    return ledger_connection().alias
