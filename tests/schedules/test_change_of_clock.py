"""The contract of docs/schedules.md for the nights in which the clock changes, in five zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from reliable_tasks.schedules.spec import Clocked, Crontab, Interval, Plan, Solar
from reliable_tasks.schedules.times import due_times

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

# Zone, the day on which the clock goes forward, the day on which it goes back.
ZONES = [
    ("Europe/Berlin", date(2026, 3, 29), date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8), date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 10, 4), date(2026, 4, 5)),  # by half an hour
    ("Africa/Cairo", date(2026, 4, 24), date(2026, 10, 29)),  # at midnight
    ("America/Santiago", date(2026, 9, 6), date(2026, 4, 4)),  # at midnight, in the south
]
# Where the sun of each zone is looked at: latitude and longitude.
PLACES = {
    "Europe/Berlin": (52.5, 13.4),
    "America/New_York": (40.7, -74.0),
    "Australia/Lord_Howe": (-31.55, 159.08),
    "Africa/Cairo": (30.0, 31.2),
    "America/Santiago": (-33.4, -70.7),
}
CHANGES = [(zone, day) for zone, forward, back in ZONES for day in (forward, back)]
CRONTABS = [
    Crontab("0", "*"),
    Crontab("30", "*"),
    Crontab("*/15", "*"),
    Crontab("*", "*"),
    Crontab("30", "2"),
    Crontab("0", "0"),
    Crontab("15", "0,1,2,3,23"),
    Crontab("*/15", "1-3"),
    Crontab("0", "*/2"),
    Crontab("45", "1,23"),
]


def of_zone(spec: Crontab, zone: str) -> Crontab:
    return Crontab(spec.minute, spec.hour, timezone=zone)


def minutes(spec: str, size: int) -> set[int]:
    """Read a field as the tests above write them."""
    if spec == "*":
        return set(range(size))
    if spec.startswith("*/"):
        return set(range(0, size, int(spec[2:])))
    if "-" in spec:
        first, last = map(int, spec.split("-"))
        return set(range(first, last + 1))
    return {int(part) for part in spec.split(",")}


def by_watching_the_clock(spec: Crontab, begin: datetime, end: datetime) -> list[datetime]:
    """Find the due times as a person would who looks at the wall every minute.

    Knows nothing of offsets and changes; it only reads what the clock shows.
    """
    zone = ZoneInfo(spec.timezone)
    wanted = {
        (hour, minute) for hour in minutes(spec.hour, 24) for minute in minutes(spec.minute, 60)
    }
    shown: dict[tuple[date, int, int], list[datetime]] = {}
    order = []
    look = begin - 2 * DAY
    while look <= end + 2 * DAY:
        wall = look.astimezone(zone).replace(tzinfo=None)
        order.append((look, wall))
        shown.setdefault((wall.date(), wall.hour, wall.minute), []).append(look)
        look += MINUTE
    due = set()
    if len(minutes(spec.hour, 24)) == 24:
        for (_, hour, minute), times in shown.items():
            if (hour, minute) in wanted:
                due.update(times)
    else:
        day = begin.astimezone(zone).date() - DAY
        while day <= end.astimezone(zone).date() + DAY:
            for hour, minute in wanted:
                times = shown.get((day, hour, minute))
                wall = datetime.combine(day, time(hour, minute))
                # Left out: the first moment at which the clock shows something later.
                due.add(times[0] if times else next(at for at, seen in order if seen > wall))
            day += DAY
    return sorted(at for at in due if begin < at <= end)


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
@pytest.mark.parametrize("spec", CRONTABS, ids=lambda spec: f"{spec.minute} {spec.hour}")
def test_crontab_on_the_night_of_a_change(zone, day, spec):
    """On the days around a change a crontab is due exactly when the contract says."""
    spec = of_zone(spec, zone)
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - 30 * HOUR
    end = begin + 84 * HOUR
    assert list(due_times(Plan(spec), begin, end)) == by_watching_the_clock(spec, begin, end)


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
def test_daily_is_once_a_day(zone, day):
    """A daily crontab is due once on each local day, also on those of the changes."""
    info = ZoneInfo(zone)
    begin = datetime(day.year, day.month, day.day, tzinfo=info) - 10 * DAY
    found = list(due_times(Plan(Crontab("30", "2", timezone=zone)), begin, begin + 20 * DAY))
    assert [due.astimezone(info).date() for due in found] == [
        begin.date() + number * DAY for number in range(20)
    ]


@pytest.mark.parametrize(("zone", "forward", "back"), ZONES)
def test_every_quarter_keeps_its_pace(zone, forward, back):
    """Every 15 minutes stays every 15 minutes through both nights: no pause, no burst."""
    plan = Plan(Crontab("*/15", "*", timezone=zone))
    for day in (forward, back):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - 30 * HOUR
        found = list(due_times(plan, begin, begin + 72 * HOUR))
        assert {later - due for due, later in pairwise(found)} == {15 * MINUTE}


def test_a_time_that_is_left_out_is_due_at_the_change():
    """02:30 in Berlin, on the day that has none, is due at the instant at which 2 becomes 3."""
    plan = Plan(Crontab("30", "2", timezone="Europe/Berlin"))
    begin = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert next(due_times(plan, begin)) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_a_time_that_is_repeated_is_due_the_first_time():
    """02:30 in Berlin, on the day that has it twice, is due in summer time only."""
    plan = Plan(Crontab("30", "2", timezone="Europe/Berlin"))
    begin = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert next(due_times(plan, begin)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_day_that_is_left_out():
    """Samoa had no 30 December 2011: what was due on it is due when the 31st began."""
    plan = Plan(Crontab("0", "12", timezone="Pacific/Apia"))
    begin = datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia"))
    found = [
        due.astimezone(begin.tzinfo).isoformat() for due in due_times(plan, begin, begin + 2 * DAY)
    ]
    assert found == ["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
def test_interval_knows_no_zones(zone, day):
    """An interval is the same time on every day, whatever clocks on walls do."""
    first = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) - 3 * DAY
    plan = Plan(Interval(3 * 3600 * 1_000_000, first))
    found = list(due_times(plan, first - HOUR, first + 6 * DAY))
    assert found[0] == first
    assert {later - due for due, later in pairwise(found)} == {3 * HOUR}


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
def test_clocked_is_an_instant(zone, day):
    """A clocked schedule is due at its instant, once, also within a repeated hour."""
    for fold in (0, 1):
        at = datetime(day.year, day.month, day.day, 2, 30, tzinfo=ZoneInfo(zone), fold=fold)
        at = at.astimezone(UTC)
        plan = Plan(Clocked(at))
        assert list(due_times(plan, at - DAY)) == [at]
        assert list(due_times(plan, at)) == []


@pytest.mark.parametrize(("zone", "day"), CHANGES, ids=str)
@pytest.mark.parametrize("event", ["sunrise", "sunset"])
def test_sun_knows_no_zones(zone, day, event):
    """The sun comes up once a day through the change, at one instant for whoever looks."""
    pytest.importorskip("ephem")
    plan = Plan(Solar(event, *PLACES[zone]))
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - 5 * DAY
    found = list(due_times(plan, begin, begin + 10 * DAY))
    steps = [later - due for due, later in pairwise(found)]
    assert len(found) == 10
    assert all(abs(step - DAY) < 4 * MINUTE for step in steps)
    # Once on each day of the calendar there, also on that of the change.
    days = [due.astimezone(ZoneInfo(zone)).date() for due in found]
    assert days == [days[0] + number * DAY for number in range(10)]
    # From wherever one looks, the same instants.
    for number, due in enumerate(found[:-1]):
        assert next(due_times(plan, due)) == found[number + 1]
        assert next(due_times(plan, found[number + 1] - timedelta(seconds=1))) == found[number + 1]
        assert next(due_times(plan, due + 7 * HOUR)) == found[number + 1]


def test_the_sun_of_the_far_north():
    """Where the sun does not rise for months, the schedule waits for the day on which it does."""
    pytest.importorskip("ephem")
    plan = Plan(Solar("sunrise", 78.2, 15.6))
    found = next(due_times(plan, datetime(2025, 11, 20, tzinfo=UTC)))
    assert found.date() == date(2026, 2, 15)
