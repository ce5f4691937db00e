"""The policies: what becomes of due times that nobody handled in time, or that may not run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reliable_tasks.occurrence import CatchUp, Overlap
from reliable_tasks.schedules import deciding
from reliable_tasks.schedules.deciding import Situation, settle
from reliable_tasks.schedules.policy import Policy, delay_of
from reliable_tasks.schedules.spec import Crontab, Interval, Plan

T0 = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
EVERY_MINUTE = Plan(Crontab())


def decide(now, policy=None, plan=EVERY_MINUTE, **situation):
    """Return what a settlement comes to, with short words for each due time."""
    found = settle(plan, policy or Policy(), Situation(**{"handled_until": T0, **situation}), now)
    words = [
        ((each.due - T0) // MINUTE, each.fate.value, each.cause.value if each.cause else "")
        for each in found.verdicts
    ]
    return found, words


def fates(words, fate):
    return [minute for minute, each, _ in words if each == fate]


def test_in_time_all_run():
    """Whatever is handled within the grace runs, all of it."""
    found, words = decide(T0 + 5 * MINUTE, Policy(misfire_grace=HOUR, catch_up=CatchUp.SKIP))
    assert fates(words, "fired") == [1, 2, 3, 4, 5]
    assert found.handled_until == T0 + 5 * MINUTE


def test_skip_runs_only_what_is_in_time():
    """With catch-up off, what is later than the grace is missed, and says why."""
    found, words = decide(T0 + 10 * MINUTE, Policy(catch_up=CatchUp.SKIP))
    assert words == [(n, "missed", "late") for n in range(1, 9)] + [
        (9, "fired", ""),
        (10, "fired", ""),
    ]
    assert "catch-up is off" in found.verdicts[0].reason


@pytest.mark.parametrize(("minutes", "expected"), [(10, [9, 10]), (10.9, [10])])
def test_latest_gives_way_to_what_is_in_time(minutes, expected):
    """Catch-up of the latest runs no late one where a newer one is in time."""
    _, words = decide(T0 + minutes * MINUTE)
    assert fates(words, "fired") == expected


def test_latest_runs_the_newest():
    """After an outage the newest late due time runs once; the ones before it are missed."""
    plan = Plan(Crontab("0"))
    _, words = decide(T0 + 5 * HOUR + 20 * MINUTE, plan=plan)
    assert words == [(n * 60, "missed", "late") for n in (1, 2, 3, 4)] + [(300, "fired", "")]


def test_all_runs_the_newest_up_to_the_limit_in_order():
    """Catch-up of all runs the newest within the limit, oldest first; the others say why not."""
    policy = Policy(catch_up=CatchUp.ALL, catch_up_limit=3)
    _, words = decide(T0 + 10 * MINUTE + 30 * SECOND, policy)
    assert words == [
        *[(n, "missed", "limit") for n in range(1, 7)],
        *[(n, "fired", "") for n in range(7, 11)],  # three late ones and the one in time
    ]


@pytest.mark.parametrize("catch_up", [CatchUp.LATEST, CatchUp.ALL])
def test_nothing_runs_outside_of_the_window(catch_up):
    """What lies before the catch-up window is missed for that reason."""
    policy = Policy(catch_up=catch_up, catch_up_window=90 * MINUTE)
    plan = Plan(Crontab("0"))
    _, words = decide(T0 + 4 * HOUR + 50 * MINUTE, policy, plan)
    assert words == [
        (60, "missed", "window"),
        (120, "missed", "window"),
        (180, "missed", "window"),
        (240, "fired", ""),
    ]


def test_a_pause_skips_what_it_covers():
    """Due times within a pause are skipped with its reason, those before and after it are not."""
    found, words = decide(
        T0 + 5 * MINUTE,
        Policy(misfire_grace=HOUR),
        paused_at=T0 + 2 * MINUTE,
        paused_until=T0 + 4 * MINUTE,
        pause_reason="moving house",
    )
    assert words == [
        (1, "fired", ""),
        (2, "skipped", "paused"),
        (3, "skipped", "paused"),
        (4, "fired", ""),
        (5, "fired", ""),
    ]
    assert found.verdicts[1].reason == "moving house"


def test_overlap_skip():
    """While an earlier run has not ended, none begins; of several at once the first runs."""
    policy = Policy(overlap=Overlap.SKIP, misfire_grace=HOUR)
    _, words = decide(T0 + 2 * MINUTE, policy, busy=True)
    assert words == [(1, "skipped", "overlap"), (2, "skipped", "overlap")]
    _, words = decide(T0 + 2 * MINUTE, policy)
    assert words == [(1, "fired", ""), (2, "skipped", "overlap")]


def test_overlap_buffer_keeps_one():
    """The first due time during a run waits for its end; the ones after it are skipped."""
    policy = Policy(overlap=Overlap.BUFFER, misfire_grace=HOUR)
    found, words = decide(T0 + 3 * MINUTE, policy, busy=True)
    assert found.buffered == T0 + MINUTE
    assert words == [(2, "skipped", "overlap"), (3, "skipped", "overlap")]
    later = T0 + 3 * MINUTE + SECOND
    found, words = decide(later, policy, handled_until=T0 + 3 * MINUTE, buffered=T0 + MINUTE)
    assert (found.buffered, words) == (None, [(1, "fired", "")])
    found, words = decide(
        later, policy, handled_until=T0 + 3 * MINUTE, buffered=T0 + MINUTE, busy=True
    )
    assert (found.buffered, words) == (T0 + MINUTE, [])


def test_overlap_cancel():
    """The newest due time takes the place of whatever still runs."""
    policy = Policy(overlap=Overlap.CANCEL, misfire_grace=HOUR)
    found, words = decide(T0 + 2 * MINUTE, policy, busy=True)
    assert found.cancels
    assert words == [(1, "skipped", "overlap"), (2, "fired", "")]


def test_the_last_run_finishes():
    """With its last run a schedule is finished, and nothing runs after it."""
    policy = Policy(max_runs=3, misfire_grace=HOUR)
    found, words = decide(T0 + 5 * MINUTE, policy, runs=1)
    assert words == [(1, "fired", ""), (2, "fired", "")] + [
        (n, "skipped", "exhausted") for n in (3, 4, 5)
    ]
    assert found.finished


def test_what_waits_when_no_runs_are_left():
    """A due time that waits when somebody's runs have used up the last one is accounted for."""
    policy = Policy(max_runs=2, overlap=Overlap.BUFFER)
    waits = {"handled_until": T0 + MINUTE, "buffered": T0 + MINUTE}
    found, words = decide(T0 + 2 * MINUTE, policy, runs=2, busy=True, **waits)
    assert sorted(words) == [(1, "skipped", "exhausted"), (2, "skipped", "exhausted")]
    assert (found.finished, found.buffered) == (True, None)


