"""The words of schedules: what became of a due time and why, and what a policy may say. Pure."""

from __future__ import annotations

from enum import StrEnum


class CatchUp(StrEnum):
    """What becomes of due times that nobody handled in time, because no beat or database was up."""

    #: None of them runs.
    SKIP = "skip"
    #: Only the newest runs, and only if no newer one is due in time.
    LATEST = "latest"
    #: The newest ones run, oldest first, up to a number and within a window.
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a due time while an earlier run of the same schedule has not ended."""

    #: Both run.
    ALLOW = "allow"
    #: The new one does not run.
    SKIP = "skip"
    #: One waits until the earlier run has ended; what comes due meanwhile does not run.
    BUFFER = "buffer"
    #: The earlier run is cancelled, the new one runs.
    CANCEL = "cancel"


class Fate(StrEnum):
    """What a due time came to: the outcome of an occurrence."""

    FIRED = "fired"
    SKIPPED = "skipped"
    MISSED = "missed"


class Cause(StrEnum):
    """Why a due time did not fire."""

    #: The schedule was paused.
    PAUSED = "paused"
    #: An earlier run had not ended.
    OVERLAP = "overlap"
    #: Handled later than the misfire grace, and catch-up did not choose it.
    LATE = "late"
    #: Handled later than the catch-up window.
    WINDOW = "window"
    #: Newer ones used up what catch-up runs at most.
    LIMIT = "limit"
    #: The schedule had no runs left.
    EXHAUSTED = "exhausted"
    #: The schedule was disabled before it could fire.
    DISABLED = "disabled"
    #: The task refused the call: wrong arguments, an unknown option, a dedup key in use.
    REFUSED = "refused"


class Trigger(StrEnum):
    """What made an occurrence."""

    TICK = "tick"
    RUN_NOW = "run_now"
    BACKFILL = "backfill"
