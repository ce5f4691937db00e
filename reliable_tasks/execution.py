"""Run one attempt: load, call, finish. Read :func:`attempt` from top to bottom.

Note [Why inside __call__]: Celery's own hooks run after the body's transaction has committed or are
skipped when a process dies. Only inside the call can the finish share the body's transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn

from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from django.db import transaction

from . import arguments, codec, events, hiding, ledger, loading, options, verdict
from .conf import current
from .dedup import FOLLOWS
from .errors import AttemptCancelled, Fenced, Rejected
from .failure import describe
from .faults import reach
from .following import HolderDied, follow
from .ledger import Claim
from .restoring import report_started, restore
from .running import Running
from .shield import Shield
from .states import Outcome
from .steady import write_down
from .verdict import Verdict

if TYPE_CHECKING:
    from .task import ReliableTask

logger = logging.getLogger("reliable_tasks.execution")

#: Somebody waits for the attempt in this very process, and may end it: a test.
interruptible: Final[ContextVar[bool]] = ContextVar("interruptible", default=False)


def attempt(task: ReliableTask, claim: Claim, began: float | None = None) -> Any:
    """Run one attempt under its claim and write down what came of it.

    Args:
        task: the task.
        claim: the lease.
        began: when its message was taken up, by the monotonic clock; None for now.

    Returns:
        What the body returned.

    Raises:
        Ignore: the entry was cancelled, or another attempt owns it.
        Retry: the attempt failed and another one follows.
        Exception: what the body raised, if the entry is dead now.
    """
    events.emit(
        events.Claimed(entry=claim.entry, task=claim.task, attempt=claim.token, worker=claim.worker)
    )
    running = Running(claim, {}, began)
    shield = Shield()
    try:
        with shield:
            return _succeed(task, running, shield)
    except Fenced as fenced:
        _fenced_off(claim, fenced)
    except Ignore:
        raise
    except loading.NotLoaded as failed:
        _not_loaded(task, running, failed)
    except AttemptCancelled as cancelled:
        _cancelled(task, running, cancelled)
    except HolderDied as died:
        finish(task, claim, Verdict(describe(died), Outcome.REJECTED, str(died)))
        raise
    except SystemExit as end:
        _exited(task, running, end)
    except Exception as error:
        _failed(task, running, error)
    except BaseException as stop:
        _interrupted(task, running, stop)
    finally:
        running.close()


# -- the steps ---------------------------------------------------------------------------


def _decode(task: ReliableTask, running: Running) -> tuple[list[Any], dict[str, Any]]:
    reach("load.begin")
    claim = running.claim
    kept = options.loads(claim.options)
    args, kwargs = codec.decode(claim.args, claim.kwargs)
    running.options = kept
    task.request.reliable = running
    shown_args, shown_kwargs = arguments.for_request(task, args, kwargs)
    restore(task, claim, kept, shown_args, shown_kwargs)
    if shown_args is not args:
        running.secrets = arguments.secrets(task, args, kwargs)
        task.request.argsrepr, task.request.kwargsrepr = repr(shown_args), repr(shown_kwargs)
    return args, kwargs


def _succeed(task: ReliableTask, running: Running, shield: Shield) -> Any:
    task.request.reliable = running
    kept_args, kept_kwargs = _decode(task, running)
    if FOLLOWS in running.options:
        turn = follow(task, running)
        if not turn.runs:
            write_down(lambda: ledger.succeed(running.claim), _has_ended(running.claim))
            _tell_end(task, running)
            return turn.result
    report_started(task)
    result, ignored = None, None
    with _transaction(task, running):
        args, kwargs = loading.load(task, running, kept_args, kept_kwargs)
        reach("load.done")
        reach("call.begin")
        try:
            result = task.body(*args, **kwargs)
        except Ignore as ignore:
            ignored = ignore  # an end like a return: what the body wrote is kept
        reach("call.returned")
        if running.retry_asked is not None:
            raise running.retry_asked
        if task.atomic:
            # From here until after the commit nothing may interrupt: see Shield.
            shield.up()
            _end(running)
            running.ended = True
    if not task.atomic:
        write_down(lambda: _end(running), _has_ended(running.claim))
    reach("finish.committed")
    _tell_end(task, running)
    if ignored is not None:
        raise ignored
    return result


@contextmanager
def _transaction(task: ReliableTask, running: Running) -> Iterator[None]:
    """Open the transaction of an atomic task; tell an error after its commit from one before."""
    if not task.atomic:
        yield
        return
    claim = running.claim
    try:
        with transaction.atomic(using=ledger.ledger_connection().alias):
            yield
    except Exception:
        # After the commit Django runs the body's on_commit hooks, and passes their errors on.
        # A connection that broke during COMMIT may have committed all the same.
        if not running.ended or not _has_ended(claim)():
            raise
        logger.exception("%s[%s] committed; an on_commit hook failed.", claim.task, claim.entry)


def _end(running: Running) -> None:
    reach("finish.begin")
    if running.replacement is not None:
        ledger.replace(running.claim, running.replacement, grace=current().PUBLISH_RECHECK)
    elif running.replaced:
        ledger.hand_over(running.claim)
    else:
        ledger.succeed(running.claim)
    reach("finish.written")


def _tell_end(task: ReliableTask, running: Running) -> None:
    claim, successor = running.claim, running.replacement
    if successor is None:
        events.emit(events.Succeeded(entry=claim.entry, task=claim.task, attempt=claim.token))
    else:
        task.publish_entry(
            claim.entry, successor.queue, successor.priority, successor.options, successor.task
        )


def _failed(task: ReliableTask, running: Running, error: BaseException) -> NoReturn:
    claim = running.claim
    hiding.hide_in_error(error, running.secrets)
    decision = verdict.judge(error, task.retry_policy(), claim.retries, gave_up=running.gave_up)
    decision = hiding.hide_in_verdict(decision, running.secrets)
    finish(task, claim, decision)
    cause = error.exc if isinstance(error, Retry) else error
    if decision.dead and isinstance(error, Reject):
        # Celery stores nothing for a Reject: who waits for the result, or a chord, would not learn.
        raise Rejected(decision.reason) from error
    if decision.dead:
        # Celery would store RETRY for a Retry, and wait for ever for what follows.
        raise cause if isinstance(cause, BaseException) else MaxRetriesExceededError(str(error))
    raise Retry(exc=cause, when=decision.due_at or decision.delay) from error


def _not_loaded(task: ReliableTask, running: Running, failed: loading.NotLoaded) -> NoReturn:
    claim, error = running.claim, failed.error
    for each in (error, failed):
        hiding.hide_in_error(each, running.secrets)
    decision = hiding.hide_in_verdict(loading.verdict_on(task, running, failed), running.secrets)
    if failed.policy != "discard":
        finish(task, claim, decision)
        if decision.dead:
            raise error
        raise Retry(exc=error, when=decision.delay) from error
    _write(
        claim,
        lambda: ledger.discard(claim, decision.failure, reason=decision.reason),
        Outcome.REJECTED,
    )
    events.emit(events.Cancelled(entry=claim.entry, task=claim.task, reason=decision.reason))
    task.store_cancel(claim.entry, decision.reason)
    raise Ignore(decision.reason) from error


def finish(
    task: ReliableTask,
    claim: Claim,
    decision: Verdict,
    *,
    how: Callable[[Callable[[], None], Callable[[], bool]], None] = write_down,
) -> None:
    """Write a verdict down and tell of it.

    Args:
        task: the task.
        claim: the attempt.
        decision: what becomes of its entry.
        how: what carries the transition out.

    Raises:
        Ignore: the attempt does not own its entry any more, or the ledger cannot be reached.
    """
    limit = task.retry_policy().max_retries
    failure = decision.failure

    def write() -> None:
        if decision.dead:
            ledger.bury(claim, failure, decision.outcome, reason=decision.reason, max_retries=limit)
        else:
            ledger.reschedule(
                claim,
                failure,
                decision.outcome,
                delay=decision.delay,
                grace=current().PUBLISH_RECHECK,
                due_at=decision.due_at,
                max_retries=limit,
                charged=decision.charged,
                changes=decision.changes,
            )

    reach("fail.begin")
    _write(claim, write, decision.outcome, how)
    reach("fail.committed")
    _tell(claim, decision)
    # As the ledger has it: a delay that is no time at all, or less, is none.
    at_once = not decision.dead and not decision.delay > 0 and decision.due_at is None
    if at_once and not task.request.is_eager:
        call = {"queue": claim.queue, "priority": claim.priority, "options": claim.options}
        call |= decision.changes or {}
        task.publish_entry(claim.entry, call["queue"], call["priority"], call["options"])


def _write(
    claim: Claim,
    write: Callable[[], None],
    outcome: Outcome,
    how: Callable[[Callable[[], None], Callable[[], bool]], None] = write_down,
) -> None:
    try:
        how(write, _is_recorded(claim, outcome))
    except Fenced as fenced:
        _fenced_off(claim, fenced)


def _has_ended(claim: Claim) -> Callable[[], bool]:
    # What its worker has given back waits as well, like what was replaced; but that is on record.
    return lambda: ledger.has_ended(claim) and not ledger.is_recorded(claim, Outcome.RELEASED)


def _is_recorded(claim: Claim, outcome: Outcome) -> Callable[[], bool]:
    return lambda: ledger.is_recorded(claim, outcome)


def _tell(claim: Claim, decision: Verdict) -> None:
    what: dict[str, Any] = {
        "entry": claim.entry,
        "task": claim.task,
        "attempt": claim.token,
        "outcome": decision.outcome.value,
        "error": str(decision.failure),
    }
    if decision.dead:
        events.emit(events.Died(**what, reason=decision.reason))
    else:
        events.emit(events.Rescheduled(**what, delay=decision.delay))


# -- endings that are neither success nor failure -----------------------------------------------


def _exited(task: ReliableTask, running: Running, end: SystemExit) -> NoReturn:
    if not verdict.told_to_stop(end):
        hiding.hide_in_error(end, running.secrets)  # the context of what is raised in its place
        _failed(task, running, verdict.exited(end))
    limit = task.hard_limit()
    # The pool's clock began a little earlier, and it does not wait to the millisecond.
    if limit is not None and running.seconds >= limit * 0.95 - 0.1:
        decision = timed_out(task, running.claim, limit)
        finish(task, running.claim, decision)
    elif not _stopped(task, running):
        _release(running, "its worker was told to stop")
    raise end


def _interrupted(task: ReliableTask, running: Running, stop: BaseException) -> NoReturn:
    # In a worker nothing but the body itself raises these; an eager call runs in somebody's
    # terminal, who may have pressed Ctrl-C.
    if not task.request.is_eager and not interruptible.get():
        hiding.hide_in_error(stop, running.secrets)
        _failed(task, running, verdict.exited(stop))
    _release(running, "it was interrupted")
    raise stop


def timed_out(task: ReliableTask, claim: Claim, limit: float) -> Verdict:
    """Return the verdict on an attempt that its hard time limit ended."""
    error = verdict.TimeoutOfAttempt(f"The hard time limit of {limit:g} s was exceeded.")
    return verdict.judge(error, task.retry_policy(), claim.retries)


def _cancelled(task: ReliableTask, running: Running, error: AttemptCancelled) -> NoReturn:
    if _stopped(task, running):
        raise Ignore("cancelled") from error
    _failed(task, running, error)


def _stopped(task: ReliableTask, running: Running) -> bool:
    claim = running.claim
    try:
        write_down(lambda: ledger.stop(claim), _is_recorded(claim, Outcome.CANCELLED))
    except (Fenced, Ignore):  # nobody asked it to stop, or it is not ours any more
        return False
    events.emit(events.Cancelled(entry=claim.entry, task=claim.task, reason="asked to stop"))
    task.store_cancel(claim.entry, "asked to stop")
    return True


def _release(running: Running, why: str) -> None:
    claim = running.claim
    reach("release.begin")
    try:
        write_down(lambda: ledger.release(claim, why=why), _is_recorded(claim, Outcome.RELEASED))
    except (Fenced, Ignore):  # the sweeper has it, or will have it when the lease ends
        return
    reach("release.committed")
    events.emit(events.Released(entry=claim.entry, task=claim.task, attempt=claim.token))


def _fenced_off(claim: Claim, fenced: Fenced) -> NoReturn:
    events.emit(events.FencedOff(entry=claim.entry, task=claim.task, attempt=claim.token))
    raise Ignore(str(fenced)) from fenced
