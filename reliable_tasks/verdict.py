"""From an exception to what becomes of the entry. Pure: decides, writes nothing."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded

from .backoff import RetryPolicy
from .errors import CorruptEntry, TaskExited
from .failure import Failure, class_name, describe, shown, storable
from .states import Outcome


class RetryAsked(Retry):
    """What ``self.retry()`` raises: the wish for another attempt, not yet written anywhere.

    Attributes:
        delay: seconds until it is due, when ``due_at`` is None.
        due_at: when it is due.
        changes: other args, kwargs, options, queue or priority for the next attempt, as
            ``ledger.reschedule`` takes them.
        given: why, as the body said it; Celery's ``exc`` is only what of it can be pickled.
    """

    def __init__(
        self,
        exc: BaseException | None,
        delay: float,
        due_at: datetime | None,
        changes: dict[str, Any],
    ) -> None:
        super().__init__(exc=exc, when=due_at or delay)
        self.delay = delay
        self.due_at = due_at
        self.changes = changes
        self.given = exc


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of an entry whose attempt did not succeed.

    Attributes:
        failure: what went wrong.
        outcome: what the attempt came to.
        reason: why the entry is dead, in words; empty if another attempt follows.
        delay: seconds until the next attempt.
        due_at: when the next attempt is due, instead of ``delay``.
        changes: what the next attempt gets instead, as the ledger takes it.
        charged: whether it counts as a retry.
    """

    failure: Failure
    outcome: Outcome
    reason: str = ""
    delay: float = 0.0
    due_at: datetime | None = None
    changes: dict[str, Any] | None = None
    charged: bool = True

    @property
    def dead(self) -> bool:
        """Whether no further attempt follows."""
        return bool(self.reason)


def judge(
    error: BaseException,
    policy: RetryPolicy,
    retries: int,
    *,
    gave_up: bool = False,
    covered: bool = False,
) -> Verdict:
    """Decide what follows a failure.

    Args:
        error: what the body raised.
        policy: the task's retry policy.
        retries: retries already behind the entry.
        gave_up: the body called ``self.retry()`` beyond its limit.
        covered: retry it whatever ``autoretry_for`` says.

    Returns:
        The verdict.
    """
    # self.retry() has its own limit and looked at it; a Retry raised by hand has the task's.
    if isinstance(error, RetryAsked) or (
        isinstance(error, Retry) and not policy.exhausted(retries)
    ):
        return _asked(error, policy)
    failure, outcome = describe(error), outcome_of(error)
    if isinstance(error, CorruptEntry):
        return Verdict(failure, outcome, f"Not run: {failure.message}")
    if isinstance(error, Reject):
        if not error.requeue:
            return Verdict(failure, outcome, f"Rejected by the task: {shown(error.reason)}.")
    elif not isinstance(error, Retry) and not covered and not policy.covers(error):
        return Verdict(failure, outcome, f"Not retried: {_why_not(error, policy)} {failure}")
    if gave_up or policy.exhausted(retries):
        times = "once" if retries == 0 else f"{retries + 1} times"
        limit = retries if gave_up else policy.max_retries
        return Verdict(
            failure, outcome, f"Failed {times}, the limit is {limit} retries. Last: {failure}"
        )
    return Verdict(failure, outcome, delay=policy.seconds(retries))


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome that an exception stands for."""
    if isinstance(error, SoftTimeLimitExceeded | TimeoutOfAttempt):
        return Outcome.TIMEOUT
    if isinstance(error, Reject | CorruptEntry):
        return Outcome.REJECTED
    return Outcome.FAILED


class TimeoutOfAttempt(Exception):
    """The hard time limit ended the attempt. Stands in for an exception that nobody could raise."""


#: Exit codes that a pool's child makes of the signals that tell it to stop.
_STOP_CODES: Final = frozenset(
    -(256 - getattr(signal, name)) for name in ("SIGTERM", "SIGQUIT") if hasattr(signal, name)
)


def told_to_stop(error: SystemExit) -> bool:
    """Tell whether the worker is to stop, and not the body called ``sys.exit()`` by itself."""
    # Celery's own shutdowns raise subclasses.
    return type(error) is not SystemExit or error.code in _STOP_CODES


def exited(error: BaseException) -> TaskExited:
    """Return the failure that stands for an exception that would end the process."""
    words = (
        f"called sys.exit({error.code!r})"
        if isinstance(error, SystemExit)
        else f"raised {error!r}, which is no ordinary exception"
    )
    told = TaskExited(f"The task {words}. Return, or raise an ordinary exception.")
    return told.with_traceback(error.__traceback__)


def _asked(error: Retry, policy: RetryPolicy) -> Verdict:
    cause = _cause(error)
    failure = (
        Failure(class_name(Retry), storable(str(error.message or "retry asked for")))
        if cause is None
        else describe(cause)
    )
    if isinstance(error, RetryAsked):
        return Verdict(
            failure, Outcome.RETRY, delay=error.delay, due_at=error.due_at, changes=error.changes
        )
    # A plain ``raise Retry(...)``: its ``when`` is seconds, a time, or nothing.
    when = error.when
    return Verdict(
        failure,
        Outcome.RETRY,
        delay=float(when) if isinstance(when, int | float) else policy.delay,
        due_at=when if isinstance(when, datetime) else None,
    )


def _cause(error: Retry) -> BaseException | None:
    """Return what went wrong: what the body gave as the reason, or else what it was handling."""
    given = error.given if isinstance(error, RetryAsked) else error.exc
    handled = None if error.__suppress_context__ or error.message else error.__context__
    for each in (given, error.__cause__, handled):
        if isinstance(each, BaseException) and not isinstance(each, Retry):
            return each
    return None


def _why_not(error: BaseException, policy: RetryPolicy) -> str:
    if isinstance(error, policy.never_for):
        return f"{type(error).__name__} is in dont_autoretry_for."
    return f"{type(error).__name__} is not in autoretry_for."
