"""``CELERY_BEAT_SCHEDULE`` becomes rows when a beat starts; operators' edits stay."""

from __future__ import annotations

import logging
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from django.db import OperationalError, connection
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry
from django_celery_beat.tzcrontab import TzAwareCrontab

from reliable_tasks.errors import LedgerNotReady
from reliable_tasks.models import DeclaredSchedule, SchedulePolicy
from reliable_tasks.schedules import scheduler
from reliable_tasks.schedules.beat import OUTAGE_PAUSE
from reliable_tasks.schedules.changes import SyncReport
from reliable_tasks.schedules.scheduler import ReliableScheduler
from reliable_tasks.schedules.sync import sync
from tests.celery_app import app
from tests.schedules.making import ADD, T0, clocked, every

pytestmark = pytest.mark.django_db

NIGHTLY = {"task": ADD, "schedule": crontab("30", "2"), "args": (1, 2)}


@pytest.fixture
def start(caplog):
    """Return a function that starts a beat with these entries and returns what it logged."""

    def started(**entries):
        caplog.clear()
        app.conf.beat_schedule = entries
        with caplog.at_level(logging.INFO, "reliable_tasks.beat"):
            ReliableScheduler(app=app)
        return [each.getMessage() for each in caplog.records if each.name == "reliable_tasks.beat"]

    before = dict(app.conf.beat_schedule)
    yield started
    app.conf.beat_schedule = before


def row(name="nightly"):
    return PeriodicTask.objects.get(name=name)


def test_entries_become_rows(start):
    """An entry becomes a row, with Celery's options, times and task as they are there."""
    options = {"queue": "slow", "expires": timedelta(minutes=5), "relative": 1}
    logged = start(nightly={**NIGHTLY, "options": options}, often={"task": ADD, "schedule": 10.0})
    made = row()
    assert (made.task, made.args, made.queue, made.expire_seconds) == (ADD, "[1, 2]", "slow", 300)
    assert (made.crontab.minute, made.crontab.hour, made.enabled) == ("30", "2", True)
    assert str(made.crontab.timezone) == str(app.timezone)
    assert row("often").interval.every == 10
    assert row("celery.backend_cleanup").expire_seconds == 12 * 3600
    assert any("no place for relative" in line for line in logged)


def test_an_entry_with_a_zone_of_its_own(start):
    """A crontab of django-celery-beat's keeps its zone, whatever that of the app is."""
    berlin = TzAwareCrontab("30", "2", tz=ZoneInfo("Europe/Berlin"))
    start(nightly={**NIGHTLY, "schedule": berlin})
    assert str(row().crontab.timezone) == "Europe/Berlin"


def test_a_start_survives_whatever_fails(start, monkeypatch):
    """A beat starts whatever the comparison with the code comes to, and says what to do."""

    def fail(*_):
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(scheduler, "sync_beat_schedule", fail)
    (line,) = start(nightly=NIGHTLY)
    assert "restart beat" in line
    monkeypatch.undo()
    start(nightly=NIGHTLY)
    assert row().enabled


@pytest.mark.parametrize("error", [OperationalError("gone"), LedgerNotReady("migrate first")])
def test_a_start_without_a_database_compares_later(monkeypatch, error):
    """A beat that starts before the database, or its tables, are there compares once they are."""

    def fail(*_):
        raise error

    monkeypatch.setattr(scheduler, "sync_beat_schedule", fail)
    made = ReliableScheduler(app=app)
    assert made.tick() == OUTAGE_PAUSE
    compared = []
    monkeypatch.setattr(
        scheduler, "sync_beat_schedule", lambda of: compared.append(of) or SyncReport()
    )
    monkeypatch.setattr(scheduler.Beat, "turn", lambda _: 0.5)
    made.tick()
    assert compared == [app]


@pytest.mark.django_db(transaction=True)
def test_a_start_on_a_connection_that_breaks_begins_afresh(flush_broker, monkeypatch):
    """A beat whose connection breaks while it starts opens another one, and goes on."""

    def breaks(*_):
        connection.ensure_connection()
        connection.connection.close()
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(scheduler, "sync_beat_schedule", breaks)
    made = ReliableScheduler(app=app)
    assert connection.connection is None
    monkeypatch.undo()
    made.tick()
    made.close()
    assert PeriodicTask.objects.filter(name="celery.backend_cleanup").exists()


def test_an_edit_stays_at_the_next_start(start):
    """What an operator has edited stays at each start, and the log tells the difference."""
    start(nightly=NIGHTLY)
    PeriodicTask.objects.filter(name="nightly").update(args="[3, 4]", enabled=False)
    logged = start(nightly={**NIGHTLY, "schedule": crontab("0", "5")})
    assert (row().args, row().enabled, row().crontab.hour) == ("[3, 4]", False, "5")
    assert any("args stays [3, 4] as it was edited; the code says [1, 2]" in x for x in logged)
    assert any("'nightly' updated: when from" in line for line in logged)


