"""What happens when people change schedules, with a beat up and without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from reliable_tasks import overview
from reliable_tasks.ledger.schedules import LostRace
from reliable_tasks.models import SchedulePolicy
from reliable_tasks.schedules import adopting, operations
from reliable_tasks.schedules.policy import delay_of
from reliable_tasks.schedules.settling import Settled
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
    saved,
    schedule,
    state,
)

pytestmark = pytest.mark.django_db


def change(task: PeriodicTask, clock: Clock, **fields: object) -> None:
    """Save a schedule as the admin does, at the test's present."""
    task.refresh_from_db()
    for name, value in fields.items():
        setattr(task, name, value)
    task.save()
    saved(task, clock.now)


@pytest.mark.parametrize("beat_is_up", [True, False])
def test_an_edit_counts_from_when_it_was_saved(flush_broker, beat_is_up):
    """A new definition is due after it was saved, not at times of its own that have passed."""
    clock, task = Clock(), schedule(crontab("30", "11"))
    one = beat(clock)
    run(clock, T0 + 2 * HOUR, 5 * MINUTE, one)
    change(task, clock, **crontab("0", "*"))
    if not beat_is_up:
        clock.forward(minutes=50)
        one = beat(clock)
    run(clock, T0 + 4 * HOUR, 5 * MINUTE, one)
    assert fired(task) == [T0 + 3 * HOUR, T0 + 4 * HOUR]


def test_what_was_due_before_an_edit_still_runs(flush_broker):
    """A due time of the old definition that nobody handled before the edit is not forgotten."""
    clock, task = Clock(), schedule(crontab("0", "14"))
    run(clock, T0 + HOUR, 5 * MINUTE, beat(clock))
    clock.now = T0 + 3 * HOUR  # no beat at 14:00
    change(task, clock, **crontab("0", "20"))
    clock.forward(minutes=1)
    run(clock, T0 + 9 * HOUR, 5 * MINUTE, beat(clock))
    assert fired(task) == [T0 + 2 * HOUR, T0 + 8 * HOUR]


@pytest.mark.parametrize("left", [{"more": "it"}, {"errors": DatabaseError("locked")}])
def test_what_was_due_before_an_edit_waits_with_it(flush_broker, monkeypatch, left):
    """If what was due before an edit cannot be settled yet, the edit waits; nothing is lost."""
    clock, task = Clock(), schedule(crontab("0", "14"))
    run(clock, T0 + HOUR, 5 * MINUTE, beat(clock))
    clock.now = T0 + 3 * HOUR
    change(task, clock, **crontab("0", "20"))
    clock.forward(minutes=1)
    found = Settled(**{key: {task.pk: value} for key, value in left.items()})
    monkeypatch.setattr(adopting, "settle", lambda *_, **__: found)
    one = beat(clock)
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert state(task).handled_until < T0 + 2 * HOUR
    monkeypatch.undo()
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert fired(task) == [T0 + 2 * HOUR]


def test_an_edit_that_makes_no_sense_with_its_policy(flush_broker):
    """What cannot be settled for a bad policy is kept until the policy is mended."""
    clock, task = Clock(), schedule(crontab("0", "14"))
    run(clock, T0 + HOUR, 5 * MINUTE, beat(clock))
    clock.now = T0 + 3 * HOUR
    policy = SchedulePolicy.objects.create(schedule=task, misfire_grace=timedelta(days=999_999))
    change(task, clock, **crontab("0", "20"))
    clock.forward(minutes=1)
    one = beat(clock)
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert "OverflowError" in state(task).problem
    policy.misfire_grace = MINUTE
    policy.save()
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert fired(task) == [T0 + 2 * HOUR]
    assert not state(task).problem