def test_failures_pause():
    """A schedule whose runs fail is paused instead of run."""
    found, words = decide(T0 + MINUTE, failing="It failed.")
    assert words == [(1, "skipped", "paused")]
    assert found.pause == "It failed."


def test_a_thousand_schedules_spread_over_the_minute():
    """Jitter is the same each time, and spreads a thousand schedules evenly over the minute."""
    delays = [delay_of(number, MINUTE) for number in range(1000)]
    assert delays == [delay_of(number, MINUTE) for number in range(1000)]
    assert all(timedelta(0) <= delay < MINUTE for delay in delays)
    seconds = [sum(1 for delay in delays if delay // SECOND == n) for n in range(60)]
    assert max(seconds) < 35
    assert min(seconds) > 3


def test_jitter_moves_the_firing_not_the_due_time():
    """A due time with jitter is settled that much later, and keeps its name."""
    delay = 20 * SECOND
    situation = Situation(handled_until=T0)
    before = settle(EVERY_MINUTE, Policy(), situation, T0 + 79 * SECOND, delay=delay)
    after = settle(EVERY_MINUTE, Policy(), situation, T0 + 80 * SECOND, delay=delay)
    assert (before.fires, after.fires) == ([], [T0 + MINUTE])


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_long_outage_is_settled_in_parts(monkeypatch, catch_up):
    """Cut into parts, an outage comes to the same as in one piece."""
    policy = Policy(catch_up=catch_up, catch_up_limit=7, misfire_grace=150 * SECOND)
    plan, now = Plan(Interval(60_000_000, T0)), T0 + 1000 * MINUTE + SECOND
    whole = settle(plan, policy, Situation(handled_until=T0), now)
    assert not whole.more
    monkeypatch.setattr(deciding, "MOST", 40)
    monkeypatch.setattr(deciding, "MOST_FIRES", 4)
    parts, until, rounds = [], T0, 0
    while True:
        part = settle(plan, policy, Situation(handled_until=until), now)
        parts += [(each.due, each.fate) for each in part.verdicts]
        until, rounds = part.handled_until, rounds + 1
        if not part.more:
            break
    assert parts == [(each.due, each.fate) for each in whole.verdicts]
    assert rounds > 10
