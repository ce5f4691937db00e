"""Which due times lie between two instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.schedules.spec import (
    SHORTEST_INTERVAL,
    Clocked,
    Crontab,
    Interval,
    Plan,
    Solar,
    plan_from_json,
)
from reliable_tasks.schedules.times import due_times, next_due, next_dues

T0 = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(0, 4 * 365 * 86_400).map(
    lambda seconds: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
FIELD = st.sampled_from(["*", "*/7", "0", "3,21", "1-5"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
PLANS = st.one_of(
    st.builds(
        Crontab,
        minute=FIELD,
        hour=FIELD,
        day_of_week=st.sampled_from(["*", "1", "0,6"]),
        timezone=ZONES,
    ),
    st.builds(Interval, microseconds=st.integers(60_000_000, 10**12), first=INSTANTS),
).map(Plan)


@given(PLANS, INSTANTS, st.lists(st.integers(1, 400_000), max_size=6))
def test_cutting_a_stretch_changes_nothing(plan, begin, cuts):
    """Looked at in any pieces, a stretch of time has the same due times, each once."""
    end = begin + timedelta(seconds=sum(cuts))
    whole = list(due_times(plan, begin, end))
    pieces, at = [], begin
    for cut in cuts:
        until = at + timedelta(seconds=cut)
        pieces += due_times(plan, at, until)
        at = until
    assert pieces == whole
    assert sorted(set(whole)) == whole


@given(PLANS, INSTANTS)
def test_going_from_one_to_the_next(plan, begin):
    """The next due time after each due time is the following one."""
    found = next_dues(plan, begin, 12)
    assert [next_due(plan, due) for due in found[:-1]] == found[1:]


@given(PLANS)
def test_a_plan_survives_json(plan):
    """A plan that was kept means the same due times when it is read."""
    assert plan_from_json(plan.to_json()) == plan


@pytest.mark.parametrize("spec", [Solar("sunset", 1.5, -2.5), Clocked(T0)])
def test_other_plans_survive_json(spec):
    """Solar and clocked plans, start and end are kept as well."""
    plan = Plan(spec, T0, T0 + timedelta(days=3))
    assert plan_from_json(plan.to_json()) == plan


def test_all_fields_of_a_crontab_must_match():
    """As in Celery, day of month and day of week must both match."""
    plan = Plan(Crontab("0", "0", day_of_month="13", day_of_week="fri"))
    assert next_dues(plan, T0, 3) == [
        datetime(2026, 2, 13, tzinfo=UTC),
        datetime(2026, 3, 13, tzinfo=UTC),
        datetime(2026, 11, 13, tzinfo=UTC),
    ]


def test_a_rare_day_is_found():
    """A leap day that is a Monday is found decades ahead; where none comes the search ends."""
    assert next_due(Plan(Crontab("0", "0", "29", "2", "1")), T0) == datetime(
        2044, 2, 29, tzinfo=UTC
    )
    assert next_due(Plan(Clocked(T0)), T0) is None


def test_an_interval_does_not_drift():
    """Due times of an interval stay whole intervals after the first, however late one looks."""
    plan = Plan(Interval(7_000_000, T0))
    assert next_due(plan, T0 + timedelta(days=100, microseconds=1)) == T0 + timedelta(
        seconds=7 * (8_640_000 // 7 + 1)
    )


def test_the_shortest_interval():
    """An interval of microseconds is planned as a tenth of a second: a schedule is no busy loop."""
    found = next_dues(Plan(Interval(1, T0)), T0, 3)
    assert [later - due for due, later in pairwise(found)] == [SHORTEST_INTERVAL] * 2


def test_start_and_end_bound_every_kind():
    """No due time lies before the start, nor at or after the end."""
    plan = Plan(Crontab("*/10"), T0 + timedelta(minutes=10), T0 + timedelta(minutes=30))
    assert list(due_times(plan, T0 - timedelta(days=1))) == [
        T0 + timedelta(minutes=10),
        T0 + timedelta(minutes=20),
    ]
