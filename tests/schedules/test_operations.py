"""What an operator does to schedules."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from reliable_tasks import overview
from reliable_tasks.models import Entry, Occurrence, OperatorAct, SchedulePolicy, TouchedEntry
from reliable_tasks.schedules import operations
from reliable_tasks.schedules.policy import delay_of
from tests.schedules.making import (
    DAY,
    HOUR,
    MINUTE,
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
    solar,
    state,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    """Give the test the hour that has just begun."""
    return timezone.now().replace(minute=0, second=0, microsecond=0)


def test_run_now(flush_broker, now):
    """A schedule runs now, also if it is disabled, and its occurrence says who wanted it."""
    task = schedule(crontab("0"), saved_at=now, enabled=False)
    row = operations.run_now(task, reason="to see it", by="Ann")
    assert (row.outcome, row.trigger, row.reason) == ("fired", "run_now", "By Ann: to see it")
    assert [entry.pk for entry in entries(task)] == [row.entry_id]
    task.refresh_from_db()
    assert (task.total_run_count, state(task).runs, task.enabled) == (1, 1, False)


def test_run_now_of_a_refused_call(flush_broker, now):
    """A call that the task refuses is an occurrence that was missed, with the reason."""
    task = schedule(crontab("0"), saved_at=now, args='["x", "y", "z"]')
    row = operations.run_now(task)
    assert (row.outcome, row.cause, Entry.objects.count()) == ("missed", "refused", 0)


def kept():
    """Return the record of what was done."""
    rows = OperatorAct.objects.order_by("pk")
    return list(rows.values_list("act", "by", "reason", "target", "done", "skipped"))


def test_acts_on_schedules_are_on_record(flush_broker, now):
    """Who ran, paused, resumed and backfilled what, and why, is on record; nothing else is."""
    task = schedule(crontab("0"), saved_at=now, name="nightly")
    row = operations.run_now(task, reason="to see it", by="Ann")
    until = timezone.now() + DAY
    operations.pause(task, "moving house", until=until, by="Ann")
    operations.resume(task, "moved", by="Bob")
    operations.resume(task, "moved", by="Bob")
    done = operations.backfill(task, now - 2 * HOUR, now, reason="lost", by="Bob")
    operations.backfill(task, now - 2 * HOUR, now, reason="lost", by="Bob")
    operations.backfill(task, now - DAY, now, reason="lost", by="Bob", dry_run=True)
    assert kept() == [
        ("run schedule", "Ann", "to see it", "schedule nightly", 1, 0),
        ("pause", "Ann", "moving house", "schedule nightly", 1, 0),
        ("resume", "Bob", "moved", "schedule nightly", 1, 0),
        ("backfill", "Bob", "lost", "schedule nightly", 3, 0),
    ]
    ran, paused, _, filled = OperatorAct.objects.order_by("pk")
    assert paused.details == {"until": until.isoformat()}
    assert filled.details == {"from": done.fired[0].isoformat(), "to": now.isoformat()}
    touched = TouchedEntry.objects.values_list("act", "entry_id", "result")
    assert (ran.pk, row.entry_id, "enqueued") in touched
    assert {pk for act, pk, _ in touched if act == filled.pk} == {
        entry.pk for entry in entries(task) if entry.pk != row.entry_id
    }


def test_a_run_that_was_refused_is_on_record(flush_broker, now):
    """Who tried to run a schedule whose call is refused is on record, with the refusal."""
    task = schedule(crontab("0"), saved_at=now, args='["x", "y", "z"]')
    row = operations.run_now(task, reason="try", by="Ann")
    operations.backfill(task, now - HOUR, now, reason="try", by="Ann")
    (run, filled) = OperatorAct.objects.order_by("pk")
    assert (run.done, run.skipped, run.details) == (0, 1, {"refused": row.reason})
    assert (filled.done, filled.skipped) == (0, 2)
    assert not TouchedEntry.objects.exists()


def test_an_act_that_fails_is_not_on_record(flush_broker, now, monkeypatch):
    """The record is written in the transaction of the act: one without the other never stays."""
    task = schedule(crontab("0"), saved_at=now)

    def fail(*_args, **_given):
        raise RuntimeError("no")

    monkeypatch.setattr("reliable_tasks.schedules.operations.send_after_commit", fail)
    monkeypatch.setattr("reliable_tasks.schedules.pausing.on_record", fail)
    with pytest.raises(RuntimeError):
        operations.run_now(task, reason="try")
    with pytest.raises(RuntimeError):
        operations.pause(task, "try")
    assert not OperatorAct.objects.exists()
    assert not Occurrence.objects.exists()
    assert not operations.standing(task).paused


def test_backfill_fires_what_has_not_fired(flush_broker, now):
    """A range is fired once: what has fired stays, what was missed is turned into fired."""
    clock = Clock(now - 5 * HOUR)
    task = schedule(crontab("0"), saved_at=clock.now)
    run(clock, now - 4 * HOUR, 10 * MINUTE, beat(clock))
    clock.now = now - HOUR
    run(clock, now - 59 * MINUTE, MINUTE, beat(clock))
    assert [words[1] for words in history(task)] == ["fired", "missed", "missed", "fired"]
    done = operations.backfill(task, now - 9 * HOUR, now - HOUR, reason="lost", by="Ann")
    assert done.already == [now - 4 * HOUR, now - HOUR]
    assert len(done.fired) == 7
    assert fired(task) == [now - n * HOUR for n in range(9, 0, -1)]
    assert len(entries(task)) == 9
    again = operations.backfill(task, now - 9 * HOUR, now - HOUR)
    assert (again.fired, len(again.already)) == ([], 9)
    assert len(entries(task)) == 9


def test_backfill_within_a_long_stretch(flush_broker, now):
    """Due times within a stretch that shares a row are fired, and the row tells of the rest."""
    clock = Clock(now - 3 * DAY)
    task = schedule(crontab("*"), saved_at=clock.now, policy={"catch_up": "skip"})
    run(clock, clock.now + timedelta(seconds=1), MINUTE, beat(clock))
    clock.now = now
    run(clock, now + timedelta(seconds=30), MINUTE, beat(clock))
    total = sum(row.count for row in Occurrence.objects.filter(schedule=task))
    begin = now - 3 * DAY
    done = operations.backfill(task, begin + MINUTE, begin + 10 * MINUTE)
    assert done.fired == [begin + n * MINUTE for n in range(1, 11)]
    assert operations.backfill(task, begin + MINUTE, begin + 10 * MINUTE).fired == []
    assert sum(row.count for row in Occurrence.objects.filter(schedule=task)) == total


def test_backfill_before_the_schedule_was_made(flush_broker, now):
    """Also an interval can be run for a time before it existed."""
    task = schedule(every(hours=6), saved_at=now)
    done = operations.backfill(task, now - DAY, now)
    assert done.fired == [now - n * 6 * HOUR for n in (4, 3, 2, 1, 0)]


def test_backfill_is_bounded_and_can_be_tried(flush_broker, now):
    """A dry run writes nothing, a limit holds, and an impossible range is refused."""
    task = schedule(crontab("0"), saved_at=now)
    dry = operations.backfill(task, now - DAY, now, dry_run=True)
    assert (len(dry.fired), Occurrence.objects.count()) == (25, 0)
    some = operations.backfill(task, now - DAY, now, limit=3)
    assert (some.fired, some.more) == ([now - n * HOUR for n in (24, 23, 22)], True)
    for start, end in [(now, now - HOUR), (now, now + DAY), (now.replace(tzinfo=None), now)]:
        with pytest.raises(ValueError, match="range"):
            operations.backfill(task, start, end)


def test_the_limit_of_a_backfill_counts_what_fires(flush_broker, now):
    """A backfill that is repeated until nothing is left gets to the end, whatever has fired."""
    task = schedule(crontab("0"), saved_at=now)
    results = [operations.backfill(task, now - 7 * HOUR, now, limit=3) for _ in range(4)]
    assert [len(each.fired) for each in results] == [3, 3, 2, 0]
    assert [each.more for each in results] == [True, True, False, False]


def test_backfill_leaves_alone_what_may_have_fired(flush_broker, now):
    """A due time whose occurrence was pruned may have fired; it fires again only if asked for."""
    clock = Clock(now - 5 * HOUR)
    task = schedule(crontab("0"), saved_at=clock.now)
    run(clock, now - 2 * HOUR, 10 * MINUTE, beat(clock))
    untouched = schedule(crontab("0"), saved_at=now)
    Occurrence.objects.filter(due_at__lt=now - 2 * HOUR).update(handled_at=now - 40 * DAY)
    assert sum(operations.prune_occurrences(30 * DAY)) == 2
    given = (now - 5 * HOUR, now - HOUR)
    dry = operations.backfill(task, *given, dry_run=True)
    done = operations.backfill(task, *given)
    unknown = [now - n * HOUR for n in (5, 4, 3)]
    assert (done.fired, done.already) == ([now - HOUR], [now - 2 * HOUR])
    assert (done.unknown, dry.unknown, dry.fired) == (unknown, unknown, done.fired)
    again = operations.backfill(task, *given, unknown_too=True)
    assert (again.fired, again.unknown) == (unknown, [])
    assert len(operations.backfill(untouched, *given).fired) == 5


def test_a_beat_does_not_repeat_what_was_backfilled(flush_broker, now):
    """A due time that was backfilled before a beat came to it is left alone by the beat."""
    clock = Clock(now - 3 * HOUR)
    task = schedule(crontab("0"), saved_at=clock.now, policy={"catch_up": "all"})
    operations.backfill(task, now - 2 * HOUR, now - 2 * HOUR)
    run(clock, now, 10 * MINUTE, beat(clock))
    assert fired(task) == [now - 2 * HOUR, now - HOUR, now]
    assert len(entries(task)) == 3


def test_a_stretch_leaves_out_what_was_backfilled(flush_broker, now):
    """A due time that was backfilled while no beat was up is not counted as missed as well."""
    clock = Clock(now - DAY)
    task = schedule(crontab("*"), saved_at=clock.now, policy={"catch_up": "skip"})
    run(clock, clock.now + timedelta(seconds=30), MINUTE, beat(clock))
    filled = [now - DAY + n * MINUTE for n in range(10, 21)]
    assert operations.backfill(task, filled[0], filled[-1]).fired == filled
    clock.now = now + timedelta(seconds=90)
    run(clock, now + 2 * MINUTE, timedelta(seconds=10), beat(clock))
    rows = Occurrence.objects.filter(schedule=task)
    assert any(row.count > 100 for row in rows)
    assert sum(row.count for row in rows) == 24 * 60 + 2
    assert fired(task)[: len(filled)] == filled


def test_pause_and_resume(flush_broker, now):
    """A pause stands with its reason and end, and a schedule that goes on makes up for nothing."""
    task = schedule(crontab("*"), saved_at=now)
    until = timezone.now() + DAY
    assert operations.pause(task, "moving house", until=until, by="Ann")
    told = operations.standing(task)
    assert (told.paused, told.pause_reason, told.paused_until) == (
        True,
        "By Ann: moving house",
        until,
    )
    # Somebody else's pause is theirs to end: nothing of it changes, and no act is on record.
    assert not operations.pause(task, "again", by="Bob")
    assert operations.standing(task) == told
    assert [by for _, by, *_ in kept()] == ["Ann"]
    # What was due before the pause is not kept back by it.
    assert all(each.paused for each in operations.next_runs(task, 3, after=timezone.now()))
    assert operations.resume(task, by="Ann")
    assert not operations.resume(task)
    assert not operations.standing(task).paused
    with pytest.raises(ValueError, match="ended already"):
        operations.pause(task, "late", until=timezone.now() - DAY)


def test_next_runs_tell_both_times(now):
    """The next runs are told in the schedule's own zone and in UTC, and count the jitter."""
    task = schedule(
        crontab("30", "2", "Asia/Kolkata"), saved_at=now, policy={"jitter": timedelta(minutes=5)}
    )
    runs = operations.next_runs(task, 3)
    assert [(each.local.hour, each.local.minute) for each in runs] == [(2, 30)] * 3
    assert [(each.due_at.hour, each.due_at.minute) for each in runs] == [(21, 0)] * 3
    assert all(timedelta(0) <= each.fires_at - each.due_at < 5 * MINUTE for each in runs)


