"""A year of schedules by a virtual clock, with beats that are killed at random.

What is real here is the planner and the policies; what is simulated is the clock, the beats and the
one transaction in which a schedule moves ahead. ``python -m tests.schedules.simulation --full``
prints its figures.
"""

from __future__ import annotations

import argparse
import bisect
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from reliable_tasks.occurrence import CatchUp, Cause, Fate
from reliable_tasks.schedules.deciding import Settlement, Situation, settle
from reliable_tasks.schedules.policy import Policy, delay_of
from reliable_tasks.schedules.spec import Clocked, Crontab, Interval, Plan, Solar
from reliable_tasks.schedules.times import due_times, next_due

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
TAKEOVER = 7 * SECOND
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "UTC")
#: A schedule of this policy must fire every due time, whatever happens to the beats.
EVERY = Policy(catch_up=CatchUp.ALL, catch_up_limit=1_000_000)
OTHERS = (
    Policy(),
    Policy(catch_up=CatchUp.SKIP),
    Policy(catch_up=CatchUp.ALL, catch_up_limit=3, catch_up_window=6 * HOUR),
    Policy(catch_up=CatchUp.SKIP, misfire_grace=timedelta(hours=2), jitter=timedelta(minutes=5)),
)


@dataclass(slots=True)
class Figures:
    """What a simulation came to."""

    schedules: int = 0
    due: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    lost_commits: int = 0
    refused_doubles: int = 0
    missing: int = 0
    doubled: int = 0
    unexplained: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(self.outcomes.items()))
        return (
            f"{self.schedules:,} schedules, {self.due:,} due times ({told}); {self.kills:,} kills "
            f"of a leading beat, {self.lost_commits:,} transactions lost with it, "
            f"{self.refused_doubles:,} second beats refused; {self.missing} not accounted for, "
            f"{self.doubled} doubled, {self.unexplained} unexplained; {self.seconds:.1f} s"
        )


class Beats:
    """When some beat leads: a year of kills, of which a few leave no beat alive for a while."""

    def __init__(self, rng: random.Random) -> None:
        self.kills = 0
        self._starts: list[datetime] = []
        self._ends: list[datetime] = []
        at = BEGIN - DAY
        while at < END + DAY:
            lives = timedelta(hours=rng.expovariate(1 / 8))
            self._starts.append(at)
            self._ends.append(at + lives)
            gone = TAKEOVER * rng.random()
            if rng.random() < 0.02:  # all of them, until somebody notices
                gone = timedelta(minutes=rng.choice([3, 20, 90, 600, 3000]) * rng.random())
            at += lives + gone
            self.kills += 1

    def leads_from(self, wanted: datetime) -> datetime:
        """Return the first instant from ``wanted`` on at which a beat leads."""
        number = bisect.bisect_right(self._starts, wanted) - 1
        return wanted if wanted < self._ends[number] else self._starts[number + 1]

    def successor_of(self, instant: datetime) -> datetime:
        """Return when the next beat leads after the one that leads at an instant is gone."""
        return self._starts[bisect.bisect_right(self._starts, instant)]


def plans(rng: random.Random, count: int, *, full: bool) -> Iterator[Plan]:
    """Yield plans of all kinds: many rare ones and a few busy ones."""
    for number in range(count):
        zone = ZONES[number % len(ZONES)]
        minute = str(rng.randrange(60))
        share = number / count
        if share < (0.30 if full else 0.01):
            yield Plan(Crontab(minute, rng.choice(["0", "1", "2", "3", "23"]), timezone=zone))
        elif share < (0.35 if full else 0.011):
            yield Plan(Crontab(minute, "*", timezone=zone))
        elif share < (0.352 if full else 0.0112):
            yield Plan(Crontab("*/15", "*", timezone=zone))
        elif share < 0.40:
            yield Plan(Interval(rng.randrange(5 * 86_400, 60 * 86_400) * 1_000_000, BEGIN))
        elif share < 0.42:
            yield Plan(Clocked(BEGIN + rng.random() * (END - BEGIN)))
        elif share < 0.90:
            yield Plan(Crontab(minute, "2", day_of_month=str(rng.randrange(1, 32)), timezone=zone))
        else:
            yield Plan(Crontab(minute, "2", day_of_week=str(rng.randrange(7)), timezone=zone))
    for event in ("sunrise", "sunset"):
        yield Plan(Solar(event, 52.5, 13.4))


