"""A schedule's policy as the planner takes it, and its jitter. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from ..occurrence import CatchUp, Overlap

_ZERO: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a schedule does besides its due times; see ``SchedulePolicy`` for the words."""

    catch_up: str = CatchUp.LATEST
    catch_up_limit: int = 10
    catch_up_window: timedelta | None = None
    misfire_grace: timedelta = timedelta(seconds=60)
    overlap: str = Overlap.ALLOW
    jitter: timedelta = _ZERO
    pause_after_failures: int | None = None
    max_runs: int | None = None


def delay_of(schedule: int, jitter: timedelta) -> timedelta:
    """Return how long after each due time a schedule fires: from zero to ``jitter``, evenly.

    The same each time, and spread over the schedules, so that a thousand schedules of every minute
    fire all over the minute.

    Args:
        schedule: the schedule's primary key.
        jitter: the longest delay.
    """
    if jitter <= _ZERO:
        return _ZERO
    digest = hashlib.blake2b(str(schedule).encode(), digest_size=8).digest()
    share = int.from_bytes(digest) / 2**64
    return timedelta(milliseconds=int(jitter.total_seconds() * 1000 * share))


def one_off(policy: Policy) -> Policy:
    """Return the policy of a schedule that is to run a single time."""
    return replace(policy, max_runs=1)
