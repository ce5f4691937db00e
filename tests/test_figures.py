"""What the charts are made of: right where little happened, bounded and marked where much did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import bounded, figures, ledger, overview
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from tests import entries

AT = datetime(2031, 5, 6, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def ago(seconds):
    return AT - timedelta(seconds=seconds)


def ended(state, when, count=1, **more):
    given = {"task": "t", "queue": "q", "due_at": when, "started_at": when, **more}
    rows = [Entry(state=state, finished_at=when, enqueued_at=when, **given) for _ in range(count)]
    return Entry.objects.bulk_create(rows)


def test_steps_are_round_and_the_last_is_unfinished():
    """Steps begin on round times, follow each other, and the last one ends now."""
    steps = bounded.steps(AT, MINUTE, 3)
    assert [f"{step.begin:%H:%M:%S}" for step in steps] == ["11:58:00", "11:59:00", "12:00:00"]
    assert [step.is_partial for step in steps] == [False, False, True]
    assert [step.minutes for step in steps] == [1.0, 1.0, 0.5]
    assert steps[-1].end == AT


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.CANCELLED])
def test_what_ended_is_counted_in_its_minute(db, state):
    """Each end counts once, in the step that it happened in, and other states do not."""
    ended(state, ago(90), 2)
    ended(state, AT.replace(second=0), 1)  # the very beginning of the last step
    ended(state, ago(200), 5)  # before the first
    ended(State.DEAD if state is not State.DEAD else State.CANCELLED, ago(90), 7)
    tallies = figures.ended(state, bounded.steps(AT, MINUTE, 3))
    assert [tally.total for tally in tallies] == [0, 2, 1]
    assert all(tally.exact for tally in tallies)


def test_attempts_are_counted_by_outcome(db):
    """Attempts that did not succeed count in their minute under their outcome."""
    (entry,) = ended(State.DEAD, ago(10))
    kinds = [Outcome.FAILED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.CRASHED]
    Attempt.objects.bulk_create(
        Attempt(entry=entry, number=n, outcome=kind, ended_at=ago(100 - n))
        for n, kind in enumerate(kinds)
    )
    before, last, _now = figures.attempts(bounded.steps(AT, MINUTE, 3))
    counts = before.counts + last.counts
    assert counts == {"failed": 2, "timeout": 1, "crashed": 1}


def test_what_is_cut_off_is_estimated_and_says_so(db, monkeypatch):
    """Where more happened than is read, the rest is estimated within a few per cent, and marked."""
    begin = AT - timedelta(seconds=30)
    Entry.objects.bulk_create(
        Entry(
            task="t",
            queue="q",
            state=State.SUCCEEDED,
            finished_at=begin - MINUTE + timedelta(seconds=60 * n / 600),
        )
        for n in range(600)
    )
    steps = bounded.steps(AT, MINUTE, 2)
    assert [each.total for each in figures.ended(State.SUCCEEDED, steps)] == [600, 0]
    monkeypatch.setattr(figures, "ROWS", 6 * 50)  # fifty for each of the six slices
    full, empty = figures.ended(State.SUCCEEDED, steps)
    assert (full.exact, empty.exact) == (False, True)
    assert 560 < full.total < 640


def test_no_more_rows_are_timed_than_stated(db, monkeypatch):
    """The sample of latencies has a limit, is spread over the steps, and is right."""
    for seconds in (150, 90, 10):
        when = ago(seconds)
        ended(
            State.SUCCEEDED,
            when,
            10,
            due_at=when - timedelta(seconds=5),
            started_at=when - timedelta(seconds=3),
        )
    monkeypatch.setattr(figures, "TIMED", 18)
    found = figures.timings(bounded.steps(AT, MINUTE, 3))
    assert len(found) <= 18
    assert {each.step for each in found} >= {1, 2}
    assert {(each.task, each.wait, each.run) for each in found} == {("t", 2.0, 3.0)}


def test_what_died_is_grouped(db, monkeypatch):
    """Deaths since a time are grouped by failure and task, largest first, and the cut is told."""
    ended(State.DEAD, ago(10), 3, fingerprint="a", error_class="app.A")
    ended(State.DEAD, ago(20), 1, fingerprint="b", error_class="app.B")
    ended(State.DEAD, ago(500), 9, fingerprint="c")
    groups, whole = figures.dying(ago(100), 10)
    assert [(each.fingerprint, each.error_class, each.count) for each in groups] == [
        ("a", "app.A", 3),
        ("b", "app.B", 1),
    ]
    assert groups[0].latest == ago(10)
    assert whole
    monkeypatch.setattr(figures, "DIED", 2)
    groups, whole = figures.dying(ago(100), 10)
    assert ([each.count for each in groups], whole) == ([2], False)


def test_live_queues(db, monkeypatch):
    """What waits and runs is counted by queue, as the command `status` counts it."""
    now = overview.now()
    for age, queue in ((30, "a"), (20, "a"), (10, "b")):
        entries.enqueue(now=now - timedelta(seconds=age), queue=queue)
    entries.enqueue(now=now, queue="a", delay=600.0)
    entries.running(now=now, queue="b")
    entries.in_state(State.SUCCEEDED, now=now)
    found, whole = figures.live_queues()
    wanted = overview.queues(timedelta(0))
    assert whole
    assert found == wanted
    assert [(each.due, each.later, each.running) for each in found] == [(2, 1, 0), (1, 0, 1)]
    monkeypatch.setattr(overview, "SAMPLE", 2)
    found, whole = figures.live_queues()
    assert not whole
    assert sum(each.due + each.later + each.running for each in found) == 2


def test_running_now_leaves_out_what_waits(db):
    """What runs is found by the end of its lease."""
    now = overview.now()
    held = entries.running(now=now)
    entries.enqueue(now=now)
    assert [each.pk for each in overview.running_now()] == [held.entry]
    ledger.succeed(held)
    assert not overview.running_now().exists()


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentile_is_the_nearest_rank(ordered, percent):
    """At least so many per cent of the values are no larger, and no smaller value can say that."""
    value = figures.percentile(ordered, percent)
    assert value in ordered
    assert sum(each <= value for each in ordered) * 100 >= percent * len(ordered)
    assert sum(each < value for each in ordered) * 100 < percent * len(ordered)


def test_what_runs_is_found_in_a_long_backlog(db, monkeypatch):
    """Overdue entries that wait hide nothing that runs, and what was not looked at is told."""
    monkeypatch.setattr(overview, "SAMPLE", 3)
    now = overview.now()
    for age in range(3600, 3610):
        entries.enqueue(now=now - timedelta(seconds=age))
    held = entries.running(now=now)
    assert [each.pk for each in overview.running_now()] == [held.entry]
    assert overview.count_running() == (1, False)
    ledger.cancel(overview.entries().waiting().values_list("pk", flat=True))
    left = entries.running(now=now - timedelta(hours=2))
    assert {each.pk for each in overview.running_now()} == {held.entry, left.entry}
    assert overview.count_running() == (2, True)


def test_the_queues_of_a_long_backlog(db, monkeypatch):
    """Queues are told of so many entries at both ends of the backlog, never of all."""
    monkeypatch.setattr(overview, "SAMPLE", 2)
    now = overview.now()
    for place, queue in enumerate("aabccdd"):
        entries.enqueue(now=now + timedelta(seconds=place), queue=queue)
    ended(State.SUCCEEDED, now, queue="done")
    assert overview.live_queues() == ["a", "d"]


def test_dead_letters_are_grouped_up_to_a_number(db, monkeypatch):
    """Only so many that died last are grouped, and the rest is told of."""
    ended(State.DEAD, ago(10), 2, fingerprint="a", error_class="app.A")
    ended(State.DEAD, ago(500), 2, fingerprint="b", error_class="app.B")
    groups, whole = overview.dead_groups(10)
    assert ([each.fingerprint for each in groups], whole) == (["a", "b"], True)
    monkeypatch.setattr(overview, "GROUPED", 2)
    groups, whole = overview.dead_groups(10)
    assert ([(each.fingerprint, each.count) for each in groups], whole) == ([("a", 2)], False)
