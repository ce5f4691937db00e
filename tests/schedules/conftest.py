"""Schedules of every kind, as people make them in the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

ADD = "tests.app.tasks.add"


@pytest.fixture
def make_schedule(db: None) -> Callable[..., PeriodicTask]:
    """Return a function that makes a schedule: hourly, of a task that adds, unless told."""

    def make(name: str = "hourly", *, cron: str = "", zone: str = "UTC", **given: Any) -> Any:
        if cron:
            parts = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
            line = dict(zip(parts, cron.split(), strict=True))
            given["crontab"] = CrontabSchedule.objects.create(**line, timezone=zone)
        else:
            given["interval"] = IntervalSchedule.objects.create(every=1, period="hours")
        return PeriodicTask.objects.create(**{"name": name, "task": ADD, "args": "[1, 2]", **given})

    return make
