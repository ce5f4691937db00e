"""The doctor's look at schedules and the beats that see to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from ... import overview
from ...models import ScheduleState
from ...schedules.beats import embedded_beats, leader
from ...schedules.rivals import seen
from ...schedules.trouble import troubles
from ..console import shape
from .finding import OK, PROBLEM, WARNING, Finding

_MOST: Final = 10
#: A lease that ended this long ago was not merely renewed late.
_PATIENCE: Final = timedelta(seconds=30)


def beats() -> Iterator[Finding]:
    """Say whether a beat sees to the schedules, and whether one runs inside a worker."""
    number = _enabled().count()
    lease, at = leader(), overview.now()
    facts: dict[str, Any] = {"enabled_schedules": number}
    if not number:
        yield Finding("beat", OK, "no schedule is enabled", details=facts)
    elif lease is not None and at - lease.until <= _PATIENCE:
        yield Finding("beat", OK, f"{lease.holder} sees to {number:,} schedules", details=facts)
    else:
        since = "" if lease is None else f" since {shape.moment(lease.until)}"
        yield Finding(
            "beat",
            PROBLEM,
            f"no beat sees to the {shape.plural(number, 'enabled schedule', 'enabled schedules')}"
            f"{since}",
            "Nothing fires. What comes due meanwhile is caught up as each schedule's policy says.",
            "Start one: celery -A <project> beat -S reliable",
            facts,
        )
    rival = seen()
    if rival is not None:
        yield Finding(
            "beat",
            PROBLEM,
            str(rival).rstrip("."),
            "A beat of ours sees to them as well, so their tasks are called twice.",
            "Find the `celery beat` that runs without -S reliable, and stop it.",
            {"schedules": rival.count, "latest": rival.latest.isoformat()},
        )
    for name in embedded_beats():
        yield Finding(
            "beat",
            WARNING,
            f"a beat runs inside the worker {name} (-B)",
            "It ends with the worker, and nobody starts it again when it dies.",
            "Run it as a process of its own: celery -A <project> beat -S reliable",
            {"worker": name},
        )


def schedules() -> Iterator[Finding]:
    """Say which enabled schedules cannot run, and which have no times."""
    found = [
        (each, trouble)
        for each in _enabled().order_by("name").iterator()
        for trouble in troubles(each)
    ]
    for schedule, trouble in found[:_MOST]:
        yield Finding(
            "schedules",
            PROBLEM,
            f"schedule {schedule.name!r}: {trouble.text}",
            "Each of its runs fails or is refused.",
            trouble.remedy,
            {"schedule": schedule.name, "kind": trouble.kind},
        )
    if len(found) > _MOST:
        yield Finding("schedules", WARNING, f"{len(found) - _MOST:,} more troubles like these")
    broken = ScheduleState.objects.exclude(problem="").filter(schedule__enabled=True)
    for state in broken.select_related("schedule").order_by("schedule__name")[:_MOST]:
        yield Finding(
            "schedules",
            PROBLEM,
            f"schedule {state.schedule.name!r} has no due times: {state.problem}",
            "It never fires.",
            "Correct its times in the admin.",
            {"schedule": state.schedule.name},
        )
    if not found and not broken:
        yield Finding("schedules", OK, "no enabled schedule has a trouble that shows beforehand")


def _enabled() -> Any:
    from django_celery_beat.models import PeriodicTask

    return PeriodicTask.objects.filter(enabled=True)
