"""What an operator does to schedules. The admin and ``manage.py reliable_tasks`` call these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..schedule_models import Occurrence

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask


@dataclass(frozen=True, slots=True)
class Run:
    """A due time that is still to come.

    Attributes:
        due_at: the due time, in UTC.
        local: the same in the schedule's own time zone.
        fires_at: when it fires: the due time and the schedule's jitter, in UTC.
        paused: whether the pause that is set now covers it, so that it will be skipped.
    """

    due_at: datetime
    local: datetime
    fires_at: datetime
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a schedule stands.

    Attributes:
        words: its due times in words, with the time zone.
        enabled: whether it is enabled.
        paused: whether a pause is in force.
        pause_reason: why, in words.
        paused_until: when the pause ends by itself; None for not at all.
        remaining: how many runs are left; None for no limit.
        buffered: a due time that waits for an earlier run to end.
        handled_until: every due time up to this one is accounted for; None before a beat has seen
            the schedule.
        problem: why its due times cannot be told; empty if they can.
    """

    words: str
    enabled: bool
    paused: bool = False
    pause_reason: str = ""
    paused_until: datetime | None = None
    remaining: int | None = None
    buffered: datetime | None = None
    handled_until: datetime | None = None
    problem: str = ""


@dataclass(slots=True)
class BackfillResult:
    """What became of the due times of a range.

    Attributes:
        fired: due times that were fired.
        already: due times that had fired before, and were left alone.
        refused: due times whose call the task refused, with the reason.
        more: the range holds more due times than the limit; the oldest were taken.
    """

    fired: list[datetime] = field(default_factory=list)
    already: list[datetime] = field(default_factory=list)
    refused: dict[datetime, str] = field(default_factory=dict)
    more: bool = False


def run_now(schedule: PeriodicTask, *, reason: str = "", by: str = "") -> Occurrence:
    """Fire a schedule once, now, besides its due times; also if it is disabled or paused.

    It counts as a run for ``max_runs`` and pays no heed to overlap.

    Args:
        schedule: the schedule.
        reason: why, in words; kept on the occurrence.
        by: who, in words; kept with the reason.

    Returns:
        The occurrence; its ``outcome`` is "missed" if the task refused the call.
    """
    raise NotImplementedError


def backfill(
    schedule: PeriodicTask,
    start: datetime,
    end: datetime,
    *,
    limit: int = 1000,
    reason: str = "",
    by: str = "",
    dry_run: bool = False,
) -> BackfillResult:
    """Fire the due times of a range that have not fired.

    A due time that was skipped or missed fires now and its occurrence says so; one that has fired
    stays as it is. The range is planned by the schedule's present definition. Overlap, pause and
    misfire grace have no effect; each run counts for ``max_runs``.

    Args:
        schedule: the schedule.
        start: first instant of the range, included.
        end: last instant of the range, included; not after now.
        limit: most due times to fire.
        reason: why, in words; kept on the occurrences.
        by: who, in words; kept with the reason.
        dry_run: only tell what would be done.

    Returns:
        Which due times fired, had fired, and were refused.

    Raises:
        ValueError: the range is empty, naive, or ends in the future.
    """
    raise NotImplementedError


def pause(
    schedule: PeriodicTask, reason: str, *, until: datetime | None = None, by: str = ""
) -> bool:
    """Skip a schedule's due times from now on, each with the reason.

    Args:
        schedule: the schedule.
        reason: why, in words.
        until: when the pause ends by itself; None for not at all.
        by: who, in words; kept with the reason.

    Returns:
        False if it was paused already; reason and end are replaced then.

    Raises:
        ValueError: ``until`` has passed.
    """
    raise NotImplementedError


def resume(schedule: PeriodicTask, *, by: str = "") -> bool:
    """End a pause. Failures from before no longer count for ``pause_after_failures``.

    Args:
        schedule: the schedule.
        by: who, in words, for the log.

    Returns:
        False if it was not paused.
    """
    raise NotImplementedError


def next_runs(
    schedule: PeriodicTask, count: int = 10, *, after: datetime | None = None
) -> list[Run]:
    """Return the next due times of a schedule, also of a disabled one.

    Args:
        schedule: the schedule, saved or not.
        count: how many at most.
        after: the instant after which; None for now.
    """
    raise NotImplementedError


def last_runs(schedule: PeriodicTask, count: int = 10) -> list[Occurrence]:
    """Return the latest occurrences of a schedule, newest first."""
    raise NotImplementedError


def standing(schedule: PeriodicTask) -> Standing:
    """Return how a schedule stands."""
    raise NotImplementedError


def describe(schedule: PeriodicTask) -> str:
    """Return a schedule's due times in words, with the time zone: "At 02:30, Europe/Berlin"."""
    raise NotImplementedError


def reset_runs(schedule: PeriodicTask) -> None:
    """Let ``max_runs`` count from zero again."""
    raise NotImplementedError


def prune_occurrences(older_than: timedelta) -> Iterator[int]:
    """Delete occurrences handled longer ago than that; yields how many each batch deleted."""
    raise NotImplementedError
