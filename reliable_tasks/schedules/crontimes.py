"""The due times of a crontab in its own time zone. Pure.

Note [Crontab and the change of the clock]: the contract, in the words of docs/schedules.md.

- A crontab that names every hour of the day follows the clock on the wall: it is due whenever that
  clock shows one of its times. The hour that is repeated in autumn has its due times twice, the
  hour that is left out in spring has none, so the pace stays the same.
- Any other crontab names times of a day, and each of them is due exactly once on each of its
  days. A time that the clock shows twice is due the first time. A time that the clock leaves out
  is due at the instant of the change. Times that come to the same instant are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from celery.schedules import crontab

from .spec import Crontab

_DAY: Final = 86_400
_EPOCH: Final = date(1970, 1, 1).toordinal()
# The calendar repeats after 28 years, and after 40 around a century without a leap day.
_FARTHEST_DAYS: Final = 41 * 366
_LAST_DAY: Final = date(9999, 12, 30).toordinal()
_REMEMBERED_DAYS: Final = 50_000


class Zone:
    """A time zone, with the offsets of its days remembered."""

    def __init__(self, name: str) -> None:
        self.info = ZoneInfo(name)
        self._days: dict[int, int | None] = {}

    def offset_of_day(self, ordinal: int) -> int | None:
        """Return the offset from UTC in seconds of a day; None if it changes during the day."""
        try:
            return self._days[ordinal]
        except KeyError:
            pass
        midnight = datetime.fromordinal(ordinal)
        offsets = {
            self.offset(midnight + timedelta(hours=hours), fold)
            for hours in (0, 12, 24)
            for fold in (0, 1)
        }
        found = offsets.pop() if len(offsets) == 1 else None
        if len(self._days) >= _REMEMBERED_DAYS:
            self._days.clear()
        self._days[ordinal] = found
        return found

    def offset(self, wall: datetime, fold: int) -> int:
        """Return the offset in seconds at a time of the wall clock."""
        delta = wall.replace(tzinfo=self.info, fold=fold).utcoffset()
        assert delta is not None
        return round(delta.total_seconds())

    def offset_at(self, epoch: int) -> int:
        """Return the offset in seconds at an instant."""
        delta = datetime.fromtimestamp(epoch, self.info).utcoffset()
        assert delta is not None
        return round(delta.total_seconds())

    def change_between(self, before: int, after: int) -> int:
        """Return the first second after ``before`` that has the offset of ``after``."""
        offset = self.offset_at(after)
        while after - before > 1:
            middle = (before + after) // 2
            if self.offset_at(middle) == offset:
                after = middle
            else:
                before = middle
        return after


@lru_cache(maxsize=1024)
def zone(name: str) -> Zone:
    """Return a time zone by its name.

    Raises:
        ZoneInfoNotFoundError, ValueError: there is none of that name.
    """
    return Zone(name)


@dataclass(frozen=True, slots=True)
class _Parsed:
    months: frozenset[int]
    days: frozenset[int]
    weekdays: frozenset[int]  # Sunday is 0
    seconds: tuple[int, ...]  # of the day, ascending
    every_hour: bool
    zone: Zone

    def due_on(self, ordinal: int) -> list[int]:
        """Return the due times of one local day in seconds since 1970, ascending."""
        local = (ordinal - _EPOCH) * _DAY
        offset = self.zone.offset_of_day(ordinal)
        if offset is not None:
            begin = local - offset
            return [begin + second for second in self.seconds]
        return self._due_on_change(ordinal, local)

    def _due_on_change(self, ordinal: int, local: int) -> list[int]:
        # See Note [Crontab and the change of the clock].
        due: set[int] = set()
        midnight = datetime.fromordinal(ordinal)
        for second in self.seconds:
            wall = midnight + timedelta(seconds=second)
            first, second_time = self.zone.offset(wall, 0), self.zone.offset(wall, 1)
            if first >= second_time:
                due.add(local + second - first)
                if self.every_hour:
                    due.add(local + second - second_time)
            elif not self.every_hour:
                due.add(
                    self.zone.change_between(local + second - second_time, local + second - first)
                )
        return sorted(due)


@lru_cache(maxsize=20_000)
def parse(spec: Crontab) -> _Parsed:
    """Read a crontab's fields.

    Raises:
        ValueError, ParseException, ZoneInfoNotFoundError: a field or the zone makes no sense.
    """
    fields = crontab(
        minute=spec.minute,
        hour=spec.hour,
        day_of_month=spec.day_of_month,
        month_of_year=spec.month_of_year,
        day_of_week=spec.day_of_week,
    )
    return _Parsed(
        months=frozenset(fields.month_of_year),
        days=frozenset(fields.day_of_month),
        weekdays=frozenset(fields.day_of_week),
        seconds=tuple(
            hour * 3600 + minute * 60
            for hour in sorted(fields.hour)
            for minute in sorted(fields.minute)
        ),
        every_hour=len(fields.hour) == 24,
        zone=zone(spec.timezone),
    )


def crontab_times(spec: Crontab, after: datetime) -> Iterator[datetime]:
    """Yield the due times after an instant, in UTC, ascending.

    Ends where there is none for 41 years, as for the thirtieth of February.

    Args:
        spec: the crontab.
        after: the instant, aware.
    """
    parsed = parse(spec)
    newest = after.timestamp()
    # The day before as well: a change of the clock may carry its times over midnight.
    ordinal = max(1, after.astimezone(parsed.zone.info).toordinal() - 1)
    barren = 0
    while ordinal <= _LAST_DAY and barren <= _FARTHEST_DAYS:
        day = date.fromordinal(ordinal)
        if day.month not in parsed.months:
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=1).toordinal()
            barren += following - ordinal
            ordinal = following
            continue
        # 1 January of the year 1 was a Monday, so this counts from Sunday as crontab does.
        if day.day in parsed.days and ordinal % 7 in parsed.weekdays:
            for epoch in parsed.due_on(ordinal):
                if epoch > newest:
                    newest = epoch
                    barren = 0
                    yield datetime.fromtimestamp(epoch, UTC)
        barren += 1
        ordinal += 1
