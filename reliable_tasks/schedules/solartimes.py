"""The due times of an event of the sun. Pure.

Note [One event, one instant]: the search for an event gives an answer that differs by some
milliseconds with the instant that it starts from. So it always starts from midnight of a day in
UTC, and its answer is cut to whole seconds: everybody who looks for an event finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from celery.schedules import solar

from .spec import Solar

_DAY: Final = timedelta(days=1)
# Two answers closer than this are one event, seen from two days.
_APART: Final = timedelta(hours=1)
# Beyond the polar circles an event may not come for half a year.
_FARTHEST_DAYS: Final = 400


@lru_cache(maxsize=1024)
def _observer(spec: Solar) -> Any:
    return solar(spec.event, spec.latitude, spec.longitude)


@lru_cache(maxsize=20_000)
def _events(spec: Solar, midnight: datetime) -> tuple[datetime, ...]:
    """Return the events of one day of UTC. See Note [One event, one instant]."""
    found: list[datetime] = []
    start, end = midnight, midnight + _DAY
    while start < end:
        event = _next_event(_observer(spec), start)
        if event is None or event >= end:
            break
        found.append(event)
        start = event + _APART
    return tuple(found)


def _next_event(observer: Any, start: datetime) -> datetime | None:
    ephem = observer.ephem
    how = {"use_center": True} if observer.use_center else {}
    try:
        event = getattr(observer.cal, observer.method)(
            ephem.Sun(), start=ephem.Date(start.replace(tzinfo=None)), **how
        )
    except ephem.CircumpolarError:  # not on this day
        return None
    moment: datetime = event.datetime()
    return moment.replace(microsecond=0, tzinfo=UTC)


def solar_times(spec: Solar, after: datetime) -> Iterator[datetime]:
    """Yield the due times after an instant, in UTC, ascending.

    Ends where there is none for 400 days.

    Args:
        spec: the event and the place.
        after: the instant, aware.

    Raises:
        ImproperlyConfigured: the package ``ephem`` is not installed.
        ValueError: there is no such event or place.
    """
    midnight = after.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - _DAY
    newest = max(_events(spec, midnight), default=midnight - _DAY)
    barren = 0
    while barren <= _FARTHEST_DAYS:
        midnight += _DAY
        barren += 1
        for event in _events(spec, midnight):
            if event - newest < _APART:
                continue
            newest = event
            if event > after:
                barren = 0
                yield event
