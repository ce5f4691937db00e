"""A year of ten thousand schedules, and three days of some on a real database."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime

import pytest

from reliable_tasks.gathering import Gathering
from reliable_tasks.ledger import occurrences, schedules
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules.beat import Beat
from reliable_tasks.schedules.spec import plan_from_json
from reliable_tasks.schedules.times import due_times
from tests.schedules.lives import BEGIN, Life
from tests.schedules.making import (
    HOUR,
    MINUTE,
    Clock,
    beat,
    crontab,
    every,
    fired,
    schedule,
    state,
)
from tests.schedules.simulation import Simulation

#: What becomes of a due time in the simulation, whose tasks take their calls.
REASONS = {
    *("fired", "missed: late", "missed: limit", "missed: window"),
    *("skipped: overlap", "skipped: paused", "skipped: exhausted"),
}
#: Ten times as many due times: a minute of computing and more.
FULL = os.environ.get("RELIABLE_TASKS_SIMULATION") == "full"


@pytest.mark.timeout(1800)
def test_a_year_of_ten_thousand_schedules():
    """Over a year with both changes of the clock and a thousand kills none is missed or doubled."""
    figures = Simulation(full=FULL).run()
    assert figures.schedules >= 10_000
    assert figures.kills > 900
    assert figures.lost_commits > 300
    assert figures.refused_doubles > 1000
    assert (figures.missing, figures.doubled, figures.unexplained) == (0, 0, 0), str(figures)
    assert figures.outcomes["fired"] > 100_000
    assert set(figures.outcomes) == REASONS
    assert figures.outcomes.total() == figures.due


class Killed(BaseException):
    """Ends a beat wherever it is, as SIGKILL does: nobody catches it."""


class Deaths:
    """Kills whoever calls a function, now and then: before it has done its work, or after.

    Args:
        rng: decides.
    """

    def __init__(self, rng):
        self._rng = rng
        self.where = []

    def around(self, act):
        def done(*args, **kwargs):
            self._maybe(act.__name__, "before")
            found = act(*args, **kwargs)
            self._maybe(act.__name__, "after")
            return found

        return done

    def _maybe(self, *where):
        if self._rng.random() < 0.05:
            self.where.append(where)
            raise Killed


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "begin",
    [datetime(2031, 3, 29, 12, tzinfo=UTC), datetime(2031, 10, 25, 12, tzinfo=UTC)],
    ids=["forward", "back"],
)
def test_beats_that_die_within_their_transaction(flush_broker, monkeypatch, begin):
    """Beats that die before or after any write leave each due time fired once, over a change."""
    rng = random.Random(7)
    clock = Clock(begin)
    policy = {"catch_up": "all", "catch_up_limit": 1000}
    made = [
        schedule(when, saved_at=begin, policy=policy)
        for zone in ("Europe/Berlin", "UTC", "America/New_York")
        for when in (
            crontab("30", "2", zone),
            crontab("0", "*", zone),
            crontab("15,45", "1-3", zone),
        )
    ] + [schedule(every(minutes=50), saved_at=begin, policy=policy)]
    deaths = Deaths(rng)
    for module, names in (
        (schedules, ("lock", "advance", "count_runs")),
        (occurrences, ("record_many",)),
        (Gathering, ("write",)),
        (Beat, ("_note",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, deaths.around(getattr(module, name)))
    _live(clock, begin + 24 * HOUR)
    monkeypatch.undo()
    _leader(clock).turn()
    assert {name for name, _ in deaths.where} == {
        *("lock", "advance", "count_runs", "record_many", "write", "_note")
    }
    for task in made:
        plan = plan_from_json(schedules.progress([task.pk])[task.pk].spec)
        wanted = list(due_times(plan, begin, begin + 24 * HOUR))
        assert fired(task) == wanted
        assert Entry.objects.filter(schedule=task.name).count() == len(wanted)
        assert state(task).runs == len(wanted)
    assert not Occurrence.objects.exclude(outcome="fired").exists()


def _live(clock, until):
    """Let two beats work that both believe to lead; one that dies is replaced."""
    alive = [_leader(clock), _leader(clock)]
    while clock.now < until:
        clock.now = min(until, clock.now + 15 * MINUTE)
        for number, each in enumerate(alive):
            try:
                each.turn()
            except Killed:
                alive[number] = _leader(clock)


def _leader(clock):
    """Return a beat that never asks whether it leads."""
    made = beat(clock)

    def lead():
        if not made._leads:
            made._begin()
            made._leads = True
        return True

    made._lead = lead
    return made


def drop(life, found, now, take):
    """Forget a due time that was written down."""
    doubled = take(life, found, now)
    if len(life.rows) % 7 == 3:
        life.rows.popitem()
    return doubled


def repeat(life, found, now, take):
    """Forget once that the schedule has moved ahead."""
    before = life.until
    doubled = take(life, found, now)
    if len(life.rows) == 3 and not doubled:
        life.until = before
    return doubled


def overrun(life, found, now, take):
    """Let runs last longer than anybody who settles is told."""
    life.free_at = BEGIN
    doubled = take(life, found, now)
    life.free_at = BEGIN
    return doubled


@pytest.mark.parametrize(
    ("fault", "figure"), [(drop, "missing"), (repeat, "doubled"), (overrun, "unexplained")]
)
def test_the_simulation_would_notice(monkeypatch, fault, figure):
    """A due time that is dropped or repeated, and a run in another's way, are found."""
    take = Life.take
    monkeypatch.setattr(Life, "take", lambda life, found, now: fault(life, found, now, take))
    assert getattr(Simulation(count=200).run(), figure) > 0


def test_the_simulation_would_notice_a_guard_that_is_gone(monkeypatch):
    """A second beat whose transaction nothing refuses accounts for due times twice."""
    monkeypatch.setattr(Simulation, "_is_refused", lambda *_: False)
    figures = Simulation(count=200).run()
    assert figures.doubled > 0
    assert figures.refused_doubles == 0