def test_what_waits_for_its_jitter_comes_next(flush_broker, monkeypatch):
    """A due time that has passed is the next run until it has fired, as its jitter says."""
    clock, task = Clock(), schedule(crontab("0"))
    monkeypatch.setattr(overview, "now", clock)
    share = delay_of(task.pk, DAY) / DAY
    SchedulePolicy.objects.create(schedule=task, jitter=30 * MINUTE / share)
    one, task = beat(clock), PeriodicTask.objects.get(pk=task.pk)
    run(clock, T0 + 70 * MINUTE, 5 * MINUTE, one)
    (coming, _) = operations.next_runs(task, 2)
    assert (fired(task), coming.due_at) == ([], T0 + HOUR)
    assert operations.survey([task])[task.pk].next_run == coming
    run(clock, coming.fires_at + MINUTE, MINUTE, one)
    assert fired(task) == [T0 + HOUR]
    assert operations.next_runs(task, 1)[0].due_at == T0 + 2 * HOUR


def test_last_runs_are_the_latest(flush_broker, now):
    """The latest occurrences come first."""
    task = schedule(crontab("0"), saved_at=now)
    operations.backfill(task, now - DAY, now)
    rows = operations.last_runs(task, 3)
    assert [row.due_at for row in rows] == [now, now - HOUR, now - 2 * HOUR]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda now: crontab("30", "2", "Europe/Berlin"), "at 02:30 (Europe/Berlin)"),
        (lambda now: crontab("*/15"), "every 15 minutes (UTC)"),
        (lambda now: every(hours=3), "every 3 hours"),
        (lambda now: solar("sunset", 52, 13), "daily at sunset, 52"),
        (clocked, "once, at 20"),
    ],
)
def test_in_words(now, make, words):
    """Every kind of schedule can be told in words."""
    assert operations.describe(schedule(make(now), saved_at=now)).startswith(words)


