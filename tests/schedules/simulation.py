"""A year of schedules by a virtual clock, with beats that are killed at random.

What is real here is the planner and the policies; what is simulated is the clock, the beats, how
long runs last, and the one transaction in which a schedule moves ahead.

``python -m tests.schedules.simulation`` prints what the suite runs, as the table of the docs;
``--full`` has ten times as many due times.
"""

from __future__ import annotations

import argparse
import bisect
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reliable_tasks.occurrence import CatchUp, Overlap
from reliable_tasks.schedules.deciding import Settlement, settle
from reliable_tasks.schedules.policy import Policy, delay_of
from reliable_tasks.schedules.spec import Clocked, Crontab, Interval, Plan, Solar
from tests.schedules.lives import BEGIN, END, EVERY, Judge, Life

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
TAKEOVER = 7 * SECOND
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "UTC")
OTHERS = (
    Policy(),
    Policy(catch_up=CatchUp.SKIP),
    Policy(catch_up=CatchUp.ALL, catch_up_limit=3, catch_up_window=6 * HOUR),
    Policy(catch_up=CatchUp.SKIP, misfire_grace=timedelta(hours=2), jitter=timedelta(minutes=5)),
    Policy(overlap=Overlap.SKIP),
    Policy(overlap=Overlap.BUFFER),
    Policy(overlap=Overlap.CANCEL, catch_up=CatchUp.ALL),
    Policy(max_runs=20),
    Policy(max_runs=3, catch_up=CatchUp.ALL, overlap=Overlap.BUFFER, jitter=timedelta(minutes=2)),
)
#: How long a schedule's runs last, where one may get into the next one's way.
LASTS = (10 * MINUTE, 90 * MINUTE, 26 * HOUR, 40 * DAY)


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
        lines = [
            ("schedules", self.schedules),
            ("due times in the year", self.due),
            *((name, count) for name, count in sorted(self.outcomes.items())),
            ("leading beats killed", self.kills),
            ("transactions that a beat died in", self.lost_commits),
            ("commits of a second beat that were refused", self.refused_doubles),
            ("**not accounted for**", self.missing),
            ("**accounted for twice**", self.doubled),
            ("**without a reason that holds**", self.unexplained),
        ]
        rows = [f"| {name} | {count:,} |" for name, count in lines]
        return "\n".join(["| | |", "|---|---:|", *rows, "", f"{self.seconds:.0f} s of computing"])


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
        if number + 1 == len(self._starts):  # after the year nobody is killed any more
            return wanted
        return wanted if wanted < self._ends[number] else self._starts[number + 1]

    def successor_of(self, instant: datetime) -> datetime:
        """Return when the next beat leads after the one that leads at an instant is gone."""
        number = bisect.bisect_right(self._starts, instant)
        return self._starts[number] if number < len(self._starts) else instant


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
            paused = None
            if number % 10 == 4:
                at = BEGIN + self._rng.random() * 300 * DAY
                paused = (at, at + self._rng.random() * 60 * DAY)
            lasts = LASTS[number // 2 // len(OTHERS) % len(LASTS)]
            life = Life(plan, policy, delay_of(number, policy.jitter), lasts, paused)
            self._live(life)
            self._judge(life)
        self.figures.seconds = time.perf_counter() - began
        return self.figures

    def _live(self, life: Life) -> None:
        not_before = BEGIN
        while (look := life.next_look()) is not None:
            now = self._beats.leads_from(max(look, not_before))
            before, situation = life.until, life.situation(now)
            found = settle(life.plan, life.policy, situation, now, delay=life.delay)
            if self._rng.random() < 0.002:  # killed before the commit: nothing was written
                self.figures.lost_commits += 1
                not_before = self._beats.successor_of(now)
                continue
            self.figures.doubled += self._commit(life, found, now)
            if self._rng.random() < 0.01:
                # A second beat that believes to lead has decided the same from the same row.
                self._commit_late(life, before, found, now)

    def _commit(self, life: Life, found: Settlement, now: datetime) -> int:
        return life.take(found, now)

    def _commit_late(self, life: Life, before: datetime, found: Settlement, now: datetime) -> None:
        if self._is_refused(life, before, found):
            self.figures.refused_doubles += 1
        else:
            self.figures.doubled += self._commit(life, found, now)

    def _is_refused(self, life: Life, before: datetime, found: Settlement) -> bool:
        # The guarded write of the progress finds another value than the one that was read. What
        # was buffered moves nothing, but its due time has an occurrence already.
        moved = life.until != before
        known = any(each.due in life.rows for each in found.verdicts)
        return moved or known

    def _judge(self, life: Life) -> None:
        figures, judge = self.figures, Judge(life)
        figures.due += len(judge.wanted)
        figures.missing += judge.missing()
        figures.unexplained += judge.unexplained()
        for verdict, _ in life.rows.values():
            if verdict.due > END:
                continue
            cause = f": {verdict.cause}" if verdict.cause else ""
            figures.outcomes[f"{verdict.fate}{cause}"] += 1


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
