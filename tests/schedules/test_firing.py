"""What a beat does with schedules whose time has come."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django_celery_beat.models import PeriodicTask

from reliable_tasks import ReliableTask
from reliable_tasks.models import Entry, Occurrence
from tests.celery_app import app
from tests.schedules.making import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Clock,
    beat,
    clocked,
    crontab,
    entries,
    every,
    fired,
    history,
    run,
    schedule,
    state,
)

pytestmark = pytest.mark.django_db


def test_each_due_time_fires_once(flush_broker):
    """A due time gets one occurrence and one entry, however often a beat looks."""
    clock, task = Clock(), schedule(crontab("*/5"))
    one = beat(clock)
    run(clock, T0 + 15 * MINUTE, 20 * SECOND, one)
    assert fired(task) == [T0 + n * 5 * MINUTE for n in (1, 2, 3)]
    rows = Occurrence.objects.filter(schedule=task).order_by("due_at")
    assert [row.entry_id for row in rows] == [entry.pk for entry in entries(task)]
    assert [entry.args for entry in entries(task)] == [[1, 2]] * 3


def test_two_beats_fire_once(flush_broker):
    """Two beats that both believe to lead fire each due time once."""
    clock, task = Clock(), schedule(crontab("*"))
    first, second = beat(clock, "one"), beat(clock, "two")
    first._lead = second._lead = lambda: True  # type: ignore[method-assign]
    run(clock, T0 + 10 * MINUTE, 30 * SECOND, first, second)
    assert fired(task) == [T0 + n * MINUTE for n in range(1, 11)]
    assert len(entries(task)) == 10


def test_the_row_tells_of_the_run(flush_broker):
    """``last_run_at`` and ``total_run_count`` of the row are written with the occurrence."""
    clock, task = Clock(), schedule(every(minutes=1))
    run(clock, T0 + 3 * MINUTE, 30 * SECOND, beat(clock))
    task.refresh_from_db()
    assert (task.last_run_at, task.total_run_count) == (T0 + 3 * MINUTE, 3)
    assert state(task).handled_until == T0 + 3 * MINUTE


def test_a_new_beat_goes_on(flush_broker):
    """A beat that takes over neither repeats nor drops a due time, also of a long interval."""
    clock, task = Clock(), schedule(every(days=3))
    for _ in range(40):
        run(clock, clock.now + 6 * HOUR, HOUR, beat(clock))
        clock.forward(seconds=7)  # the lease of the one that is gone ends
    assert fired(task) == [T0 + 3 * DAY, T0 + 6 * DAY, T0 + 9 * DAY]


def test_one_off_runs_once(flush_broker):
    """A one-off schedule runs a single time and is disabled in that same transaction."""
    clock, task = Clock(), schedule(every(seconds=10), one_off=True)
    run(clock, T0 + MINUTE, 5 * SECOND, beat(clock))
    task.refresh_from_db()
    assert fired(task) == [T0 + 10 * SECOND]
    assert not task.enabled


def test_clocked_in_the_past_runs(flush_broker):
    """A schedule clocked for an instant that has passed when it is saved still runs, once."""
    clock, task = Clock(), schedule(clocked(T0 - HOUR))
    run(clock, T0 + MINUTE, 5 * SECOND, beat(clock))
    assert fired(task) == [T0 - HOUR]


def test_start_and_end(flush_broker):
    """Nothing is due before the start nor from the end on; an interval begins at its start."""
    clock = Clock()
    task = schedule(
        every(minutes=10), start_time=T0 + timedelta(minutes=7), expires=T0 + timedelta(minutes=27)
    )
    run(clock, T0 + HOUR, MINUTE, beat(clock))
    assert fired(task) == [T0 + 7 * MINUTE, T0 + 17 * MINUTE]


def test_a_bad_schedule_stops_nobody(flush_broker):
    """A schedule whose rows make no sense is told about, and the others fire."""
    clock = Clock()
    bad = [
        schedule(crontab("*"), args="{"),
        schedule(crontab("99")),
        schedule(crontab("*"), kwargs="[]"),
    ]
    good = schedule(crontab("*"))
    one = beat(clock)
    run(clock, T0 + 3 * MINUTE, 20 * SECOND, one)
    assert len(fired(good)) == 3
    assert [history(task) for task in bad] == [[], [], []]
    assert state(bad[1]).problem


def test_a_refused_call_is_missed(flush_broker):
    """A due time whose call the task refuses is missed, with the task's own words."""
    clock = Clock()
    task = schedule(crontab("*"), args='["one", "two", "three"]')
    good = schedule(crontab("*"))
    run(clock, T0 + MINUTE, 20 * SECOND, beat(clock))
    row = Occurrence.objects.get(schedule=task)
    assert (row.outcome, row.cause) == ("missed", "refused")
    assert "TypeError" in row.reason
    assert len(fired(good)) == 1
    task.refresh_from_db()
    assert (task.last_run_at, task.total_run_count) == (None, 0)  # it did not run


