"""A schedule's year as it comes about in the simulation, and the judge who finds fault with it.

The judge knows nothing of the planner's reasons: he looks at when runs began and ended.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from reliable_tasks.occurrence import CatchUp, Cause, Fate, Overlap
from reliable_tasks.schedules.deciding import Settlement, Situation, Verdict
from reliable_tasks.schedules.policy import Policy
from reliable_tasks.schedules.spec import Plan
from reliable_tasks.schedules.times import due_times, next_due

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
#: A schedule of this policy must fire every due time, whatever happens to the beats.
EVERY = Policy(catch_up=CatchUp.ALL, catch_up_limit=1_000_000)


@dataclass(slots=True)
class Life:
    """A schedule's year as it comes about.

    Attributes:
        plan: its due times.
        policy: its policy.
        delay: its jitter.
        lasts: how long its runs last.
        paused: from when until when it is paused.
        until: how far it has come.
        buffered: a due time that waits.
        runs: when each run began and ended, in that order.
        free_at: when the last of them ends.
        rows: what became of each due time, and when that was decided.
        finished: it has had its runs, and is disabled.
    """

    plan: Plan
    policy: Policy
    delay: timedelta
    lasts: timedelta
    paused: tuple[datetime, datetime] | None
    until: datetime = BEGIN
    buffered: datetime | None = None
    runs: list[tuple[datetime, datetime]] = field(default_factory=list)
    free_at: datetime = BEGIN
    rows: dict[datetime, tuple[Verdict, datetime]] = field(default_factory=dict)
    finished: bool = False

    def next_look(self) -> datetime | None:
        """Return when a beat has to look at it next; None if not within the year."""
        if self.finished:
            return None
        due = next_due(self.plan, self.until)
        looks = [due + self.delay] if due is not None and due <= END else []
        if self.buffered is not None and self.buffered <= END:
            looks.append(max(self.buffered + self.delay, self.free_at))
        return min(looks, default=None)

    def situation(self, now: datetime) -> Situation:
        """Return what a beat knows when it settles."""
        paused = self.paused or (None, None)
        looks_at_runs = self.policy.overlap != Overlap.ALLOW or self.buffered is not None
        return Situation(
            handled_until=self.until,
            runs=len(self.runs),
            buffered=self.buffered,
            paused_at=paused[0],
            paused_until=paused[1],
            pause_reason="As the simulation likes it." if self.paused else "",
            busy=looks_at_runs and self.free_at > now,
        )

    def take(self, found: Settlement, now: datetime) -> int:
        """Write down what was settled; return how many due times had been accounted for before."""
        doubled = sum(each.due in self.rows for each in found.verdicts)
        if found.cancels:
            self._cancel(now)
        for each in found.verdicts:
            self.rows[each.due] = (each, now)
            if each.fate is Fate.FIRED:
                self.runs.append((now, now + self.lasts))
                self.free_at = now + self.lasts
        self.until, self.buffered = found.handled_until, found.buffered
        self.finished = found.finished
        return doubled

    def _cancel(self, now: datetime) -> None:
        self.free_at = now
        # All last the same time, so those that have not ended are the latest.
        number = len(self.runs)
        while number and self.runs[number - 1][1] > now:
            number -= 1
            self.runs[number] = (self.runs[number][0], now)


class Judge:
    """Finds fault with a year, from the due times and from when runs began and ended."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.wanted = [
            due
            for due in due_times(life.plan, BEGIN, END)
            if not life.finished or due <= life.until
        ]

    def missing(self) -> int:
        """Return how many due times nothing became of."""
        return sum(due not in self._life.rows for due in self.wanted)

    def unexplained(self) -> int:
        """Return how many have no reason that holds, and how many runs there may not have been."""
        life, extra = self._life, set(self._life.rows) - set(self.wanted)
        wrong = sum(due <= END for due in extra)
        wrong += sum(not self._holds(*row) for row in life.rows.values())
        if life.policy.max_runs is not None:
            wrong += max(0, len(life.runs) - life.policy.max_runs)
        if life.policy.overlap != Overlap.ALLOW:
            wrong += sum(later[0] < run[1] for run, later in pairwise(life.runs))
        return wrong

    def _holds(self, verdict: Verdict, now: datetime) -> bool:
        life = self._life
        late = now - verdict.due - life.delay
        if late < timedelta(0):
            return False
        if verdict.fate is Fate.FIRED:
            in_time = late <= life.policy.misfire_grace
            waits = life.policy.overlap == Overlap.BUFFER
            return waits or in_time or life.policy.catch_up != CatchUp.SKIP
        if verdict.cause in (Cause.LATE, Cause.LIMIT, Cause.WINDOW):
            return life.policy is not EVERY and late > life.policy.misfire_grace
        if verdict.cause is Cause.PAUSED:
            return self._is_paused(verdict.due + life.delay) or self._is_paused(now)
        if verdict.cause is Cause.OVERLAP:
            # Another run went on, or began at just that moment.
            number = bisect.bisect_right(life.runs, now, key=lambda run: run[0]) - 1
            return number >= 0 and life.runs[number][1] >= now
        if verdict.cause is Cause.EXHAUSTED:
            return life.policy.max_runs == len(life.runs)
        return False

    def _is_paused(self, at: datetime) -> bool:
        paused = self._life.paused
        return paused is not None and paused[0] <= at < paused[1]
