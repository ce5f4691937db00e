"""A stock scheduler that runs beside a beat of ours is noticed, and told of."""

from __future__ import annotations

import logging

import pytest
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from reliable_tasks.checks import schedules as checks
from reliable_tasks.management.diagnosis import PROBLEM
from reliable_tasks.management.diagnosis import schedules as diagnosis
from reliable_tasks.schedules import operations, rivals
from tests.celery_app import app
from tests.checking import codes
from tests.schedules.making import MINUTE, T0, Clock, beat, crontab, fired, run, schedule, state

pytestmark = pytest.mark.django_db


def run_by_stock(task):
    """Let django-celery-beat's scheduler write that it has run a schedule."""
    next(ModelEntry(PeriodicTask.objects.get(pk=task.pk), app=app)).save()


@pytest.fixture
def two(flush_broker):
    """Give the test a clock, a beat, and two schedules that it has fired."""
    clock = Clock()
    tasks = [schedule(crontab("*")) for _ in range(2)]
    one = beat(clock)
    run(clock, T0 + MINUTE, MINUTE, one)
    return clock, one, tasks


def test_a_stock_beat_is_noticed(two, caplog):
    """What another scheduler has run is logged, and kept with the schedule."""
    clock, one, (task, other) = two
    run_by_stock(task)
    with caplog.at_level(logging.WARNING, "reliable_tasks.beat"):
        run(clock, T0 + 3 * MINUTE, MINUTE, one)
    (warning,) = [each for each in caplog.messages if "Another scheduler" in each]
    assert repr(task.name) in warning
    assert repr(other.name) not in warning
    rival = rivals.seen()
    assert (rival.count, rival.names) == (1, [task.name])
    assert operations.standing(task).ran_elsewhere_at == rival.latest
    assert operations.standing(other).ran_elsewhere_at is None
    assert len(fired(task)) == 3


def test_our_own_runs_are_none(two):
    """Neither runs of a beat nor those that a person asks for look like another scheduler's."""
    clock, one, (task, _) = two
    operations.run_now(task)
    run(clock, T0 + 2 * MINUTE, MINUTE, one)
    run(clock, T0 + 5 * MINUTE, MINUTE, beat(clock, "another"))
    assert rivals.seen() is None


def test_a_row_that_was_saved_late_is_none(two):
    """A person who saves a row that has run meanwhile is not taken for another scheduler."""
    clock, one, (task, _) = two
    stale = PeriodicTask.objects.get(pk=task.pk)
    run(clock, T0 + 2 * MINUTE, MINUTE, one)
    stale.description = "saved with what it said before"
    stale.save()
    assert state(task).fired_at != stale.last_run_at
    run(clock, T0 + 3 * MINUTE, MINUTE, one)
    assert rivals.seen() is None


def test_what_ran_before_we_came_is_none(flush_broker):
    """A project that changes over from the stock scheduler is told of nothing."""
    clock = Clock()
    task = schedule(crontab("*"))
    run_by_stock(task)
    run(clock, T0 + 3 * MINUTE, MINUTE, beat(clock))
    assert rivals.seen() is None


def test_check_doctor_and_admin_tell(two, admin_client):
    """`check`, `doctor` and the schedule's page name another scheduler, with what to do."""
    clock, one, (task, _) = two
    assert not [each for each in diagnosis.beats() if "scheduler" in each.summary]
    run_by_stock(task)
    run(clock, T0 + 2 * MINUTE, MINUTE, one)
    assert "W066" in codes(checks.check_rows(databases=["default"]))
    (told,) = [each for each in diagnosis.beats() if "Another scheduler" in each.summary]
    assert told.level == PROBLEM
    page = admin_client.get(f"/admin/django_celery_beat/periodictask/{task.pk}/change/")
    assert "Another scheduler ran it at" in page.content.decode()
    listed = admin_client.get("/admin/django_celery_beat/periodictask/").content.decode()
    assert f"Another scheduler runs schedules, such as “{task.name}” at" in listed
