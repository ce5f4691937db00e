"""What becomes of due times: the policies of a schedule. Pure.

:func:`settle` is asked at some instant what to do with every due time that is not accounted for.
It answers with a verdict for each of them, in order, and how far that brings the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from ..occurrence import CatchUp, Cause, Fate, Overlap
from .policy import Policy
from .spec import Plan
from .times import due_times

#: Most due times that one settlement looks at; what is over is left to the next.
MOST: Final = 20_000
#: Most of them that fire in one settlement, which is one transaction.
MOST_FIRES: Final = 500
_ZERO: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What must be known of a schedule to settle its due times.

    Attributes:
        handled_until: all due times up to this one are accounted for.
        runs: how often it has run.
        buffered: a due time that waits for an earlier run to end.
        paused_at: since when it is paused; None if it is not.
        paused_until: when the pause ends or ended; None for not yet.
        pause_reason: why.
        busy: an earlier run has not ended.
        failing: why it must be paused now, because runs have failed; empty if not.
    """

    handled_until: datetime
    runs: int = 0
    buffered: datetime | None = None
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    pause_reason: str = ""
    busy: bool = False
    failing: str = ""

    def pause_covers(self, instant: datetime) -> bool:
        """Tell whether the pause covers an instant."""
        if self.paused_at is None or instant < self.paused_at:
            return False
        return self.paused_until is None or instant < self.paused_until


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one due time."""

    due: datetime
    fate: Fate
    cause: Cause | None = None
    reason: str = ""


@dataclass(slots=True)
class Settlement:
    """What becomes of the due times of a schedule.

    Attributes:
        verdicts: one for each due time that is decided, ascending but for a buffered one.
        handled_until: how far the schedule has come.
        buffered: a due time that waits for an earlier run to end.
        cancels: the earlier runs that have not ended are to be cancelled.
        pause: pause the schedule now, for this reason; empty for no.
        finished: no runs are left, so the schedule is to be disabled.
        more: there are more due times to settle at once.
    """

    handled_until: datetime
    verdicts: list[Verdict] = field(default_factory=list)
    buffered: datetime | None = None
    cancels: bool = False
    pause: str = ""
    finished: bool = False
    more: bool = False

    @property
    def fires(self) -> list[datetime]:
        """The due times that fire."""
        return [each.due for each in self.verdicts if each.fate is Fate.FIRED]


def settle(
    plan: Plan,
    policy: Policy,
    situation: Situation,
    now: datetime,
    *,
    delay: timedelta = _ZERO,
    until: datetime | None = None,
) -> Settlement:
    """Decide what becomes of every due time up to now that is not accounted for.

    Args:
        plan: the schedule's due times.
        policy: its policy.
        situation: where it stands.
        now: the present.
        delay: how long after its due time it fires; see :func:`delay_of`.
        until: the due times up to this one, also those whose delay has not passed yet; None for
            those that fire by now.

    Raises:
        ValueError and others: the plan's spec makes no sense.
    """
    newest = now - delay if until is None else min(until, now)
    dues = list(islice(due_times(plan, situation.handled_until, newest), MOST + 1))
    more = len(dues) > MOST
    if more:
        # The newest of them may be chosen by catch-up together with those that are to come.
        del dues[max(1, MOST - policy.catch_up_limit) :]
    judge = _Judge(policy, situation, now, delay)
    return judge.settle(dues, more=more)


class _Judge:
    def __init__(
        self, policy: Policy, situation: Situation, now: datetime, delay: timedelta
    ) -> None:
        self._policy = policy
        self._situation = situation
        self._now = now
        self._delay = delay
        self._busy = situation.busy
        self._runs = situation.runs
        self._result = Settlement(situation.handled_until, buffered=situation.buffered)

    def settle(self, dues: Sequence[datetime], *, more: bool) -> Settlement:
        result = self._result
        result.more = more
        self._release_buffered()
        chosen = self._caught_up([due for due in dues if not self._paused(due)], more=more)
        last = self._newest(chosen)
        for due in dues:
            if self._runs - self._situation.runs >= MOST_FIRES:
                result.more = True
                break
            result.handled_until = due
            if self._paused(due):
                self._not(due, Fate.SKIPPED, Cause.PAUSED, self._situation.pause_reason)
            elif (missed := chosen[due]) is not None:
                self._not(due, Fate.MISSED, *missed)
            else:
                self._run(due, newest=due == last)
        if result.finished and result.buffered is not None:  # disabled, it would wait for ever
            self._exhausted(result.buffered)
            result.buffered = None
        return result

    # -- which of them are to run -----------------------------------------------------------------

    def _caught_up(
        self, dues: Sequence[datetime], *, more: bool
    ) -> dict[datetime, tuple[Cause, str] | None]:
        """Return for each due time why it is missed; None for those that are to run."""
        policy = self._policy
        in_time = self._now - self._delay - policy.misfire_grace
        late = [due for due in dues if due < in_time]
        verdicts: dict[datetime, tuple[Cause, str] | None] = dict.fromkeys(dues)
        if not late:
            return verdicts
        caught: Sequence[datetime] = self._within_window(late)
        window = set(caught)
        if policy.catch_up == CatchUp.SKIP:
            caught = ()
        elif policy.catch_up == CatchUp.LATEST:
            caught = () if more or len(late) < len(dues) else caught[-1:]
        else:
            caught = () if more else caught[-policy.catch_up_limit :]
        kept = set(caught)
        for due in late:
            if due not in kept:
                verdicts[due] = self._why_missed(due in window)
        return verdicts

    def _within_window(self, late: Sequence[datetime]) -> Sequence[datetime]:
        window = self._policy.catch_up_window
        if window is None:
            return late
        oldest = self._now - self._delay - window
        return [due for due in late if due >= oldest]

    def _why_missed(self, in_window: bool) -> tuple[Cause, str]:
        policy = self._policy
        late = f"No beat handled it within {_seconds(policy.misfire_grace)} of its time"
        if not in_window:
            assert policy.catch_up_window is not None
            window = _seconds(policy.catch_up_window)
            return Cause.WINDOW, f"{late}, nor within the catch-up window of {window}."
        if policy.catch_up == CatchUp.ALL:
            return Cause.LIMIT, f"{late}; catch-up runs the newest {policy.catch_up_limit}."
        if policy.catch_up == CatchUp.LATEST:
            return Cause.LATE, f"{late}; catch-up runs only the newest."
        return Cause.LATE, f"{late}; catch-up is off."

    @staticmethod
    def _newest(chosen: dict[datetime, tuple[Cause, str] | None]) -> datetime | None:
        return next((due for due, missed in reversed(chosen.items()) if missed is None), None)

    # -- whether one that is to run does ----------------------------------------------------------

    def _release_buffered(self) -> None:
        due = self._result.buffered
        if due is None:
            return
        if self._situation.pause_covers(self._now):
            self._result.buffered = None
            self._not(due, Fate.SKIPPED, Cause.PAUSED, self._situation.pause_reason)
        elif not self._busy or self._policy.overlap != Overlap.BUFFER:
            self._result.buffered = None
            self._run(due, newest=True)

    def _run(self, due: datetime, *, newest: bool) -> None:
        policy = self._policy
        if policy.max_runs is not None and self._runs >= policy.max_runs:
            self._result.finished = True
            self._exhausted(due)
        elif self._situation.failing:
            self._result.pause = self._situation.failing
            self._not(due, Fate.SKIPPED, Cause.PAUSED, self._situation.failing)
        elif self._gives_way(due, newest=newest):
            return
        else:
            self._fire(due)

    def _gives_way(self, due: datetime, *, newest: bool) -> bool:
        overlap = self._policy.overlap
        if overlap == Overlap.CANCEL:
            if newest:
                self._result.cancels = self._busy
                return False
            self._not(due, Fate.SKIPPED, Cause.OVERLAP, "A newer run took its place at once.")
            return True
        if overlap == Overlap.ALLOW or not self._busy:
            return False
        if overlap == Overlap.SKIP:
            self._not(due, Fate.SKIPPED, Cause.OVERLAP, "An earlier run had not ended.")
        elif self._result.buffered is None:
            self._result.buffered = due
        else:
            self._not(
                due,
                Fate.SKIPPED,
                Cause.OVERLAP,
                "An earlier run had not ended, and one more waited already.",
            )
        return True

    def _fire(self, due: datetime) -> None:
        self._runs += 1
        self._busy = True
        self._result.verdicts.append(Verdict(due, Fate.FIRED))
        if self._policy.max_runs is not None and self._runs >= self._policy.max_runs:
            self._result.finished = True

    def _exhausted(self, due: datetime) -> None:
        reason = f"It has had its {self._policy.max_runs} runs."
        self._not(due, Fate.SKIPPED, Cause.EXHAUSTED, reason)

    def _paused(self, due: datetime) -> bool:
        return self._situation.pause_covers(due + self._delay)

    def _not(self, due: datetime, fate: Fate, cause: Cause, reason: str) -> None:
        self._result.verdicts.append(Verdict(due, fate, cause, reason))


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
