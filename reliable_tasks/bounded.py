"""Reads of a stretch of time whose cost has a limit, however much happened in it.

Note [Bounded reads]: ten million entries may have ended, and a million may wait. So nothing here
counts a table. Each read is a range of an index, cut off after a number of rows that is stated;
what was cut off is estimated from the time that the rows before it took, and marked as an estimate.
A step is read in several slices, so that a burst at its start, as schedules make them, does not
stand for the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from .ledger.guard import ledger_connection

# SQLite allows 500 parts of a UNION, and there are up to 96 steps.
_SLICES: Final = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One stretch of time on the axis of a chart.

    Attributes:
        begin: where it begins.
        end: where it ends; what happens exactly then belongs to the next.
        whole: its length when it is over; the last one is still going on.
    """

    begin: datetime
    end: datetime
    whole: timedelta

    @property
    def minutes(self) -> float:
        """How long it has lasted."""
        return (self.end - self.begin).total_seconds() / 60

    @property
    def is_partial(self) -> bool:
        """Whether it still goes on."""
        return self.end - self.begin < self.whole


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a step.

    Attributes:
        step: the number of the step.
        begin: where it begins.
        end: where it ends.
    """

    step: int
    begin: datetime
    end: datetime

    def stretch(self, latest: datetime) -> float:
        """Return by how much more there is in all than there was until a time."""
        seen = max(latest - self.begin, timedelta(milliseconds=1))
        return (self.end - self.begin) / seen


def steps(at: datetime, length: timedelta, count: int) -> list[Step]:
    """Cut the time before a moment into equal steps on round times, the last one unfinished.

    Args:
        at: the moment.
        length: of a step.
        count: how many.
    """
    size = length.total_seconds()
    last = at.timestamp() // size * size
    begins = [datetime.fromtimestamp(last - n * size, UTC) for n in reversed(range(count))]
    return [Step(begin, min(begin + length, at), length) for begin in begins]


def slices_of(within: Iterable[Step]) -> Iterator[Slice]:
    """Cut steps into slices.

    Args:
        within: the steps.
    """
    for n, step in enumerate(within):
        length = (step.end - step.begin) / _SLICES
        for part in range(_SLICES):
            begin = step.begin + part * length
            yield Slice(n, begin, step.end if part == _SLICES - 1 else begin + length)


def for_each(slices: Sequence[Slice], sql: str, given: list[Any]) -> list[Any]:
    """Run one query for each slice, all in one statement.

    Args:
        slices: the slices.
        sql: with ``{begin}`` and ``{end}`` where a slice's times belong, in this order and last.
        given: the parameters before them.

    Returns:
        The rows, with the number of their slice in front.
    """
    connection = ledger_connection()
    if connection.vendor == "postgresql":
        # Planned once, not once for each slice: that is most of the time.
        lateral = sql.format(begin="slice.begin", end="slice.until")
        arrays = [list(range(len(slices))), [s.begin for s in slices], [s.end for s in slices]]
        return rows_of(
            connection,
            "SELECT slice.n, answer.* FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) "
            f"AS slice(n, begin, until) CROSS JOIN LATERAL ({lateral}) AS answer",
            [*arrays, *given],
        )
    part = sql.format(begin="%s", end="%s")
    params = [value for s in slices for value in (*given, *adapted(connection, s.begin, s.end))]
    parts = (f"SELECT {n}, part{n}.* FROM ({part}) part{n}" for n in range(len(slices)))
    return rows_of(connection, " UNION ALL ".join(parts), params)


def rows_of(connection: BaseDatabaseWrapper, sql: str, params: list[Any]) -> list[Any]:
    """Run a query and return all rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def adapted(connection: BaseDatabaseWrapper, *times: datetime) -> list[Any]:
    """Return times as this database takes them in raw SQL."""
    return [connection.ops.adapt_datetimefield_value(each) for each in times]


def as_time(value: Any) -> datetime | None:
    """Return a time as the raw answer of any of the databases has it."""
    if value is None:
        return None
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
