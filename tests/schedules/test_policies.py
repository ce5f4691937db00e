"""The policies that look at earlier runs, with real entries."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from reliable_tasks import ledger
from reliable_tasks.ledger import schedules as progress
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules import operations
from reliable_tasks.schedules.deciding import MOST, Situation, settle
from reliable_tasks.schedules.reading import read_one
from reliable_tasks.states import State
from tests.app import tasks
from tests.entries import bury, claim
from tests.schedules.making import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    Clock,
    beat,
    crontab,
    entries,
    fired,
    history,
    run,
    saved,
    schedule,
    state,
)

pytestmark = pytest.mark.django_db


def end(entry: Entry, *, well: bool = True) -> None:
    """Bring an entry to its end."""
    held = claim(entry.pk, now=timezone.now() + HOUR)
    if well:
        ledger.succeed(held)
    else:
        bury(held, now=timezone.now() + HOUR)


def test_overlap_skip_waits_for_the_entry(flush_broker):
    """With overlap "skip" nothing fires while the entry of the last run is alive."""
    clock, task = Clock(), schedule(crontab("*"), policy={"overlap": "skip"})
    one = beat(clock)
    run(clock, T0 + 3 * MINUTE, 20 * SECOND, one)
    assert [words[1:] for words in history(task)] == [
        ("fired", ""),
        ("skipped", "overlap"),
        ("skipped", "overlap"),
    ]
    end(entries(task)[0])
    run(clock, T0 + 4 * MINUTE, 20 * SECOND, one)
    assert fired(task) == [T0 + MINUTE, T0 + 4 * MINUTE]


def test_overlap_buffer_fires_when_the_entry_ends(flush_broker):
    """With overlap "buffer" one due time waits, and fires once the run before it has ended."""
    clock, task = Clock(), schedule(crontab("*/10"), policy={"overlap": "buffer"})
    one = beat(clock)
    run(clock, T0 + 31 * MINUTE, MINUTE, one)
    assert state(task).buffered == T0 + 20 * MINUTE
    assert history(task) == [
        (T0 + 10 * MINUTE, "fired", ""),
        (T0 + 30 * MINUTE, "skipped", "overlap"),
    ]
    end(entries(task)[0])
    run(clock, clock.now + 2 * SECOND, SECOND, one)
    assert fired(task) == [T0 + 10 * MINUTE, T0 + 20 * MINUTE]
    assert state(task).buffered is None


def test_overlap_buffer_survives_the_beat(flush_broker):
    """A due time that waits is fired by the beat that takes over."""
    clock, task = Clock(), schedule(crontab("*/10"), policy={"overlap": "buffer"})
    run(clock, T0 + 21 * MINUTE, MINUTE, beat(clock))
    end(entries(task)[0])
    clock.forward(seconds=10)
    run(clock, clock.now + 3 * SECOND, SECOND, beat(clock))
    assert fired(task) == [T0 + 10 * MINUTE, T0 + 20 * MINUTE]


def test_overlap_cancel_ends_the_old_run(flush_broker):
    """With overlap "cancel" the entry of the last run is cancelled, with the reason."""
    clock, task = Clock(), schedule(crontab("*"), policy={"overlap": "cancel"})
    run(clock, T0 + 2 * MINUTE, 20 * SECOND, beat(clock))
    old, new = entries(task)
    assert (old.state, new.state) == (State.CANCELLED, State.PENDING)
    assert task.name in old.reason


def test_failures_in_a_row_pause(flush_broker):
    """After so many dead runs in a row the schedule is paused, says why, and skips."""
    clock = Clock()
    task = schedule(crontab("*"), policy={"pause_after_failures": 2})
    one = beat(clock)
    for number, well in enumerate([False, True, False, False], start=1):
        run(clock, T0 + number * MINUTE, 20 * SECOND, one)
        end(entries(task)[-1], well=well)
    run(clock, T0 + 6 * MINUTE, 20 * SECOND, one)
    assert [words[1:] for words in history(task)][4:] == [("skipped", "paused")] * 2
    assert "2 runs" in state(task).pause_reason
    assert progress.resume(task.pk, clock.now)
    run(clock, T0 + 7 * MINUTE, 20 * SECOND, one)
    assert fired(task)[-1] == T0 + 7 * MINUTE


def test_max_runs_disables(flush_broker):
    """After its last run a schedule is disabled; enabled again it has all its runs again."""
    clock, task = Clock(), schedule(crontab("*"), policy={"max_runs": 2})
    one = beat(clock)
    run(clock, T0 + 5 * MINUTE, 20 * SECOND, one)
    task.refresh_from_db()
    assert (fired(task), task.enabled) == ([T0 + MINUTE, T0 + 2 * MINUTE], False)
    task.enabled = True
    task.save()
    saved(task, clock.now)
    run(clock, T0 + 7 * MINUTE, 20 * SECOND, one)
    assert fired(task)[2:] == [T0 + 6 * MINUTE, T0 + 7 * MINUTE]


def test_an_outage_ends_in_catch_up(flush_broker):
    """After a day without any beat each due time has a row, by the policy of its schedule."""
    clock = Clock()
    none = schedule(crontab("0"), policy={"catch_up": "skip"})
    newest = schedule(crontab("0"))
    some = schedule(crontab("0"), policy={"catch_up": "all", "catch_up_limit": 5})
    run(clock, T0 + MINUTE, 20 * SECOND, beat(clock))
    clock.forward(days=1)
    run(clock, clock.now + MINUTE, 20 * SECOND, beat(clock))
    assert [len(history(task)) for task in (none, newest, some)] == [24] * 3
    assert [len(fired(task)) for task in (none, newest, some)] == [0, 1, 5]
    assert fired(newest) == [T0 + 24 * HOUR]


def test_a_long_stretch_is_one_row(flush_broker):
    """A month without a beat does not fill the table: the old due times of one fate share a row."""
    clock, task = Clock(), schedule(crontab("*"), policy={"catch_up": "skip"})
    run(clock, T0 + SECOND, SECOND, beat(clock))
    clock.forward(days=30)
    run(clock, clock.now + MINUTE, 20 * SECOND, beat(clock))
    rows = Occurrence.objects.filter(schedule=task)
    assert rows.count() < 400
    minutes = (clock.now - T0) // MINUTE
    assert sum(row.count for row in rows) == minutes


def test_every_row_speaks_of_a_different_due_time(flush_broker):
    """Paused for a while, each due time has one row, with the reason of the pause."""
    clock = Clock(timezone.now().replace(microsecond=0))
    start = clock.now
    task = schedule(crontab("*"), saved_at=start)
    assert operations.pause(task, "moving house", by="Ann")
    assert not operations.pause(task, "still moving house", by="Ann")
    run(clock, start + 3 * MINUTE, 10 * SECOND, beat(clock))
    rows = list(Occurrence.objects.filter(schedule=task))
    assert {(row.outcome, row.cause, row.reason) for row in rows} == {
        ("skipped", "paused", "By Ann: moving house")
    }
    assert len(rows) == 3


def test_jitter_delays_by_less_than_it_says(flush_broker):
    """With jitter a due time fires later than it is due, within the jitter, and keeps its name."""
    clock, task = Clock(), schedule(crontab("*/5"), policy={"jitter": timedelta(seconds=60)})
    run(clock, T0 + 6 * MINUTE, SECOND, beat(clock))
    row = Occurrence.objects.get(schedule=task)
    assert row.due_at == T0 + 5 * MINUTE
    assert timedelta(0) <= row.handled_at - row.due_at <= timedelta(seconds=61)


def test_arguments_and_options_reach_the_entry(flush_broker):
    """Queue, priority, expiry and headers of a schedule become those of its entries."""
    clock = Clock()
    task = schedule(
        crontab("*"),
        task=tasks.add.name,
        args="[3]",
        kwargs='{"y": 4}',
        queue="reports",
        priority=7,
        expire_seconds=600,
        headers='{"colour": "red"}',
    )
    run(clock, T0 + MINUTE, 20 * SECOND, beat(clock))
    (entry,) = entries(task)
    assert (entry.args, entry.kwargs, entry.queue, entry.priority) == ([3], {"y": 4}, "reports", 7)
    assert entry.expires_at - entry.enqueued_at == timedelta(seconds=600)
    assert entry.options["headers"]["colour"] == "red"
    assert entry.schedule == task.name


def test_catch_up_runs_as_many_as_it_says(db):
    """The most that a policy may catch up are caught up, whatever its row says, from long ago."""
    task = schedule(crontab("*"), policy={"catch_up": "all", "catch_up_limit": 50_000})
    with pytest.raises(ValidationError, match="10000"):
        task.reliable_policy.full_clean()
    known, stands = read_one(task.pk), Situation(handled_until=T0)
    ran, more = 0, True
    while more:
        found = settle(known.plan, known.policy, stands, T0 + 30_000 * MINUTE)
        ran, more = ran + len(found.fires), found.more
        stands = replace(stands, handled_until=found.handled_until)
    assert ran == 10_000 + 2  # and the two that are in time
    assert 2 * known.policy.catch_up_limit <= MOST
