"""A schedule as a person says it: ``every 15 minutes from 09:00 to 17:45, Monday to Friday``.

Written from the sets of minutes, hours and days that Celery itself matches with, so that the words
are true also where cron lines are commonly misread: Celery runs on a day that fits both the day of
the month *and* the day of the week.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from celery.schedules import ParseException, crontab

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_WEEKDAYS: Final = (
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
)
_MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_FEW: Final = 6
_HOURS: Final = 24
_MINUTES: Final = 60


def describe(schedule: PeriodicTask) -> str:
    """Return when a schedule is due, in words, with the time zone where it matters.

    Args:
        schedule: a row of django-celery-beat.
    """
    if schedule.crontab is not None:
        line = schedule.crontab
        words = cron_in_words(
            line.minute, line.hour, line.day_of_month, line.month_of_year, line.day_of_week
        )
        return f"{words} ({line.timezone})"
    if schedule.interval is not None:
        return interval_in_words(schedule.interval.every, schedule.interval.period)
    if schedule.solar is not None:
        solar = schedule.solar
        return f"daily at {solar.get_event_display().lower()}, {solar.latitude}, {solar.longitude}"
    if schedule.clocked is not None:
        return f"once, at {schedule.clocked.clocked_time:%Y-%m-%d %H:%M:%S %Z}"
    return "never: it has no times"


def interval_in_words(every: int, period: str) -> str:
    """Return an interval in words.

    Args:
        every: how many.
        period: of what: ``seconds``, ``minutes``, ….
    """
    return f"every {period.removesuffix('s')}" if every == 1 else f"every {every} {period}"


def cron_in_words(
    minute: str, hour: str, day_of_month: str, month_of_year: str, day_of_week: str
) -> str:
    """Return a cron line in words.

    Args:
        minute: as Celery's ``crontab`` takes it; the others too.
        hour: the hours.
        day_of_month: the days of the month.
        month_of_year: the months.
        day_of_week: the days of the week.

    Returns:
        The words; the line itself where Celery cannot read it.
    """
    line = f"{minute} {hour} {day_of_month} {month_of_year} {day_of_week}"
    try:
        found = crontab(
            minute=minute,
            hour=hour,
            day_of_month=day_of_month,
            month_of_year=month_of_year,
            day_of_week=day_of_week,
        )
    except (ParseException, ValueError):
        return f"never: {line!r} is no cron line"
    parts = [_times(sorted(found.minute), sorted(found.hour)), _days(found), _months(found)]
    return ", ".join(part for part in parts if part)


def _times(minutes: list[int], hours: list[int]) -> str:
    if len(minutes) * len(hours) <= _FEW:
        return f"at {_list([f'{h:02}:{m:02}' for h in hours for m in minutes])}"
    if len(minutes) == 1:
        return _hourly(minutes[0], hours)
    step = _step(minutes, _MINUTES)
    if step is None:
        within = "" if len(hours) == _HOURS else f" of {_hours(hours)}"
        past = f"at minute{'s' if len(minutes) > 1 else ''} {_ranges(minutes)}"
        return f"{past} {'of every hour' if not within else within.strip()}"
    often = "every minute" if step == 1 else f"every {step} minutes"
    if len(hours) == _HOURS:
        return often
    if _is_run(hours):
        return f"{often} from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return f"{often} in {_hours(hours)}"


def _hourly(minute: int, hours: list[int]) -> str:
    at = "on the hour" if minute == 0 else f"at {minute} past"
    if len(hours) == _HOURS:
        return f"every hour, {at}"
    if _is_run(hours):
        return f"every hour from {hours[0]:02}:{minute:02} to {hours[-1]:02}:{minute:02}"
    step = _step(hours, _HOURS)
    if step is not None:
        return f"every {step} hours, {at}"
    return f"at {_list([f'{hour:02}:{minute:02}' for hour in hours])}"


def _hours(hours: list[int]) -> str:
    return f"hour{'s' if len(hours) > 1 else ''} {_ranges(hours)}"


def _days(line: Any) -> str:
    month_days = ""
    if len(line.day_of_month) < 31:
        several = "s" if len(line.day_of_month) > 1 else ""
        month_days = f"day{several} {_ranges(sorted(line.day_of_month))}"
    week_days = _week(line.day_of_week)
    if month_days and week_days:
        return f"on {month_days} of the month if that is a {week_days}"
    return f"on {month_days} of the month" if month_days else week_days


def _week(days: Collection[int]) -> str:
    if len(days) == 7:
        return ""
    monday_first = sorted(days, key=lambda day: (day - 1) % 7)
    numbers = [(day - 1) % 7 for day in monday_first]
    names = [_WEEKDAYS[day] for day in monday_first]
    if len(names) > 2 and _is_run(numbers):
        return f"{names[0]} to {names[-1]}"
    return _list(names)


def _months(line: Any) -> str:
    months = sorted(line.month_of_year)
    if len(months) == 12:
        return ""
    names = [_MONTHS[month - 1] for month in months]
    if len(months) > 2 and _is_run(months):
        return f"from {names[0]} to {names[-1]}"
    return f"in {_list(names)}"


def _step(values: Sequence[int], size: int) -> int | None:
    """Return the step of values that divide the whole evenly, beginning at 0."""
    if len(values) < 2 or values[0] != 0 or size % len(values):
        return None
    step = size // len(values)
    return step if list(values) == list(range(0, size, step)) else None


def _is_run(values: Sequence[int]) -> bool:
    return len(values) > 1 and list(values) == list(range(values[0], values[-1] + 1))


def _ranges(values: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for value in values:
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return _list(
        [f"{run[0]}" if len(run) == 1 else f"{run[0]}\N{EN DASH}{run[-1]}" for run in parts]
    )


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
