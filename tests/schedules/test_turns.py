"""What a beat does in one turn: work that can wait, and one bad schedule, hold up no due time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from reliable_tasks.models import Occurrence, ScheduleState
from reliable_tasks.schedules import adopting
from reliable_tasks.schedules import beat as beat_module
from reliable_tasks.schedules.beat import Beat
from reliable_tasks.schedules.reading import Schedule
from reliable_tasks.schedules.timetable import Timetable
from tests.celery_app import app
from tests.schedules.making import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Clock,
    beat,
    crontab,
    every,
    fired,
    run,
    saved,
    schedule,
    state,
)

pytestmark = pytest.mark.django_db


def test_a_backlog_to_prune_holds_up_nobody(flush_broker, settings):
    """Old occurrences are pruned one batch a turn, without a rest, while schedules fire."""
    settings.RELIABLE_TASKS = {**settings.RELIABLE_TASKS, "KEEP_OCCURRENCES": DAY, "PRUNE_BATCH": 5}
    clock, task = Clock(), schedule(crontab("*"))
    old = [
        Occurrence(schedule=task, due_at=T0 - DAY - n * MINUTE, outcome="skipped", handled_at=T0)
        for n in range(1, 18)
    ]
    Occurrence.objects.bulk_create(old)
    Occurrence.objects.update(handled_at=T0 - 2 * DAY)
    one, pauses, left = beat(clock), [], []
    for _ in range(4):
        clock.forward(minutes=1)
        pauses.append(one.turn())
        left.append(Occurrence.objects.filter(due_at__lt=T0).count())
    assert left == [12, 7, 2, 0]
    assert pauses[:3] == [0, 0, 0]
    assert pauses[3] > 0
    assert fired(task) == [T0 + n * MINUTE for n in range(1, 5)]
    run(clock, T0 + 6 * MINUTE, MINUTE, one)
    assert len(fired(task)) == 6


def test_what_was_left_is_looked_at_again(flush_broker, monkeypatch):
    """A schedule that somebody else was changing is read again within a second or two."""
    clock, task = Clock(), schedule(crontab("*"))
    other = schedule(crontab("*"))
    one, adopt, read = beat(clock), adopting.adopt, Timetable.read
    failures, reads = [1, 1], []

    def busy(*args, **given):
        return [] if failures and failures.pop() else adopt(*args, **given)

    def reading(table, some=None):
        reads.append(some and set(some))
        return read(table, some)

    monkeypatch.setattr(adopting, "adopt", busy)
    monkeypatch.setattr(Timetable, "read", reading)
    run(clock, T0 + 4 * SECOND, SECOND, one)
    run(clock, T0 + MINUTE, 14 * SECOND, one)
    assert reads == [None, {task.pk, other.pk}, {task.pk, other.pk}]
    assert fired(task) == fired(other) == [T0 + MINUTE]


def test_a_due_time_that_waits_for_long_leaves_nothing_behind(flush_broker):
    """A beat that looks every second whether a run has ended does not remember each look."""
    clock = Clock()
    task = schedule(crontab("0", "13,14"), policy={"overlap": "buffer"})
    one = beat(clock)
    run(clock, T0 + 2 * HOUR, HOUR, one)
    assert state(task).buffered == T0 + 2 * HOUR
    run(clock, clock.now + 250 * SECOND, SECOND, one)
    assert state(task).buffered == T0 + 2 * HOUR
    assert len(one._timetable._heap) < 110


def test_a_machine_whose_clock_is_set_fires_nothing_early(flush_broker, monkeypatch):
    """A beat goes by the database's clock, also right after that of its own machine was set."""
    task = schedule(every(minutes=30), saved_at=timezone.now())
    one = Beat(app)
    one.turn()
    assert one.leads
    ahead = type("Ahead", (datetime,), {"now": classmethod(lambda *_: datetime.now(UTC) + HOUR)})
    set_clock = SimpleNamespace(time=lambda: time.time() + 3600, monotonic=time.monotonic)
    monkeypatch.setattr(beat_module, "datetime", ahead)
    monkeypatch.setattr(beat_module, "time", set_clock)
    one.turn()
    monkeypatch.undo()
    one.stop()
    assert fired(task) == []


@pytest.mark.parametrize("start", [T0 + 30 * SECOND, None])
def test_an_absurd_interval_stops_nobody(flush_broker, start):
    """An interval that leads beyond all calendars is a problem of its schedule alone."""
    clock, good = Clock(), schedule(crontab("*"))
    bad = schedule(every(hours=999_999_999), start_time=start)
    one = beat(clock)
    for _ in range(4):
        clock.forward(minutes=1)
        assert one.turn() <= 1
        assert one.leads
    assert fired(good) == [T0 + n * MINUTE for n in range(1, 5)]
    assert fired(bad) == []
    PeriodicTask.objects.update(enabled=False)
    PeriodicTasks.update_changed()
    run(clock, clock.now + 5 * SECOND, SECOND, one)
    assert not ScheduleState.objects.filter(active=True).exists()


def test_one_that_cannot_be_taken_in(flush_broker, monkeypatch):
    """A schedule that fails in whatever way as it is taken in is noted; the others fire."""
    clock, good, bad = Clock(), schedule(crontab("*")), schedule(crontab("*"))
    change = adopting._change

    def fail(app, known, *args):
        if known.id == bad.pk:
            raise OverflowError("beyond all calendars")
        change(app, known, *args)

    monkeypatch.setattr(adopting, "_change", fail)
    monkeypatch.setattr(
        Schedule, "continued", lambda known, kept: known if kept and known.id == good.pk else None
    )
    one = beat(clock)
    run(clock, T0 + 2 * MINUTE, 20 * SECOND, one)
    assert (fired(good), fired(bad)) == ([T0 + MINUTE, T0 + 2 * MINUTE], [])
    assert state(bad).problem == "OverflowError: beyond all calendars"
    monkeypatch.undo()
    bad.args = "[3, 4]"
    bad.save()
    saved(bad, clock.now)
    run(clock, T0 + 3 * MINUTE, 20 * SECOND, one)
    assert fired(bad)[-1] == T0 + 3 * MINUTE
    assert not state(bad).problem