def test_standing_of_a_bad_schedule(now):
    """A schedule that makes no sense stands with its problem."""
    assert "99" in operations.standing(schedule(crontab("99"), saved_at=now)).problem
    assert "JSON" in operations.standing(schedule(crontab(), saved_at=now, args="{")).problem


def test_remaining_runs(flush_broker, now):
    """What is left of ``max_runs`` is told, and can be reset."""
    task = schedule(crontab(), saved_at=now, policy={"max_runs": 3})
    operations.run_now(task)
    assert operations.standing(task).remaining == 2
    assert operations.reset_runs(task, reason="a new season", by="Ann")
    assert operations.standing(task).remaining == 3
    assert not operations.reset_runs(task, reason="again", by="Bob")
    assert kept()[1:] == [("reset runs", "Ann", "a new season", f"schedule {task.name}", 1, 0)]


def test_prune_occurrences(flush_broker, now):
    """Old occurrences are deleted, young ones stay."""
    task = schedule(crontab("0"), saved_at=now)
    operations.backfill(task, now - DAY, now)
    Occurrence.objects.filter(due_at__lt=now - HOUR).update(handled_at=now - 40 * DAY)
    assert sum(operations.prune_occurrences(timedelta(days=30))) == 23
    assert Occurrence.objects.count() == 2
