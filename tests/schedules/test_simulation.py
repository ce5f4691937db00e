"""A year of ten thousand schedules, and three days of some on a real database."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime

import pytest

from reliable_tasks.ledger import occurrences, schedules
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules.spec import plan_from_json
from reliable_tasks.schedules.times import due_times
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

#: Ten times as many due times: a minute of computing and more.
FULL = os.environ.get("RELIABLE_TASKS_SIMULATION") == "full"


@pytest.mark.timeout(1800)
def test_a_year_of_ten_thousand_schedules():
    """Over a year with both changes of the clock and a thousand kills none is missed or doubled."""
    figures = Simulation(full=FULL).run()
    assert figures.schedules >= 10_000
    assert figures.kills > 900
    assert figures.lost_commits > 300
    assert (figures.missing, figures.doubled, figures.unexplained) == (0, 0, 0), str(figures)
    assert figures.outcomes["fired"] > 100_000


class Killed(BaseException):
    """Ends a beat wherever it is, as SIGKILL does: nobody catches it."""


class Deaths:
    """Kills whoever calls a function, now and then: before it has done its work, or after.

    Args:
        rng: decides.
    """

    def __init__(self, rng):
        self._rng = rng
        self.count = 0

    def around(self, act):
        def done(*args, **kwargs):
            self._maybe()
            found = act(*args, **kwargs)
            self._maybe()
            return found

        return done

    def _maybe(self):
        if self._rng.random() < 0.05:
            self.count += 1
            raise Killed


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "begin",
    [datetime(2031, 3, 29, 12, tzinfo=UTC), datetime(2031, 10, 25, 12, tzinfo=UTC)],
    ids=["forward", "back"],
)
def test_beats_that_die_within_their_transaction(flush_broker, monkeypatch, begin):
    """Beats that die between any two statements leave each due time fired once, over a change."""
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
        (occurrences, ("record",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, deaths.around(getattr(module, name)))
    _live(clock, begin + 24 * HOUR)
    monkeypatch.undo()
    _leader(clock).turn()
    assert deaths.count > 5
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


def test_the_simulation_would_notice():
    """A planner that drops or repeats a due time is caught by the simulation's judge."""
    simulation = Simulation(count=200)
    commit = simulation._commit

    def drop(rows, found, now):
        until = commit(rows, found, now)
        if simulation._rng.random() < 0.01:
            rows.popitem()
        return until

    simulation._commit = drop
    assert simulation.run().missing > 0
