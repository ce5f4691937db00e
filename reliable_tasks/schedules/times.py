"""Which due times a plan has between two instants. Pure: the same answer everywhere, at any time.

All instants are aware; due times are in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from .crontimes import crontab_times
from .solartimes import solar_times
from .spec import Clocked, Crontab, Interval, Plan, Solar

_INSTANT: Final = timedelta(microseconds=1)


def due_times(plan: Plan, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """Yield the due times of a plan, ascending, each once.

    Args:
        plan: what is due.
        after: only later ones.
        until: none after this; None for no limit.

    Raises:
        ValueError, ImproperlyConfigured and others: the plan's spec makes no sense.
    """
    if plan.start is not None:
        after = max(after, plan.start - _INSTANT)
    for due in _of_spec(plan.spec, after):
        if until is not None and due > until:
            return
        if plan.end is not None and due >= plan.end:
            return
        yield due


def next_due(plan: Plan, after: datetime) -> datetime | None:
    """Return the first due time after an instant; None if there is none."""
    return next(due_times(plan, after), None)


def next_dues(plan: Plan, after: datetime, count: int) -> list[datetime]:
    """Return the first few due times after an instant."""
    return list(islice(due_times(plan, after), count))


def _of_spec(spec: Crontab | Interval | Solar | Clocked, after: datetime) -> Iterator[datetime]:
    if isinstance(spec, Crontab):
        return crontab_times(spec, after)
    if isinstance(spec, Interval):
        return _interval_times(spec, after)
    if isinstance(spec, Solar):
        return solar_times(spec, after)
    return iter([spec.at.astimezone(UTC)] if spec.at > after else [])


def _interval_times(spec: Interval, after: datetime) -> Iterator[datetime]:
    every = spec.every
    first = spec.first.astimezone(UTC)
    due = first
    if after >= first:
        due = first + ((after - first) // every + 1) * every
    while True:
        yield due
        due += every
