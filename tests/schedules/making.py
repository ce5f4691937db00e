"""Schedules for tests, and a clock that they turn by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from reliable_tasks.ids import new_id
from reliable_tasks.ledger import occurrences
from reliable_tasks.models import Entry, Occurrence, SchedulePolicy, ScheduleState
from reliable_tasks.schedules.beat import Beat
from tests.app import tasks
from tests.celery_app import app

# Far ahead, because entries are written by the database's clock: their expiry must not have passed.
T0 = datetime(2031, 3, 3, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
#: A task that adds two numbers.
ADD = tasks.add.name
_CRON = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_numbers = count(1)


class Clock:
    """The time as the test wants it."""

    def __init__(self, now: datetime = T0) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now


def crontab(minute: str = "*", hour: str = "*", timezone: str = "UTC", **fields: str) -> Any:
    found, _ = CrontabSchedule.objects.get_or_create(
        minute=minute, hour=hour, timezone=timezone, **fields
    )
    return {"crontab": found}


def every(**span: int) -> Any:
    (period, number), *_ = span.items()
    found, _ = IntervalSchedule.objects.get_or_create(every=number, period=period)
    return {"interval": found}


def solar(event: str, latitude: float, longitude: float) -> Any:
    found, _ = SolarSchedule.objects.get_or_create(
        event=event, latitude=latitude, longitude=longitude
    )
    return {"solar": found}


def clocked(at: datetime) -> Any:
    found, _ = ClockedSchedule.objects.get_or_create(clocked_time=at)
    return {"clocked": found, "one_off": True}


def schedule(
    when: Any,
    *,
    policy: dict[str, Any] | None = None,
    saved_at: datetime = T0,
    **fields: Any,
) -> PeriodicTask:
    """Make a schedule that was saved at an instant."""
    fields.setdefault("name", f"schedule {next(_numbers)}")
    fields.setdefault("task", ADD)
    fields.setdefault("args", "[1, 2]")
    made = PeriodicTask.objects.create(**when, **fields)
    if policy is not None:
        SchedulePolicy.objects.create(schedule=made, **policy)
    saved(made, saved_at)
    return made


def simple(name: str = "hourly", *, cron: str = "", zone: str = "UTC", **fields: Any) -> Any:
    """Make a schedule as a person does in the admin: hourly, of a task that adds, unless told."""
    line = dict(zip(_CRON, cron.split(), strict=False))
    when = crontab(timezone=zone, **line) if cron else every(hours=1)
    given = {"name": name, "task": ADD, "args": "[1, 2]", **fields}
    return PeriodicTask.objects.create(**when, **given)


def saved(task: PeriodicTask, at: datetime) -> None:
    """Say that the row was saved at an instant of the test's clock."""
    PeriodicTask.objects.filter(pk=task.pk).update(date_changed=at)
    PeriodicTasks.update_changed()


def beat(clock: Clock, name: str = "") -> Beat:
    """Return a beat that goes by the test's clock."""
    return Beat(app, holder=name, clock=clock)


def run(clock: Clock, until: datetime, step: timedelta, *beats: Beat) -> None:
    """Turn the clock to an instant, step by step, and let the beats work at each."""
    while clock.now < until:
        clock.now = min(until, clock.now + step)
        for each in beats:
            each.turn()


def history(task: PeriodicTask) -> list[tuple[datetime, str, str]]:
    """Return due time, outcome and cause of every occurrence, oldest first."""
    rows = Occurrence.objects.filter(schedule=task).order_by("due_at")
    return [(row.due_at, row.outcome, row.cause) for row in rows]


def fired(task: PeriodicTask) -> list[datetime]:
    """Return the due times that fired."""
    return [due for due, outcome, _ in history(task) if outcome == "fired"]


def entries(task: PeriodicTask) -> list[Entry]:
    """Return the entries of a schedule, oldest first."""
    return list(Entry.objects.filter(schedule=task.name).order_by("pk"))


def owe(task: PeriodicTask, count: int = 1, since: datetime = T0) -> list[Occurrence]:
    """Let a schedule of a plain task owe messages, the first of them since an instant."""
    rows = [
        Occurrence(
            schedule=task,
            due_at=since + n * SECOND,
            outcome="fired",
            reliable=False,
            entry_id=new_id(),
            send_at=since + n * SECOND,
            handled_at=since,
        )
        for n in range(count)
    ]
    occurrences.record(rows)
    return rows


def state(task: PeriodicTask) -> ScheduleState:
    """Return how far a schedule has come."""
    return ScheduleState.objects.get(schedule=task)
