"""What makes a schedule's due times: four kinds, and how they are kept in JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

#: A shorter interval is planned as this one: a schedule is no busy loop.
SHORTEST_INTERVAL: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Crontab:
    """Times of the wall clock in a zone. The fields are as in Celery's ``crontab``."""

    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    day_of_week: str = "*"
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so much time, by the clock that knows no zones.

    Attributes:
        microseconds: from one due time to the next.
        first: the first due time; all others are whole intervals after it.
    """

    microseconds: int
    first: datetime

    @property
    def every(self) -> timedelta:
        """From one due time to the next."""
        return max(timedelta(microseconds=self.microseconds), SHORTEST_INTERVAL)


@dataclass(frozen=True, slots=True)
class Solar:
    """An event of the sun at a place, as Celery names it."""

    event: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Clocked:
    """One instant."""

    at: datetime


Spec = Crontab | Interval | Solar | Clocked

_KINDS: Final[dict[str, type[Spec]]] = {
    "crontab": Crontab,
    "interval": Interval,
    "solar": Solar,
    "clocked": Clocked,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """All due times of a schedule: its spec between a start and an end.

    Attributes:
        spec: which due times.
        start: none before; None for no start.
        end: none at or after; None for no end.
    """

    spec: Spec
    start: datetime | None = None
    end: datetime | None = None

    def same_times(self, other: Plan) -> bool:
        """Tell whether both say the same, wherever an interval began to count."""
        return self._uncounted() == other._uncounted()

    def _uncounted(self) -> Plan:
        if isinstance(self.spec, Interval) and self.start is None:
            return replace(self, spec=replace(self.spec, first=_NO_TIME))
        return self

    def to_json(self) -> dict[str, Any]:
        """Return what :func:`plan_from_json` reads."""
        return {
            "kind": _NAMES[type(self.spec)],
            **{name: _written(value) for name, value in asdict(self.spec).items()},
            "start": _written(self.start),
            "end": _written(self.end),
        }


_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = frozenset({"first", "at", "start", "end"})


def plan_from_json(value: Mapping[str, Any]) -> Plan | None:
    """Return the plan that was kept; None if there is none.

    Raises:
        ValueError, TypeError, KeyError: it is not what :meth:`Plan.to_json` wrote.
    """
    if not value:
        return None
    fields: dict[str, Any] = {
        name: datetime.fromisoformat(each) if name in _TIMES and each is not None else each
        for name, each in value.items()
    }
    kind = _KINDS[fields.pop("kind")]
    start, end = fields.pop("start"), fields.pop("end")
    return Plan(kind(**fields), start, end)


def _written(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
