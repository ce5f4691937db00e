"""Two deploys sync the schedules that code declares at the same moment."""

from __future__ import annotations

from threading import Barrier

import pytest
from django_celery_beat.models import PeriodicTask

from reliable_tasks.models import DeclaredSchedule, SchedulePolicy
from reliable_tasks.schedules import sync as module
from reliable_tasks.schedules.sync import sync

NAMES = [f"s{number}" for number in range(5)]


@pytest.fixture
def together(second_connection):
    """Return a function that syncs over two connections at once."""
    start = Barrier(2, timeout=30)

    def begin():
        start.wait()
        return sync(import_tasks=False)

    def both():
        other = second_connection.start(begin)
        mine = begin()
        return mine, other.result(60)

    return both


def declare(settings, **more):
    given = {"task": "shop.stock", "schedule": 3600, **more}
    settings.RELIABLE_TASKS = {"SCHEDULES": dict.fromkeys(NAMES, given)}


def test_each_schedule_is_created_once(together, settings):
    """Whoever comes second finds the row and goes on; there is one of each, with one policy."""
    declare(settings)
    reports = together()
    assert sorted(PeriodicTask.objects.values_list("name", flat=True)) == NAMES
    assert SchedulePolicy.objects.count() == DeclaredSchedule.objects.count() == len(NAMES)
    created = [change.name for report in reports for change in report.of(module.Act.CREATED)]
    assert sorted(created) == NAMES


def test_each_change_is_made_once(together, settings):
    """A change of the code is made by one of the two, and is no operator's edit to the other."""
    declare(settings)
    sync(import_tasks=False)
    declare(settings, queue="slow", overlap="skip")
    reports = together()
    assert set(PeriodicTask.objects.values_list("queue", flat=True)) == {"slow"}
    assert set(SchedulePolicy.objects.values_list("overlap", flat=True)) == {"skip"}
    assert [report.kept for report in reports] == [[], []]