@pytest.mark.parametrize("catch_up", ["skip", "latest"])
def test_what_waited_for_its_jitter_still_runs(flush_broker, catch_up):
    """A due time whose jitter has not passed when the schedule is edited fires all the same."""
    clock, task = Clock(), schedule(crontab("0"))
    share = delay_of(task.pk, DAY) / DAY
    SchedulePolicy.objects.create(schedule=task, jitter=3 * MINUTE / share, catch_up=catch_up)
    one = beat(clock)
    run(clock, T0 + 61 * MINUTE + 10 * SECOND, MINUTE, one)
    assert fired(task) == []
    change(task, clock, **crontab("30"))
    run(clock, T0 + 2 * HOUR, MINUTE, one)
    assert fired(task) == [T0 + HOUR, T0 + 90 * MINUTE]


def test_a_shared_crontab_that_is_edited(flush_broker):
    """An edit of a crontab takes effect for the schedules that share it, without their rows."""
    clock, task = Clock(), schedule(crontab("0"))
    one = beat(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    row = CrontabSchedule.objects.get(pk=task.crontab_id)
    row.minute = "0,45"
    row.save()
    run(clock, T0 + 121 * MINUTE, 5 * MINUTE, one)
    assert fired(task) == [T0 + HOUR, T0 + 105 * MINUTE, T0 + 2 * HOUR]


def told(clock: Clock) -> None:
    """Say that the latest edit of anything was made at the test's present."""
    PeriodicTasks.objects.update(last_update=clock.now)


def test_an_edit_that_is_seen_after_an_outage(flush_broker, monkeypatch):
    """If one more due time fires before an edit is seen, and then nothing runs, none is lost."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock, task = Clock(), schedule(crontab("*"), policy=every_time)
    one = beat(clock)
    run(clock, T0 + 110 * SECOND, 10 * SECOND, one)
    change(task, clock, **crontab("*/10"))
    told(clock)
    monkeypatch.setattr(one, "_read_changes", lambda now: None)
    clock.now = T0 + 2 * MINUTE
    one.turn()
    assert state(task).handled_until > clock.now - 10 * SECOND
    clock.now = T0 + 31 * MINUTE
    run(clock, T0 + 32 * MINUTE, 20 * SECOND, beat(clock))
    assert fired(task) == [T0 + n * MINUTE for n in (1, 2, 10, 20, 30)]


def test_a_shared_crontab_that_is_edited_while_no_beat_is_up(flush_broker):
    """An edit of a crontab counts from when it was made, also if that is seen much later."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock, task = Clock(), schedule(crontab("0"), policy=every_time)
    run(clock, T0 + 70 * MINUTE, 5 * MINUTE, beat(clock))
    clock.now = T0 + 150 * MINUTE
    row = CrontabSchedule.objects.get(pk=task.crontab_id)
    row.minute = "0,15"
    row.save()
    told(clock)
    clock.now = T0 + 4 * HOUR + 20 * MINUTE
    run(clock, clock.now + MINUTE, 20 * SECOND, beat(clock))
    hours = [T0 + n * HOUR for n in (1, 2, 3)]
    assert fired(task) == [*hours, hours[2] + 15 * MINUTE, T0 + 4 * HOUR, T0 + 255 * MINUTE]


@pytest.mark.parametrize("saves", ["args", "description"])
def test_a_shared_crontab_is_not_edited_when_a_schedule_of_it_was_saved(flush_broker, saves):
    """An edit of a crontab makes up no due time back to when a schedule that has it was saved."""
    clock, task = Clock(), schedule(crontab("0", "11"))
    one = beat(clock)
    run(clock, T0 + HOUR, 5 * MINUTE, one)
    change(task, clock, **{saves: "[3, 4]"})
    run(clock, T0 + 270 * MINUTE, 5 * MINUTE, one)
    row = CrontabSchedule.objects.get(pk=task.crontab_id)
    row.hour = "*"
    row.save()
    told(clock)
    run(clock, T0 + 6 * HOUR, 5 * MINUTE, one)
    assert history(task) == [(T0 + n * HOUR, "fired", "") for n in (5, 6)]


@pytest.mark.parametrize("saves", ["args", "description"])
@pytest.mark.parametrize("told_of", [True, False])
def test_a_crontab_edited_in_an_outage(flush_broker, saves, told_of):
    """A save of its schedule from before the outage, which was read, does not date the edit."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock, task = Clock(), schedule(crontab("0", "11"), policy=every_time)
    one = beat(clock)
    run(clock, T0 + HOUR, 5 * MINUTE, one)
    change(task, clock, **{saves: "[3, 4]"})
    told(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    clock.now = T0 + 270 * MINUTE  # no beat meanwhile
    rows = CrontabSchedule.objects.filter(pk=task.crontab_id)
    if told_of:
        row = rows.get()
        row.hour = "*"
        row.save()
        told(clock)
    else:
        rows.update(hour="*")
    clock.now = T0 + 330 * MINUTE
    run(clock, T0 + 6 * HOUR, 5 * MINUTE, beat(clock))
    hours = (5, 6) if told_of else (6,)
    assert history(task) == [(T0 + n * HOUR, "fired", "") for n in hours]


def test_a_crontab_whose_edit_has_to_wait(flush_broker, monkeypatch):
    """An edit of a crontab that somebody else is in the way of counts from when it was made."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock, task = Clock(), schedule(crontab("0"), policy=every_time)
    one = beat(clock)
    run(clock, T0 + 65 * MINUTE, 5 * MINUTE, one)
    change(task, clock, args="[3, 4]")
    told(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    row = CrontabSchedule.objects.get(pk=task.crontab_id)
    row.minute = "*/10"
    row.save()
    told(clock)
    replan, left = adopting.schedules.replan, [1, 2]

    def busy(*given):
        if left:
            raise LostRace(f"for the {left.pop()}. time")
        replan(*given)

    monkeypatch.setattr(adopting.schedules, "replan", busy)
    run(clock, clock.now + 5 * SECOND, SECOND, one)
    run(clock, T0 + 2 * HOUR, MINUTE, one)
    assert (left, fired(task)) == ([], [T0 + n * MINUTE for n in (60, 100, 110, 120)])


@pytest.mark.parametrize(("field", "hours"), [("crontab", 21), ("enabled", 45)])
def test_an_edit_that_nobody_was_told_of_counts_from_when_it_is_seen(flush_broker, field, hours):
    """Rows that are changed behind every beat's back make up for nothing when a beat starts."""
    clock, task = Clock(), schedule(crontab("0", "12"))
    one = beat(clock)
    run(clock, T0 + DAY + HOUR, HOUR, one)
    if field == "enabled":
        PeriodicTask.objects.filter(pk=task.pk).update(enabled=False)
        PeriodicTasks.update_changed()
        run(clock, T0 + DAY + 2 * HOUR, HOUR, one)
        assert not state(task).active
    PeriodicTasks.objects.update(last_update=T0)
    before = fired(task)
    clock.now = T0 + DAY + hours * HOUR
    if field == "crontab":
        CrontabSchedule.objects.filter(pk=task.crontab_id).update(hour="5")
    else:
        PeriodicTask.objects.filter(pk=task.pk).update(enabled=True)
    run(clock, clock.now + 2 * HOUR, HOUR, beat(clock))
    assert fired(task) == before


def test_saving_without_a_change_changes_nothing(flush_broker):
    """A schedule that is saved again and again keeps the pace of its interval."""
    clock, task = Clock(), schedule(every(hours=1))
    one = beat(clock)
    for _ in range(30):
        run(clock, clock.now + 7 * MINUTE, 5 * MINUTE, one)
        change(task, clock, description=str(clock.now))
    assert fired(task) == [T0 + HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR]


def test_new_arguments_are_used_at_once(flush_broker):
    """An edit of the arguments is used for the next due time."""
    clock, task = Clock(), schedule(crontab("*"))
    one = beat(clock)
    run(clock, T0 + MINUTE, 20 * SECOND, one)
    change(task, clock, args="[5, 6]")
    run(clock, T0 + 2 * MINUTE, 20 * SECOND, one)
    assert [entry.args for entry in entries(task)] == [[1, 2], [5, 6]]


@pytest.mark.parametrize("beat_is_up", [True, False])
def test_disabled_for_a_while(flush_broker, beat_is_up):
    """Nothing is due while a schedule is disabled, nor made up for afterwards."""
    clock, task = Clock(), schedule(crontab("0"))
    one = beat(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    change(task, clock, enabled=False)
    if beat_is_up:
        run(clock, T0 + 5 * HOUR + 30 * MINUTE, 5 * MINUTE, one)
    else:
        clock.now = T0 + 5 * HOUR + 30 * MINUTE
    change(task, clock, enabled=True)
    clock.forward(seconds=30)
    run(clock, T0 + 7 * HOUR, 5 * MINUTE, one if beat_is_up else beat(clock))
    assert fired(task) == [T0 + HOUR, T0 + 6 * HOUR, T0 + 7 * HOUR]


def test_enabled_again_while_no_beat_is_up(flush_broker):
    """What comes due after a schedule was enabled again is handled, however late that is seen."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock, task = Clock(), schedule(crontab("0"), policy=every_time)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, beat(clock))
    clock.now = T0 + 150 * MINUTE
    change(task, clock, enabled=False)
    clock.now = T0 + 210 * MINUTE
    change(task, clock, enabled=True)
    clock.now = T0 + 330 * MINUTE
    run(clock, T0 + 6 * HOUR, 5 * MINUTE, beat(clock))
    assert history(task) == [
        (T0 + HOUR, "fired", ""),
        *((T0 + n * HOUR, "missed", "disabled") for n in (2, 3)),
        *((T0 + n * HOUR, "fired", "") for n in (4, 5, 6)),
    ]


@pytest.mark.parametrize("beat_is_up", [True, False])
def test_enabled_by_what_tells_nobody_when(flush_broker, beat_is_up):
    """A schedule that was made disabled, long ago, and is enabled by ``update()`` owes nothing."""
    clock = Clock()
    task = schedule(crontab("0"), enabled=False, saved_at=T0 - 30 * DAY)
    one = beat(clock)
    run(clock, T0 + 5 * MINUTE, MINUTE, one)
    PeriodicTask.objects.filter(pk=task.pk).update(enabled=True)
    if not beat_is_up:
        clock.forward(minutes=25)
        one = beat(clock)
    run(clock, T0 + 2 * HOUR, 5 * MINUTE, one)
    assert history(task) == [(T0 + HOUR, "fired", ""), (T0 + 2 * HOUR, "fired", "")]


def test_what_was_due_before_it_was_disabled_is_missed(flush_broker):
    """A due time that nobody handled before the schedule was disabled is missed, and says so."""
    clock, task = Clock(), schedule(crontab("0"))
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, beat(clock))
    clock.now = T0 + 150 * MINUTE
    change(task, clock, enabled=False)
    clock.forward(minutes=1)
    run(clock, T0 + 5 * HOUR, 5 * MINUTE, beat(clock))
    assert history(task) == [(T0 + HOUR, "fired", ""), (T0 + 2 * HOUR, "missed", "disabled")]


@pytest.mark.parametrize("told", [True, False])
def test_disabled_while_it_was_due(flush_broker, told):
    """A schedule that a beat finds disabled as it would fire has no due times from then on.

    So enabled again, by whatever forgets nothing of it, none of that time fires, nor is missed.
    """
    clock, task = Clock(), schedule(crontab("0"))
    one = beat(clock)
    run(clock, T0 + HOUR - SECOND, 5 * MINUTE, one)
    row = PeriodicTask.objects.filter(pk=task.pk)
    clock.forward(seconds=0.9)
    one.turn()
    row.update(enabled=False)
    if told:
        PeriodicTasks.update_changed()
    clock.forward(seconds=0.1)
    one.turn()
    run(clock, clock.now + 3 * SECOND, SECOND, one)
    assert not state(task).active
    clock.now = T0 + 5 * HOUR + 30 * SECOND
    row.update(enabled=True)
    PeriodicTasks.update_changed()
    run(clock, T0 + 7 * HOUR, 5 * MINUTE, one)
    assert history(task) == [(T0 + 6 * HOUR, "fired", ""), (T0 + 7 * HOUR, "fired", "")]


@pytest.mark.parametrize("saves", [True, False])
@pytest.mark.parametrize("act", ["run", "pause"])
def test_acts_on_a_schedule_that_is_disabled(flush_broker, monkeypatch, act, saves):
    """What is run or paused while it is disabled, before any beat saw it, owes nothing of then."""
    clock = Clock()
    monkeypatch.setattr(overview, "now", clock)
    task = schedule(crontab("0"), enabled=False, saved_at=T0 - 30 * DAY)
    if act == "run":
        operations.run_now(task)
    else:
        operations.pause(task, "not yet")
        operations.resume(task)
    assert not state(task).active
    one = beat(clock)
    run(clock, T0 + 150 * MINUTE, 10 * MINUTE, one)
    if saves:
        change(task, clock, enabled=True)
    else:
        PeriodicTask.objects.filter(pk=task.pk).update(enabled=True)
        PeriodicTasks.update_changed()
    clock.forward(seconds=5)
    run(clock, T0 + 4 * HOUR, 5 * MINUTE, one)
    dues = [due for due in fired(task) if due != T0 or act != "run"]
    assert dues == [T0 + 3 * HOUR, T0 + 4 * HOUR]


def test_an_interval_begins_when_it_is_enabled(flush_broker):
    """An interval that is enabled again counts from then."""
    clock, task = Clock(), schedule(every(hours=1))
    one = beat(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    change(task, clock, enabled=False)
    run(clock, T0 + 3 * HOUR + 15 * MINUTE, 5 * MINUTE, one)
    change(task, clock, enabled=True)
    run(clock, T0 + 5 * HOUR, 5 * MINUTE, one)
    assert fired(task) == [T0 + HOUR, T0 + 4 * HOUR + 15 * MINUTE]


def test_a_schedule_of_another_scheduler_goes_on(flush_broker):
    """A schedule that the stock scheduler has run goes on after its last run."""
    clock = Clock()
    task = schedule(every(days=1), saved_at=T0 - 30 * DAY, last_run_at=T0 - 20 * HOUR)
    daily = schedule(crontab("0", "11"), saved_at=T0 - 30 * DAY, last_run_at=T0 - 25 * HOUR)
    run(clock, T0 + 5 * HOUR, 5 * MINUTE, beat(clock))
    assert fired(task) == [T0 + 4 * HOUR]
    assert fired(daily) == [T0 - HOUR]


@pytest.mark.parametrize("edited", [False, True])
def test_a_schedule_that_comes_back_from_another_scheduler(flush_broker, edited):
    """What the stock scheduler saw to while no beat of ours was up is not run once more."""
    every_time = {"catch_up": "all", "catch_up_limit": 100}
    clock = Clock()
    tasks = [schedule(when, policy=every_time) for when in (crontab("0"), every(hours=1))]
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, beat(clock))
    clock.now = T0 + 100 * MINUTE
    for task in tasks if edited else ():
        change(task, clock, **(crontab("0,20") if task.crontab else every(minutes=30)))
    told(clock)
    ran_at = T0 + 4 * HOUR + 3 * SECOND
    PeriodicTask.objects.update(last_run_at=ran_at)  # that scheduler's last run
    clock.now = T0 + 330 * MINUTE
    run(clock, T0 + 6 * HOUR + 5 * SECOND, 5 * MINUTE, beat(clock))
    left_to_it = [(T0 + n * HOUR, "missed", "late") for n in (2, 3, 4)]
    hours = [T0 + n * HOUR for n in (1, 5, 6)]
    wanted = [hours, [T0 + HOUR, ran_at + HOUR, ran_at + 2 * HOUR]]
    if edited:
        halves = [ran_at + n * 30 * MINUTE for n in (1, 2, 3, 4)]
        twenties = [T0 + n * MINUTE for n in (60, 260, 300, 320, 360)]
        wanted = [twenties, [T0 + HOUR, *halves]]
    for task, dues in zip(tasks, wanted, strict=True):
        assert [each for each in history(task) if each[1] != "fired"] == left_to_it
        assert fired(task) == dues


@pytest.mark.parametrize(
    "make", [lambda: clocked(T0 - MINUTE), lambda: every(hours=1), lambda: crontab("0")]
)
def test_a_one_off_that_another_scheduler_has_run(flush_broker, make):
    """A one-off schedule that the stock scheduler has run and not disabled yet runs no more."""
    clock, when = Clock(), {**make(), "one_off": True}
    task = schedule(when, saved_at=T0 - DAY, last_run_at=T0 - 30 * SECOND, total_run_count=1)
    run(clock, T0 + 3 * HOUR, 5 * MINUTE, beat(clock))
    task.refresh_from_db()
    assert [words[1:] for words in history(task)] == [("skipped", "exhausted")]
    assert not task.enabled
    change(task, clock, enabled=True)
    run(clock, T0 + 5 * HOUR, 5 * MINUTE, beat(clock))
    assert len(fired(task)) == (0 if task.clocked else 1)


def test_a_clocked_time_that_is_moved(flush_broker):
    """A clocked schedule that is moved runs at its new time only."""
    clock, task = Clock(), schedule(clocked(T0 + HOUR))
    one = beat(clock)
    run(clock, T0 + 30 * MINUTE, 5 * MINUTE, one)
    change(task, clock, clocked=clocked(T0 + 2 * HOUR)["clocked"])
    run(clock, T0 + 3 * HOUR, 5 * MINUTE, one)
    assert fired(task) == [T0 + 2 * HOUR]


def test_mending_a_bad_schedule(flush_broker):
    """A schedule that made no sense fires as soon as it does."""
    clock, task = Clock(), schedule(crontab("77"))
    one = beat(clock)
    run(clock, T0 + 10 * MINUTE, MINUTE, one)
    assert state(task).problem
    CrontabSchedule.objects.filter(pk=task.crontab_id).update(minute="*/5")
    PeriodicTasks.update_changed()
    run(clock, T0 + 20 * MINUTE, MINUTE, one)
    assert fired(task) == [T0 + 15 * MINUTE, T0 + 20 * MINUTE]
    assert not state(task).problem


def test_a_new_policy_takes_effect(flush_broker):
    """A policy that is saved alone is obeyed by a running beat."""
    clock, task = Clock(), schedule(crontab("*"))
    one = beat(clock)
    run(clock, T0 + MINUTE, 20 * SECOND, one)
    SchedulePolicy.objects.create(schedule=task, max_runs=2)
    run(clock, T0 + 5 * MINUTE, 20 * SECOND, one)
    assert len(fired(task)) == 2


@pytest.mark.parametrize("hour", range(0, 24, 5))
def test_crontabs_of_every_hour_are_kept_in_sight(flush_broker, hour):
    """A crontab many hours ahead, in whatever zone, fires; also when no beat was up around it."""
    clock = Clock()
    task = schedule(crontab("0", str(hour), "Asia/Kolkata"))
    run(clock, T0 + MINUTE, 5 * MINUTE, beat(clock))
    clock.forward(hours=30)
    run(clock, clock.now + MINUTE, 5 * MINUTE, beat(clock))
    assert len(fired(task)) == 1
