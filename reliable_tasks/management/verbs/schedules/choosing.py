"""Which schedules a command line is about, and what it says of moments."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_date, parse_datetime

from ....schedules.when import zone_of
from ...console.parsing import Parser, hint
from ..selection import wrong

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

# One query for all that a schedule is made of.
_PARTS: Final = (
    *("crontab", "interval", "solar", "clocked"),
    *("reliable_policy", "reliable_state", "reliable_declared"),
)


def schedules() -> QuerySet[PeriodicTask]:
    """Return all schedules by name, with what they are made of."""
    from django_celery_beat.models import PeriodicTask

    rows: QuerySet[PeriodicTask] = PeriodicTask.objects.select_related(*_PARTS).order_by("name")
    return rows


def add_names(parser: Parser) -> None:
    """Add what schedules are chosen by."""
    parser.add_argument(
        *("names",), nargs="*", metavar="NAME", help="a schedule's name; * at the end: any rest"
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME",
        help="of this task; a * at the end stands for any rest",
    )
    parser.add_argument("--all", action="store_true", help="all schedules")


def chosen(options: dict[str, Any]) -> list[PeriodicTask]:
    """Return the schedules that a command line chooses.

    Raises:
        CommandError: it chooses none on purpose, or names one that does not exist.
    """
    names, tasks = options["names"], options["task"]
    if not names and not tasks and not options["all"]:
        raise wrong("Which schedules? Name them, give --task NAME, or --all.")
    if names and (tasks or options["all"]):
        raise wrong("Name schedules or choose them by --task or --all, not both.")
    if names:
        return _named(names)
    rows = schedules()
    return list(rows.filter(any_of("task", tasks)) if tasks else rows)


def one(name: str) -> PeriodicTask:
    """Return the schedule of a name.

    Raises:
        CommandError: there is none.
    """
    return _named([name])[0]


def _named(names: list[str]) -> list[PeriodicTask]:
    found = list(schedules().filter(any_of("name", names)))
    for name in names:
        if not any(_fits(name, each.name) for each in found):
            known = schedules().values_list("name", flat=True)[:1000]
            more = hint(name, known) if known else " There is none at all."
            raise wrong(f"There is no schedule {name!r}.{more}")
    return found


def any_of(field: str, patterns: Iterable[str]) -> Q:
    """Return the condition that a field is one of these, a * at the end standing for any rest."""
    found = Q()
    for pattern in patterns:
        starts = pattern.endswith("*")
        found |= Q(**{f"{field}__startswith": pattern[:-1]} if starts else {field: pattern})
    return found


def _fits(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def moment(text: str) -> datetime:
    """Read a date or a time, with or without an offset: ``2026-03-29``, ``2026-03-29T02:30``."""
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)) is not None:
            found = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - gets the schedule's
    except ValueError as error:  # the form is right, the day is not in the calendar
        raise argparse.ArgumentTypeError(f"{text!r}: {error}.") from None
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2026-03-29, 2026-03-29T02:30 or 2026-03-29T02:30+01:00."
        )
    return found


def in_zone(at: datetime, schedule: PeriodicTask) -> datetime:
    """Return a time that was read; without an offset it is meant in the schedule's own zone."""
    return at if at.tzinfo is not None else at.replace(tzinfo=zone_of(schedule))
