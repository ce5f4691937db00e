"""What the leading beat holds in memory: every enabled schedule, and when each fires next."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..ledger.schedules import Progress
from . import reading
from .reading import Row, Schedule, Unreadable
from .times import next_due

logger = logging.getLogger("reliable_tasks.beat")

# How soon a schedule is looked at again that waits for a run to end, or whose settling failed.
_BUFFER_PAUSE = timedelta(seconds=1)
_ERROR_PAUSE = timedelta(seconds=5)
# How many times at which nothing is to be done any more may be left in the heap.
_LEFT_OVER = 100


@dataclass(slots=True)
class Read:
    """What a new look at the rows came to.

    Attributes:
        changed: schedules that are new or edited, or were disabled and enabled again.
        gone: schedules that are deleted or disabled.
        unreadable: schedules whose rows make no sense, and why.
        unsaved: those of the changed whose own rows have not been saved since they were taken in:
            what they share with others was edited.
    """

    changed: list[Schedule] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    unsaved: set[int] = field(default_factory=set)


class Timetable:
    """The enabled schedules in the order in which they fire."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._saved_at: dict[int, datetime] = {}
        self._schedules: dict[int, Schedule] = {}
        self._until: dict[int, datetime] = {}
        self._next: dict[int, datetime] = {}
        self._heap: list[tuple[datetime, int]] = []
        self._have_run: set[int] = set()

    def __len__(self) -> int:
        return len(self._schedules)

    def find(self, schedule: int) -> Schedule | None:
        """Return a schedule by its id."""
        return self._schedules.get(schedule)

    def read(self, some: Collection[int] | None = None) -> Read:
        """Read rows, and find out what is not as it was.

        Args:
            some: only the rows of these schedules; None for all rows.
        """
        found = Read()
        seen = set()
        for row in reading.rows(some):
            seen.add(row[0])
            known = self._rows.get(row[0])
            part = reading.identity(row)
            saved_at = reading.saved_at(row)
            unsaved = self._saved_at.get(row[0]) == saved_at and row[0] in self._schedules
            self._saved_at[row[0]] = saved_at
            switched = row[0] in self._have_run and reading.was_disabled(row)
            if known == part and not switched:
                continue
            self._rows[row[0]] = part
            if unsaved:
                found.unsaved.add(row[0])
            try:
                found.changed.append(reading.read(row))
            except Unreadable as error:
                found.unreadable[row[0]] = str(error)
            except Exception as error:  # one row must not hide the others
                found.unreadable[row[0]] = f"{type(error).__name__}: {error}"
        known_before = self._rows if some is None else some
        found.gone = [each for each in known_before if each not in seen]
        for each in [*found.gone, *found.unreadable]:
            self.drop(each)
        for each in found.gone:
            self._rows.pop(each, None)
            self._saved_at.pop(each, None)
        return found

    def put(self, schedule: Schedule, progress: Progress) -> None:
        """Take a schedule in, and plan when it fires next.

        Args:
            schedule: the schedule, with the plan that counts.
            progress: how far it has come.

        Raises:
            Exception: its due times cannot be told.
        """
        self._schedules[schedule.id] = schedule
        if progress.runs:
            self._have_run.add(schedule.id)
        else:
            self._have_run.discard(schedule.id)
        self.moved(schedule.id, progress.handled_until)
        if progress.buffered is not None:
            self.look_at(schedule.id, progress.handled_until)

    def drop(self, schedule: int) -> None:
        """Forget a schedule until its row changes."""
        for known in (self._schedules, self._until, self._next):
            known.pop(schedule, None)
        self._have_run.discard(schedule)

    def forget_row(self, schedule: int) -> None:
        """Read a schedule anew, even if its row has not changed."""
        self._rows.pop(schedule, None)

    def moved(self, schedule: int, handled_until: datetime) -> None:
        """Note how far a schedule has come, and plan when it fires next."""
        known = self._schedules[schedule]
        self._until[schedule] = handled_until
        due = next_due(known.plan, handled_until)
        if due is None:
            self._next.pop(schedule, None)
        else:
            self.look_at(schedule, due + known.delay)

    def ran(self, schedules: Iterable[int]) -> None:
        """Note that schedules have run, so that one that was disabled since can be told."""
        self._have_run.update(schedules)

    def look_at(self, schedule: int, at: datetime) -> None:
        """Have a schedule settled at an instant instead of when it would be next."""
        self._next[schedule] = at
        heapq.heappush(self._heap, (at, schedule))
        # One that waits is looked at every second, and may be due next in a week.
        if len(self._heap) > 2 * len(self._next) + _LEFT_OVER:
            self._heap = [(when, each) for each, when in self._next.items()]
            heapq.heapify(self._heap)

    def look_soon(self, schedule: int, now: datetime, *, failed: bool = False) -> None:
        """Have a schedule settled after a pause, or when it is due, whichever comes first."""
        at = now + (_ERROR_PAUSE if failed else _BUFFER_PAUSE)
        planned = self._next.get(schedule)
        if failed or planned is None or at < planned:
            self.look_at(schedule, at)

    def due(self, now: datetime, limit: int) -> list[Schedule]:
        """Take out the schedules that are to be settled now, longest due first."""
        found: list[Schedule] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(found) < limit:
            at, schedule = heapq.heappop(heap)
            if self._next.get(schedule) == at:
                del self._next[schedule]
                found.append(self._schedules[schedule])
        return found

    def next_at(self) -> datetime | None:
        """Return when the next schedule is to be settled; None if none is."""
        heap = self._heap
        while heap and self._next.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None
