"""What the charts of the overview show, in reads whose cost has a limit. Writes nothing.

See Note [Bounded reads] in ``bounded``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from . import overview
from .bounded import Step, adapted, as_time, for_each, rows_of, slices_of
from .ledger.guard import ledger_connection, moment
from .models import Attempt, Entry
from .overview import DeadGroup, QueueCounts
from .states import State

#: Most rows that one chart counts.
ROWS: Final = 60_000
#: Most successes from which latencies are taken.
TIMED: Final = 2_000
#: Most entries of which it is told what they died of.
DIED: Final = 10_000

_ENTRIES: Final = Entry._meta.db_table
_ATTEMPTS: Final = Attempt._meta.db_table


@dataclass(slots=True)
class Tally:
    """How often something happened during a step.

    Attributes:
        counts: how often, by kind.
        exact: False if it is an estimate.
    """

    counts: Counter[str] = field(default_factory=Counter)
    exact: bool = True

    @property
    def total(self) -> int:
        """How often in all."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Timing:
    """One success, as latencies see it.

    Attributes:
        step: in which step it ended.
        task: the task's name.
        wait: seconds from when it was due until its attempt began.
        run: seconds that the attempt took.
    """

    step: int
    task: str
    wait: float
    run: float


def ended(state: State, within: Sequence[Step]) -> list[Tally]:
    """Count the entries that ended in a state during each step.

    Args:
        state: succeeded, dead or cancelled.
        within: the steps.
    """
    source = f"SELECT state AS kind, finished_at AS at FROM {_ENTRIES} WHERE state = %s AND"
    return _tallies(source, [state.value], "finished_at", within)


def attempts(within: Sequence[Step]) -> list[Tally]:
    """Count the attempts that did not succeed during each step, by outcome.

    Args:
        within: the steps.
    """
    source = f"SELECT outcome AS kind, ended_at AS at FROM {_ATTEMPTS} WHERE"
    return _tallies(source, [], "ended_at", within)


def timings(within: Sequence[Step]) -> list[Timing]:
    """Return some successes of each step, no more than :data:`TIMED` in all.

    Args:
        within: the steps.
    """
    slices = list(slices_of(within))
    rows = for_each(
        slices,
        f"SELECT task, due_at, started_at, finished_at FROM {_ENTRIES} WHERE state = %s AND "
        "finished_at >= {begin} AND finished_at < {end} "
        f"ORDER BY finished_at LIMIT {max(1, TIMED // len(slices))}",
        [State.SUCCEEDED.value],
    )
    found = []
    for part, task, *times in rows:
        due, started, finished = (as_time(value) for value in times)
        if due is not None and started is not None and finished is not None:
            wait = max(0.0, (started - due).total_seconds())
            run = (finished - started).total_seconds()
            found.append(Timing(slices[part].step, task, wait, run))
    return found


def dying(since: datetime, limit: int) -> tuple[list[DeadGroup], bool]:
    """Return the largest groups of entries that died lately.

    Args:
        since: how far back.
        limit: how many groups at most.

    Returns:
        The groups, and whether all that died was looked at, or only the newest :data:`DIED`.
    """
    connection = ledger_connection()
    inner = (
        f"SELECT fingerprint, task, error_class, finished_at FROM {_ENTRIES} "
        f"WHERE state = %s AND finished_at >= %s ORDER BY finished_at DESC LIMIT {DIED}"
    )
    sql = (
        "SELECT fingerprint, task, error_class, COUNT(*), MAX(finished_at) "
        f"FROM ({inner}) newest GROUP BY fingerprint, task, error_class"
    )
    params = [State.DEAD.value, *adapted(connection, since)]
    rows = rows_of(connection, sql, params)
    rows.sort(key=lambda row: (-row[3], row[0], row[1]))
    groups = [
        DeadGroup(fingerprint, task, error_class, count, as_time(latest))
        for fingerprint, task, error_class, count, latest in rows[:limit]
    ]
    return groups, sum(row[3] for row in rows) < DIED


def live_queues() -> tuple[list[QueueCounts], bool]:
    """Count what waits and runs by queue.

    Returns:
        The queues by name, and whether all live entries were looked at, or only those
        :data:`~reliable_tasks.overview.SAMPLE` whose time comes first.
    """
    connection = ledger_connection()
    now, params = moment(connection)
    inner = (
        f"SELECT queue, state, due_at FROM {_ENTRIES} WHERE wake_at IS NOT NULL "
        f"ORDER BY wake_at LIMIT {overview.SAMPLE}"
    )
    sql = (
        f"SELECT queue, state, COUNT(*), SUM(CASE WHEN due_at <= {now} THEN 1 ELSE 0 END), "
        f"MIN(CASE WHEN due_at <= {now} THEN due_at END) FROM ({inner}) soonest "
        "GROUP BY queue, state"
    )
    found: dict[str, QueueCounts] = {}
    seen = 0
    for queue, state, count, due, oldest in rows_of(connection, sql, [*params, *params]):
        counts = found.setdefault(queue, QueueCounts(queue))
        seen += count
        if state == State.RUNNING:
            counts.running += count
            continue
        counts.due += int(due)
        counts.later += count - int(due)
        first = as_time(oldest)
        if first is not None:
            counts.oldest_due_at = min(first, counts.oldest_due_at or first)
    return [found[name] for name in sorted(found)], seen < overview.SAMPLE


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value below or at which so many per cent of the values lie.

    Args:
        ordered: the values, ascending, at least one.
        percent: from 0 to 100.
    """
    rank = -(-len(ordered) * percent // 100)  # the ceiling: the nearest-rank method
    return ordered[max(0, int(rank) - 1)]


def _tallies(source: str, given: list[Any], column: str, within: Sequence[Step]) -> list[Tally]:
    """Count rows of a kind in each step; see Note [Bounded reads]."""
    slices = list(slices_of(within))
    limit = max(1, ROWS // len(slices))
    rows = for_each(
        slices,
        f"SELECT kind, COUNT(*), MAX(at) FROM ({source} {column} >= {{begin}} AND "
        f"{column} < {{end}} ORDER BY {column} LIMIT {limit}) first GROUP BY kind",
        given,
    )
    by_part: dict[int, list[tuple[str, int, datetime | None]]] = defaultdict(list)
    for part, kind, count, latest in rows:
        by_part[part].append((kind, count, as_time(latest)))
    tallies = [Tally() for _ in within]
    for part, found in by_part.items():
        tally, factor = tallies[slices[part].step], 1.0
        if sum(count for _, count, _ in found) >= limit:
            latest = max(when for _, _, when in found if when is not None)
            factor = slices[part].stretch(latest)
            tally.exact = False
        for kind, count, _ in found:
            tally.counts[kind] += round(count * factor)
    return tallies
