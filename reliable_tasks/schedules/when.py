"""When a schedule is due, as plain values: what code declares and what a row says, in one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab, schedule, solar
from django.utils.timezone import get_default_timezone

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_CRON: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
#: The units that a row counts in, the longest first.
_UNITS: Final = (
    ("days", timedelta(days=1)),
    ("hours", timedelta(hours=1)),
    ("minutes", timedelta(minutes=1)),
    ("seconds", timedelta(seconds=1)),
    ("microseconds", timedelta(microseconds=1)),
)
_COORDINATE: Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class When:
    """When a schedule is due.

    Attributes:
        kind: the column of the row that it is kept in: crontab, interval, solar or clocked.
        values: what identifies it, as JSON. Equal values mean the same times.
    """

    kind: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        match self.kind:
            case "crontab":
                return f"{self.values['cron']} {self.values['timezone']}"
            case "interval":
                every, period = _unit(timedelta(microseconds=self.values["microseconds"]))
                return f"every {every} {period}"
            case "solar":
                place = f"{self.values['latitude']}, {self.values['longitude']}"
                return f"{self.values['event']} at {place}"
        return f"at {self.values['at']}"


def when_of(given: Any, timezone: str | None = None) -> When:
    """Return when a declared schedule is due.

    Args:
        given: a cron line, seconds, a ``timedelta``, or a schedule object of Celery's or of
            django-celery-beat's.
        timezone: of a cron line; unless given, that of a ``TzAwareCrontab``, or
            ``CELERY_TIMEZONE``.

    Raises:
        ValueError: it is none of these, or the time zone has no meaning or does not exist.
    """
    from django_celery_beat.clockedschedule import clocked
    from django_celery_beat.tzcrontab import TzAwareCrontab

    if isinstance(given, TzAwareCrontab) and timezone is None:
        timezone = str(given.tz)
    if isinstance(given, (str, crontab)):
        return _cron(given, timezone)
    if timezone is not None:
        raise ValueError("'timezone' has a meaning for cron lines only; an interval has no clock")
    match given:
        case bool():
            pass
        case int() | float():
            return _interval(timedelta(seconds=given))
        case timedelta():
            return _interval(given)
        case solar():
            return _solar(given.event, given.lat, given.lon)
        case clocked():
            return _clocked(given.clocked_time)
        case schedule():
            return _interval(given.run_every)
    raise ValueError(
        f"'schedule' must be a cron line such as '30 2 * * *', seconds, a timedelta, or a schedule "
        f"object of Celery's; it is {given!r}"
    )


def when_of_row(row: PeriodicTask) -> When | None:
    """Return when a row is due; None if it says nothing.

    Args:
        row: a row of django-celery-beat.

    Raises:
        ValueError, LookupError, OverflowError: it makes no sense.
    """
    if (line := row.crontab) is not None:
        # The stock scheduler keeps the blanks of crontab("0, 30"); Celery reads them.
        parts = (getattr(line, part).replace(" ", "") for part in _CRON)
        return _cron(" ".join(parts), str(line.timezone))
    if (interval := row.interval) is not None:
        return _interval(interval.every * dict(_UNITS)[interval.period])
    if (sun := row.solar) is not None:
        return _solar(sun.event, sun.latitude, sun.longitude)
    if (clock := row.clocked) is not None:
        return _clocked(clock.clocked_time)
    return None


def zone_of(row: PeriodicTask) -> tzinfo:
    """Return the time zone that a row's times are meant in: a cron line's own, or the project's.

    Args:
        row: a row of django-celery-beat.
    """
    return row.crontab.timezone if row.crontab is not None else get_default_timezone()


def columns(when: When, using: str) -> dict[str, Any]:
    """Return the four columns of the row, one of them set; its object is found or written.

    Args:
        when: when the schedule is due.
        using: alias of the database of the row.
    """
    from django_celery_beat import models

    found: Any = None
    match when.kind:
        case "crontab":
            parts = dict(zip(_CRON, when.values["cron"].split(" "), strict=True))
            spec = {**parts, "timezone": ZoneInfo(when.values["timezone"])}
            found = _row(models.CrontabSchedule, spec, using)
        case "interval":
            every, period = _unit(timedelta(microseconds=when.values["microseconds"]))
            found = _row(models.IntervalSchedule, {"every": every, "period": period}, using)
        case "solar":
            spec = {
                "event": when.values["event"],
                "latitude": Decimal(when.values["latitude"]),
                "longitude": Decimal(when.values["longitude"]),
            }
            found = _row(models.SolarSchedule, spec, using)
        case "clocked":
            at = datetime.fromisoformat(when.values["at"])
            found = _row(models.ClockedSchedule, {"clocked_time": at}, using)
    return {kind: found if kind == when.kind else None for kind in KINDS}


KINDS: Final = ("crontab", "interval", "solar", "clocked")


def _row(model: Any, spec: dict[str, Any], using: str) -> Any:
    # These tables have no unique constraint. Two of the same do no harm: each schedule has its own.
    rows = model.objects.using(using)
    return rows.filter(**spec).order_by("pk").first() or rows.create(**spec)


def _cron(given: Any, timezone: str | None) -> When:
    if isinstance(given, str):
        parts = given.split()
        if len(parts) != len(_CRON):
            raise ValueError(
                f"a cron line has five parts (minute, hour, day of the month, month, day of the "
                f"week); {given!r} has {len(parts)}"
            )
    else:
        parts = [_field(given, part) for part in _CRON]
    try:
        crontab(**dict(zip(_CRON, parts, strict=True)))
    except (ParseException, ValueError) as error:
        raise ValueError(f"{' '.join(parts)!r} is no cron line: {error}") from error
    return When("crontab", {"cron": " ".join(parts), "timezone": _zone(timezone)})


def _field(line: Any, part: str) -> str:
    written = getattr(line, f"_orig_{part}")
    if not isinstance(written, (str, int)):  # numbers one by one, as in crontab(hour=[2, 3])
        written = ",".join(map(str, sorted(getattr(line, part))))
    return str(written).replace(" ", "")


def _zone(name: str | None) -> str:
    from django_celery_beat.models import crontab_schedule_celery_timezone

    if name is None:
        return str(crontab_schedule_celery_timezone())
    try:
        return ZoneInfo(name).key
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"'timezone' is {name!r}, which is no time zone's name") from error


def _interval(length: timedelta) -> When:
    if length <= timedelta(0):
        raise ValueError("'schedule' is an interval that is not greater than zero")
    return When("interval", {"microseconds": length // timedelta(microseconds=1)})


def _unit(length: timedelta) -> tuple[int, str]:
    for period, unit in _UNITS:
        if not length % unit:
            return length // unit, period
    raise AssertionError(length)  # every timedelta is whole microseconds


def _solar(event: str, latitude: Any, longitude: Any) -> When:
    place = [str(Decimal(str(part)).quantize(_COORDINATE)) for part in (latitude, longitude)]
    return When("solar", {"event": event, "latitude": place[0], "longitude": place[1]})


def _clocked(at: datetime) -> When:
    if at.tzinfo is None:
        raise ValueError(f"the time of 'schedule' has no time zone: {at!r}")
    return When("clocked", {"at": at.astimezone(UTC).isoformat()})