def test_deleting_takes_effect(flush_broker):
    """A schedule that is deleted fires no more, and the others go on."""
    clock, task, other = Clock(), schedule(crontab("*")), schedule(crontab("*"))
    one = beat(clock)
    run(clock, T0 + MINUTE, 20 * SECOND, one)
    name = task.name
    task.delete()
    run(clock, T0 + 3 * MINUTE, 20 * SECOND, one)
    assert len(fired(other)) == 3
    assert Entry.objects.filter(schedule=name).count() == 1


def test_disabling_takes_effect_at_once(flush_broker):
    """A schedule that is disabled behind every beat's back fires no more."""
    clock, task = Clock(), schedule(crontab("*"))
    one = beat(clock)
    run(clock, T0 + 90 * SECOND, 10 * SECOND, one)
    PeriodicTask.objects.filter(pk=task.pk).update(enabled=False)
    clock.now = T0 + 2 * MINUTE
    one.turn()
    assert fired(task) == [T0 + MINUTE]
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert not state(task).active


class Counting(ReliableTask):
    """A base that does something of its own with each call."""

    abstract = True
    calls = 0

    def apply_async(self, *args, **kwargs):
        type(self).calls += 1
        return super().apply_async(*args, **kwargs)


class Undecided(ReliableTask):
    """A base that enqueues, and then refuses the call."""

    abstract = True

    def apply_async(self, *args, **kwargs):
        super().apply_async(*args, **kwargs)
        raise ValueError("not after all")


def test_a_call_that_is_refused_after_its_entry_was_written(flush_broker):
    """A due time whose call fails after it was enqueued is missed, and leaves no entry."""

    def nothing():
        pass

    name = app.task(base=Undecided, name="tests.undecided")(nothing).name
    try:
        clock, good = Clock(), schedule(crontab("*"))
        task = schedule(crontab("*"), task=name, args="[]")
        run(clock, T0 + MINUTE, MINUTE, beat(clock))
    finally:
        app.tasks.pop(name)
    assert history(task) == [(T0 + MINUTE, "missed", "refused")]
    assert Entry.objects.filter(task=name).count() == 0
    assert len(entries(good)) == 1


@pytest.fixture
def special():
    """Give the test a task with a dedup key and one with an ``apply_async`` of its own."""

    def nothing():
        pass

    made = [
        app.task(base=ReliableTask, name="tests.keyed", once=True)(nothing),
        app.task(base=Counting, name="tests.counting")(nothing),
    ]
    yield made
    for each in made:
        app.tasks.pop(each.name)


def test_calls_that_are_made_by_themselves(flush_broker, special):
    """In a batch, a task with a dedup key or an ``apply_async`` of its own is called as always."""
    keyed, counting = special
    clock = Clock()
    plain = schedule(crontab("*"))
    once = [schedule(crontab("*"), task=keyed.name, args="[]") for _ in range(2)]
    own = schedule(crontab("*"), task=counting.name, args="[]")
    run(clock, T0 + MINUTE, MINUTE, beat(clock))
    assert [len(fired(task)) for task in (plain, *once, own)] == [1] * 4
    assert Entry.objects.filter(task=keyed.name).count() == 1
    assert len(set(Occurrence.objects.filter(schedule__in=once).values_list("entry_id"))) == 1
    assert type(counting).calls == 1


def test_what_comes_due_right_after_is_gathered(flush_broker):
    """A beat that has fired rests a moment, so that what comes due meanwhile shares its work."""
    clock = Clock()
    schedule(crontab("*"))
    schedule(every(minutes=1), saved_at=T0 + timedelta(seconds=0.05))
    one = beat(clock)
    clock.now = T0 + timedelta(seconds=59.9)
    assert one.turn() == pytest.approx(0.1)  # alone, it fires on time
    clock.now = T0 + MINUTE
    assert one.turn() == pytest.approx(0.25)


@pytest.mark.parametrize("returns", [True, False])
def test_a_plain_message_is_sent_once(flush_broker, monkeypatch, returns):
    """A message that the broker has taken is owed no more, also where an INSERT tells no ids."""
    features = type(connection.features)
    monkeypatch.setattr(features, "can_return_rows_from_bulk_insert", returns)
    clock, task = Clock(), schedule(crontab("*"), task="no.such")
    sent = []
    monkeypatch.setattr(app, "send_task", lambda name, *_, **call: sent.append(call["task_id"]))
    one = beat(clock)
    run(clock, T0 + 90 * SECOND, 5 * SECOND, one)
    one.stop()
    row = Occurrence.objects.get(schedule=task)
    assert row.send_at is None
    assert sent == [str(row.entry_id)]
