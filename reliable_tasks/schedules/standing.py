"""How schedules stand, what they have done, and what comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.utils.timezone import get_default_timezone
from django_celery_beat.models import PeriodicTask

from .. import overview
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..ledger.schedules import Progress
from ..models import Occurrence
from . import rivals, words
from .acting import plan_of
from .reading import from_object
from .spec import Crontab
from .times import next_due, next_dues

# Older due times that are not settled are the business of catch-up.
_SOON: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Run:
    """A due time that is still to come.

    Attributes:
        due_at: the due time, in UTC.
        local: the same in the schedule's own time zone.
        fires_at: when it fires: the due time and the schedule's jitter, in UTC.
        paused: whether the pause that is set now covers it, so that it will be skipped.
    """

    due_at: datetime
    local: datetime
    fires_at: datetime
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a schedule stands.

    Attributes:
        words: its due times in words, with the time zone.
        enabled: whether it is enabled.
        paused: whether a pause is in force.
        pause_reason: why, in words.
        paused_until: when the pause ends by itself; None for not at all.
        remaining: how many runs are left; None for no limit.
        buffered: a due time that waits for an earlier run to end.
        handled_until: every due time up to this one is accounted for; None before a beat has seen
            the schedule.
        problem: why its due times cannot be told; empty if they can.
        ran_elsewhere_at: when another scheduler ran it, if it did within the last day.
    """

    words: str
    enabled: bool
    paused: bool = False
    pause_reason: str = ""
    paused_until: datetime | None = None
    remaining: int | None = None
    buffered: datetime | None = None
    handled_until: datetime | None = None
    problem: str = ""
    ran_elsewhere_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """A schedule in a list of many.

    Attributes:
        standing: how it stands.
        next_run: what fires next; None if nothing does.
    """

    standing: Standing
    next_run: Run | None


def next_runs(
    schedule: PeriodicTask, count: int = 10, *, after: datetime | None = None
) -> list[Run]:
    """Return the next due times of a schedule, also of a disabled one.

    Args:
        schedule: the schedule, saved or not.
        count: how many at most.
        after: the instant after which; None for now.
    """
    return _next_runs(schedule, count, _state(schedule), overview.now(), after)


def _next_runs(
    schedule: PeriodicTask,
    count: int,
    state: Progress | None,
    now: datetime,
    after: datetime | None = None,
) -> list[Run]:
    known = from_object(schedule)
    since = now if after is None else after
    plan, delay = known.plan, known.delay
    if state is not None:
        plan = plan_of(known, state)
        if after is None:
            # What is due by now and not settled yet, or waits for its jitter, is still to come.
            waits = delay if schedule.enabled else timedelta(0)
            since = max(min(now, state.handled_until), now - waits - _SOON)
    found = next_dues(plan, since, count)
    zone = (
        ZoneInfo(plan.spec.timezone) if isinstance(plan.spec, Crontab) else get_default_timezone()
    )
    return [
        Run(due, due.astimezone(zone), due + delay, _paused(state, due + delay)) for due in found
    ]


def last_runs(schedule: PeriodicTask, count: int = 10) -> list[Occurrence]:
    """Return the latest occurrences of a schedule, newest first."""
    rows = Occurrence.objects.using(ledger_connection().alias).filter(schedule_id=schedule.pk)
    return list(rows.order_by("-due_at")[:count])


def standing(schedule: PeriodicTask) -> Standing:
    """Return how a schedule stands."""
    return _standing(schedule, _state(schedule), overview.now())


def survey(schedules: Sequence[PeriodicTask]) -> dict[int, Survey]:
    """Return how many schedules stand and when each fires next, in two queries for all of them.

    Args:
        schedules: the schedules; read them with ``select_related`` of their times and their policy.

    Returns:
        One answer for each, by primary key.
    """
    now = overview.now()
    states = ledger.progress([each.pk for each in schedules])
    found = {}
    for each in schedules:
        state = states.get(each.pk)
        stands = _standing(each, state, now)
        fires = stands.enabled and not stands.problem
        runs = _next_runs(each, 1, state, now) if fires else []
        found[each.pk] = Survey(stands, runs[0] if runs else None)
    return found


def _standing(schedule: PeriodicTask, state: Progress | None, now: datetime) -> Standing:
    enabled, text = bool(schedule.enabled), words.describe(schedule)
    problem = ""
    try:
        known = from_object(schedule)
        next_due(known.plan, now)
    except Exception as error:  # whatever a row can do wrong
        problem = str(error) or type(error).__name__
        return Standing(words=text, enabled=enabled, problem=problem)
    if state is None:
        return Standing(words=text, enabled=enabled, remaining=known.policy.max_runs)
    most = known.policy.max_runs
    paused = _paused(state, now)
    return Standing(
        words=text,
        enabled=enabled,
        paused=paused,
        pause_reason=state.pause_reason if paused else "",
        paused_until=state.paused_until if paused else None,
        remaining=None if most is None else max(0, most - (state.runs if state.active else 0)),
        buffered=state.buffered,
        handled_until=state.handled_until,
        problem=state.problem,
        ran_elsewhere_at=_recent(state.ran_elsewhere_at, now),
    )


def _state(schedule: PeriodicTask) -> Progress | None:
    return None if schedule.pk is None else ledger.progress([schedule.pk]).get(schedule.pk)


def _paused(state: Progress | None, at: datetime) -> bool:
    if state is None or state.paused_at is None or at < state.paused_at:
        return False
    return state.paused_until is None or at < state.paused_until


def _recent(at: datetime | None, now: datetime) -> datetime | None:
    return at if at is not None and now - at <= rivals.TOLD else None