def test_what_an_entry_leaves_open_is_the_operators(start):
    """A policy, a start or a description that no entry speaks of is no difference."""
    start(nightly=NIGHTLY)
    SchedulePolicy.objects.filter(schedule=row()).update(catch_up="all", overlap="skip")
    PeriodicTask.objects.filter(name="nightly").update(description="by Ann", start_time=T0)
    logged = start(nightly=NIGHTLY)
    assert [line for line in logged if "nightly" in line] == []
    assert (row().reliable_policy.overlap, row().description) == ("skip", "by Ann")


def test_an_entry_that_is_gone_is_disabled(start):
    """An entry that was taken out no longer fires; put back, it does again."""
    start(nightly=NIGHTLY, other=NIGHTLY)
    assert any("'nightly' disabled" in line for line in start(other=NIGHTLY))
    assert (row().enabled, row("other").enabled) == (False, True)
    start(nightly=NIGHTLY, other=NIGHTLY)
    assert row().enabled


def test_rows_of_the_stock_scheduler_are_taken_over(start):
    """At the change from the stock scheduler code is followed once more; a switch stays off."""
    for name in ("nightly", "off"):
        ModelEntry.from_entry(name, app=app, **NIGHTLY)
    PeriodicTask.objects.filter(name="off").update(enabled=False)
    changed = {**NIGHTLY, "args": (5, 6)}
    start(nightly=changed, off=changed)
    assert (row().args, row("off").args, row("off").enabled) == ("[5, 6]", "[5, 6]", False)


def test_a_row_of_the_stock_scheduler_with_blanks(start):
    """A row that has blanks because the code has them is taken over, and so are all others."""
    twice = {**NIGHTLY, "schedule": crontab("0, 30", "2")}
    ModelEntry.from_entry("twice", app=app, **twice)
    assert row("twice").crontab.minute == "0, 30"
    start(twice={**twice, "args": (5, 6)}, nightly=NIGHTLY)
    assert (row("twice").args, row("twice").crontab.minute) == ("[5, 6]", "0, 30")
    assert row("nightly").enabled


def test_rows_of_people_are_left_alone(start):
    """A row that no entry names is neither disabled nor changed."""
    mine = PeriodicTask.objects.create(name="mine", task=ADD, **clocked(T0))
    start(nightly=NIGHTLY)
    start()
    mine.refresh_from_db()
    assert mine.enabled
    assert not DeclaredSchedule.objects.filter(schedule=mine).exists()


def test_a_bad_entry_stops_nobody(start):
    """An entry that makes no sense is logged and leaves its row as it is; the others go on."""
    start(nightly=NIGHTLY)
    logged = start(nightly={"task": ADD, "schedule": object()}, other=NIGHTLY)
    assert any("'nightly' is not taken over" in line for line in logged)
    assert row().enabled
    assert row("other").enabled


def test_a_start_disables_no_row_that_makes_no_sense(start):
    """A row whose arguments are no JSON stays enabled, so that its trouble is told."""
    bad = PeriodicTask.objects.create(name="bad", task=ADD, args="{", **every(hours=1))
    start()
    bad.refresh_from_db()
    assert bad.enabled


def test_the_packages_own_settings_come_first(start, settings):
    """A name that ``SCHEDULES`` declares too follows that, and the entry once it is alone."""
    settings.RELIABLE_TASKS = {"SCHEDULES": {"nightly": {"task": ADD, "schedule": 60}}}
    sync(import_tasks=False)
    logged = start(nightly=NIGHTLY, other=NIGHTLY)
    assert any("has no effect" in line for line in logged)
    assert row().interval.every == 1
    settings.RELIABLE_TASKS = {}
    sync(import_tasks=False)
    assert (row().enabled, row().interval, row().crontab.minute) == (True, None, "30")
    assert row("other").enabled


def test_the_command_lets_the_code_win(start):
    """``schedules sync --overwrite`` works on what a beat has taken over, and disables none."""
    start(nightly=NIGHTLY, other=NIGHTLY)
    PeriodicTask.objects.filter(name="nightly").update(args="[3, 4]")
    app.conf.beat_schedule = {"nightly": NIGHTLY}
    (kept,) = sync(import_tasks=False, dry_run=True).kept
    assert (kept.name, kept.kept[0].row, kept.kept[0].code) == ("nightly", [3, 4], [1, 2])
    sync(import_tasks=False, overwrite=["nightly"])
    assert row().args == "[1, 2]"
    assert row("other").enabled