class Simulation:
    """A year of many schedules.

    Args:
        seed: makes it the same each time.
        count: how many schedules.
        full: more busy ones.
    """

    def __init__(self, *, seed: int = 6, count: int = 10_000, full: bool = False) -> None:
        self._rng = random.Random(seed)
        self._beats = Beats(self._rng)
        self._plans = list(plans(self._rng, count, full=full))
        self.figures = Figures(schedules=len(self._plans), kills=self._beats.kills)

    def run(self) -> Figures:
        """Live through the year and judge it."""
        began = time.perf_counter()
        for number, plan in enumerate(self._plans):
            # Every second schedule must fire all; the others have all kinds of policies.
            policy = EVERY if number % 2 else OTHERS[number // 2 % len(OTHERS)]
            self._year_of(number, plan, policy)
        self.figures.seconds = time.perf_counter() - began
        return self.figures

    def _year_of(self, number: int, plan: Plan, policy: Policy) -> None:
        delay = delay_of(number, policy.jitter)
        rows: dict[datetime, tuple[Fate, Cause | None, datetime]] = {}
        until = BEGIN
        not_before = BEGIN
        while (due := next_due(plan, until)) is not None and due <= END:
            now = self._beats.leads_from(max(due + delay, not_before))
            found = settle(plan, policy, Situation(handled_until=until), now, delay=delay)
            if self._rng.random() < 0.002:  # killed before the commit: nothing was written
                self.figures.lost_commits += 1
                not_before = self._beats.successor_of(now)
                continue
            before, until = until, self._commit(rows, found, now)
            if self._rng.random() < 0.01:
                # A second beat that believes to lead has decided the same from the same row.
                self._commit_late(before, until)
        self._judge(plan, policy, delay, rows)

    def _commit(
        self,
        rows: dict[datetime, tuple[Fate, Cause | None, datetime]],
        found: Settlement,
        now: datetime,
    ) -> datetime:
        for each in found.verdicts:
            if each.due in rows:
                self.figures.doubled += 1
            rows[each.due] = (each.fate, each.cause, now)
        return found.handled_until

    def _commit_late(self, before: datetime, until: datetime) -> None:
        # The guarded write of the progress finds another value than the one that was read.
        assert before != until
        self.figures.refused_doubles += 1

    def _judge(
        self,
        plan: Plan,
        policy: Policy,
        delay: timedelta,
        rows: dict[datetime, tuple[Fate, Cause | None, datetime]],
    ) -> None:
        figures = self.figures
        wanted = list(due_times(plan, BEGIN, END))
        figures.due += len(wanted)
        figures.missing += sum(1 for due in wanted if due not in rows)
        figures.unexplained += len(rows.keys() - set(wanted) - {due for due in rows if due > END})
        for due, (fate, cause, now) in rows.items():
            figures.outcomes[f"{fate}:{cause}" if cause else str(fate)] += 1
            late = now - due - delay
            if late < timedelta(0):
                figures.unexplained += 1  # too early
            elif fate is Fate.FIRED:
                too_late = policy.catch_up == CatchUp.SKIP and late > policy.misfire_grace
                figures.unexplained += too_late
            else:
                explained = (
                    policy is not EVERY
                    and late > policy.misfire_grace
                    and cause
                    in (
                        Cause.LATE,
                        Cause.LIMIT,
                        Cause.WINDOW,
                    )
                )
                figures.unexplained += not explained


def main() -> None:
    """Run the simulation and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="ten times as many due times")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--schedules", type=int, default=10_000)
    options = parser.parse_args()
    simulation = Simulation(seed=options.seed, count=options.schedules, full=options.full)
    print(simulation.run())  # noqa: T201


if __name__ == "__main__":
    main()
