"""Run one attempt: claim, load, call, finish. Read :func:`run` from top to bottom.

Note [Why inside __call__]: Celery's own hooks run after the body's transaction has committed or are
skipped when a process dies. Only inside the call can the finish share the body's transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from uuid import UUID

from celery.exceptions import Ignore, Retry
from django.db import InterfaceError, OperationalError, transaction

from . import codec, events, ledger, options, verdict
from .conf import current
from .errors import ArgumentError, AttemptCancelled, EntryRefused, Fenced
from .identity import identity
from .ledger import Claim
from .models import Entry
from .running import Running
from .shield import Shield
from .states import Outcome, State
from .verdict import Verdict
from .wakeup import MARK

if TYPE_CHECKING:
    from .task import ReliableTask

logger = logging.getLogger("reliable_tasks.execution")

#: Eager calls have no heartbeat; their lease must outlast any sensible body.
EAGER_LEASE: Final = 3600.0
# A reply that the database could not take is offered once more on a fresh connection.
_PAUSE: Final = 0.2

T = TypeVar("T")


def run(task: ReliableTask, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run the entry that a message names, or the one that an eager call writes.

    Args:
        task: the task that Celery calls.
        args: positional arguments of the message: none in a wake-up of ours.
        kwargs: keyword arguments of the message.

    Returns:
        What the body returned.

    Raises:
        Ignore: the message woke nothing, or another attempt owns the entry.
        Retry: the attempt failed and another one follows.
        Exception: what the body raised, if the entry is dead now.
    """
    request = task.request
    request._protected = 1  # a body that calls its own task directly must get a plain call
    if request.is_eager:
        return _run_eagerly(task, args, kwargs)
    entry_id = options.entry_id(request.id)
    claim = _claim(entry_id, request.hostname)
    if claim is None and not _is_wakeup(request) and not ledger.exists(entry_id):
        _adopt(task, entry_id, args, kwargs)
        claim = _claim(entry_id, request.hostname)
    if claim is None:
        _drop(entry_id, task.name)
    return attempt(task, claim)


def attempt(task: ReliableTask, claim: Claim) -> Any:
    """Run one attempt under its claim and write down what came of it.

    Args:
        task: the task.
        claim: the lease.

    Returns:
        What the body returned.

    Raises:
        Ignore, Retry, Exception: as for :func:`run`.
    """
    events.emit(
        events.Claimed(entry=claim.entry, task=claim.task, attempt=claim.token, worker=claim.worker)
    )
    running = Running(claim, {})
    shield = Shield()
    try:
        with shield:
            return _succeed(task, running, shield)
    except Fenced as fenced:
        _fenced_off(claim, fenced)
    except Ignore:
        _ignored(task, running)
        raise
    except AttemptCancelled as cancelled:
        _cancelled(task, running, cancelled)
    except SystemExit as end:
        _exited(task, running, end)
    except (KeyboardInterrupt, GeneratorExit):
        _release(running, "the worker was interrupted")
        raise
    except Exception as error:
        _failed(task, running, error)


# -- the four steps ---------------------------------------------------------------------------


def _claim(entry_id: UUID, hostname: str | None) -> Claim | None:
    worker = identity(hostname)

    def take() -> Claim | None:
        return ledger.claim(entry_id, worker, lease=current().LEASE_SECONDS)

    try:
        return _on_live_connection(take)
    except (OperationalError, InterfaceError) as error:
        # The entry waits untouched, and a sweeper wakes it again when the database is back.
        logger.error("The ledger cannot be reached, %s stays where it is: %s", entry_id, error)
        raise Ignore("the ledger cannot be reached") from error


def _load(task: ReliableTask, running: Running) -> tuple[list[Any], dict[str, Any]]:
    claim = running.claim
    kept = options.loads(claim.options)
    args, kwargs = codec.decode(claim.args, claim.kwargs)
    running.options = kept
    task.request.reliable = running
    _restore_request(task, claim, kept, args, kwargs)
    return args, kwargs


def _succeed(task: ReliableTask, running: Running, shield: Shield) -> Any:
    task.request.reliable = running
    args, kwargs = _load(task, running)
    scope = transaction.atomic(using=ledger.ledger_connection().alias)
    with scope if task.atomic else nullcontext():
        result = task.body(*args, **kwargs)
        if running.retry_asked is not None:
            raise running.retry_asked
        # From here until after the commit nothing may interrupt: see Shield.
        shield.up()
        if task.atomic:
            ledger.succeed(running.claim)
    if not task.atomic:
        _write_down(lambda: ledger.succeed(running.claim))
    claim = running.claim
    events.emit(events.Succeeded(entry=claim.entry, task=claim.task, attempt=claim.token))
    return result


def _failed(task: ReliableTask, running: Running, error: BaseException) -> NoReturn:
    claim = running.claim
    decision = verdict.judge(
        error, task.retry_policy(), claim.retries, gave_up=running.gave_up
    )
    finish(task, claim, decision)
    if decision.dead:
        raise error
    cause = error.exc if isinstance(error, Retry) else error
    raise Retry(exc=cause, when=decision.due_at or decision.delay) from error


def finish(task: ReliableTask, claim: Claim, decision: Verdict) -> None:
    """Write a verdict down and tell of it.

    Args:
        task: the task.
        claim: the attempt.
        decision: what becomes of its entry.

    Raises:
        Ignore: the attempt does not own its entry any more, or the ledger cannot be reached.
    """
    limit = task.retry_policy().max_retries
    failure = decision.failure

    def write() -> None:
        if decision.dead:
            ledger.bury(
                claim, failure, decision.outcome, reason=decision.reason, max_retries=limit
            )
        else:
            ledger.reschedule(
                claim,
                failure,
                decision.outcome,
                delay=decision.delay,
                due_at=decision.due_at,
                max_retries=limit,
                **(decision.changes or {}),
            )

    try:
        _write_down(write)
    except Fenced as fenced:
        _fenced_off(claim, fenced)
    what = {"entry": claim.entry, "task": claim.task, "attempt": claim.token}
    told = {"outcome": decision.outcome.value, "error": str(failure)}
    if decision.dead:
        events.emit(events.Died(**what, **told, reason=decision.reason))
    else:
        events.emit(events.Rescheduled(**what, **told, delay=decision.delay))
        if not decision.delay and decision.due_at is None:
            task.publish_entry(claim.entry, claim.queue, claim.priority, claim.options)


# -- endings that are neither success nor failure -----------------------------------------------


def _exited(task: ReliableTask, running: Running, end: SystemExit) -> NoReturn:
    # A pool child that gets SIGTERM raises SystemExit with a negative code; Celery's own
    # shutdowns raise subclasses. Anything else is the body's own sys.exit().
    by_signal = isinstance(end.code, int) and end.code < 0
    if not by_signal and type(end) is SystemExit:
        _failed(task, running, verdict.exited(end))
    limit = task.hard_limit()
    if limit is not None and running.seconds >= limit * 0.98:
        decision = timed_out(task, running.claim, limit)
        finish(task, running.claim, decision)
    elif not _stopped(running):
        _release(running, "its worker was told to stop")
    raise end


def timed_out(task: ReliableTask, claim: Claim, limit: float) -> Verdict:
    """Return the verdict on an attempt that its hard time limit ended."""
    error = verdict.TimeoutOfAttempt(f"The hard time limit of {limit:g} s was exceeded.")
    return verdict.judge(error, task.retry_policy(), claim.retries)


def _cancelled(task: ReliableTask, running: Running, error: AttemptCancelled) -> NoReturn:
    if _stopped(running):
        raise Ignore("cancelled") from error
    _failed(task, running, error)


def _stopped(running: Running) -> bool:
    claim = running.claim
    try:
        _write_down(lambda: ledger.stop(claim))
    except (Fenced, Ignore):  # nobody asked it to stop, or it is not ours any more
        return False
    events.emit(events.Cancelled(entry=claim.entry, task=claim.task, reason="asked to stop"))
    return True


def _release(running: Running, why: str) -> None:
    claim = running.claim
    try:
        _write_down(lambda: ledger.release(claim, why=why))
    except (Fenced, Ignore):  # the sweeper has it, or will have it when the lease ends
        return
    events.emit(events.Released(entry=claim.entry, task=claim.task, attempt=claim.token))


def _ignored(task: ReliableTask, running: Running) -> None:
    """The body raised Ignore: it replaced itself, or says that there is nothing to do."""
    claim = running.claim
    successor = running.replacement
    try:
        if successor is None:
            _write_down(lambda: ledger.succeed(claim))
            events.emit(events.Succeeded(entry=claim.entry, task=claim.task, attempt=claim.token))
        else:
            _write_down(lambda: ledger.replace(claim, successor))
            task.publish_entry(
                claim.entry, successor.queue, successor.priority, successor.options, successor.task
            )
    except Fenced as fenced:
        _fenced_off(claim, fenced)


def _fenced_off(claim: Claim, fenced: Fenced) -> NoReturn:
    events.emit(events.FencedOff(entry=claim.entry, task=claim.task, attempt=claim.token))
    raise Ignore(str(fenced)) from fenced


def _drop(entry_id: UUID, task: str) -> NoReturn:
    alias = ledger.ledger_connection().alias
    row = Entry.objects.using(alias).filter(pk=entry_id).values_list("state", flat=True).first()
    if row is None:
        reason = "no entry"
    elif row in {State.PENDING, State.RETRYING}:
        reason = "not due, expired or cancelled"
    else:
        reason = row
    events.emit(events.Dropped(entry=entry_id, task=task, reason=reason))
    raise Ignore(f"nothing to wake: {reason}")


# -- messages that no entry stands behind ------------------------------------------------------


def _is_wakeup(request: Any) -> bool:
    return bool((request.headers or {}).get(MARK) or getattr(request, MARK, None))


def _adopt(
    task: ReliableTask, entry_id: UUID, args: Sequence[Any], kwargs: dict[str, Any]
) -> None:
    if not current().ADOPT:
        events.emit(events.Dropped(entry=entry_id, task=task.name, reason="refused"))
        raise EntryRefused(
            f"A message for {task.name} arrived that no entry stands behind, and "
            "RELIABLE_TASKS['ADOPT'] is off. Enqueue with delay(), apply_async() or "
            "enqueue_many() of the task itself."
        )
    request = task.request
    call = _call_of(request)
    queue = (request.delivery_info or {}).get("routing_key") or ""
    try:
        entry = task.new_entry(entry_id, args, kwargs, call, queue=queue)
    except ArgumentError as error:
        _bury_unreadable(task, entry_id, args, kwargs, queue, error)
    ledger.enqueue(entry, grace=current().PUBLISH_GRACE)
    events.emit(events.Adopted(entry=entry_id, task=task.name))


def _bury_unreadable(
    task: ReliableTask,
    entry_id: UUID,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    queue: str,
    error: ArgumentError,
) -> NoReturn:
    # The message is gone once it is acknowledged; what can be shown of it is kept for a person.
    shown = {"args": [repr(arg) for arg in args], "kwargs": {k: repr(v) for k, v in kwargs.items()}}
    entry = task.new_entry(entry_id, (), {"unreadable": shown}, {}, queue=queue)
    ledger.enqueue(entry, grace=current().PUBLISH_GRACE)
    claim = _claim(entry_id, task.request.hostname)
    if claim is not None:
        reason = f"The message's arguments cannot be kept: {error}"
        finish(task, claim, Verdict(verdict.describe(error), Outcome.REJECTED, reason))
    raise error


# -- eager calls --------------------------------------------------------------------------------


def _run_eagerly(task: ReliableTask, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run ``apply()`` and ``CELERY_TASK_ALWAYS_EAGER`` calls: same entry, no waiting between attempts."""
    request = task.request
    entry_id = options.entry_id(request.id)
    entry = task.new_entry(entry_id, args, kwargs, _call_of(request))
    ledger.enqueue(entry, grace=EAGER_LEASE)
    while True:
        claim = ledger.claim(entry_id, identity(None), lease=EAGER_LEASE, ignore_due=True)
        if claim is None:
            _drop(entry_id, task.name)
        try:
            # Inside a caller's transaction a failed attempt must leave that transaction usable.
            connection = ledger.ledger_connection()
            if connection.in_atomic_block and not task.atomic:
                return _attempt_in_savepoint(task, claim)
            return attempt(task, claim)
        except Retry:
            continue


def _attempt_in_savepoint(task: ReliableTask, claim: Claim) -> Any:
    return attempt(_Savepointed(task), claim)  # type: ignore[arg-type]


class _Savepointed:
    """A task whose body runs in a savepoint; everything else is the task's own."""

    def __init__(self, task: ReliableTask) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def body(self, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic(using=ledger.ledger_connection().alias):
            return self._task.body(*args, **kwargs)


# -- helpers ------------------------------------------------------------------------------------


def _restore_request(
    task: ReliableTask,
    claim: Claim,
    kept: dict[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
) -> None:
    """Give ``self.request`` what the message did not carry, so that Celery goes on from there."""
    request = task.request
    # The same list and dict that Celery later hands to on_success and after_return.
    if isinstance(request.args, list) and not request.args:
        request.args.extend(args)
    else:
        request.args = args
    if isinstance(request.kwargs, dict) and not request.kwargs:
        request.kwargs.update(kwargs)
    else:
        request.kwargs = kwargs
    request.retries = claim.retries
    if request.is_eager:
        return
    request.callbacks = _listed(kept.get("link"))
    request.errbacks = _listed(kept.get("link_error"))
    request.chain = kept.get("chain")
    request.chord = kept.get("chord")
    request.group = str(claim.group_id) if claim.group_id else None
    request.group_index = kept.get("group_index")
    request.root_id = str(claim.root_id) if claim.root_id else request.id
    request.parent_id = str(claim.parent_id) if claim.parent_id else None
    request.headers = kept.get("headers") or {}
    for name in ("ignore_result", "timelimit", "replaced_task_nesting", "stamped_headers", "stamps"):
        if name in kept:
            setattr(request, name, kept[name])


def _call_of(request: Any) -> dict[str, Any]:
    """Return the options with which the running request was called."""
    call: dict[str, Any] = request.as_execution_options()
    for name in ("task_id", "expires", "retries"):  # done with, by the time it runs
        call.pop(name, None)
    call["headers"] = {k: v for k, v in (request.headers or {}).items() if k != MARK}
    return call


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value]


def _write_down(write: Callable[[], None]) -> None:
    try:
        with Shield() as shield:
            shield.up()
            _on_live_connection(write)
    except (OperationalError, InterfaceError) as error:
        # Nobody renews the lease from here on, so a sweeper takes the entry over.
        logger.error("The ledger cannot be reached, the attempt's end is not kept: %s", error)
        raise Ignore("the ledger cannot be reached") from error


def _on_live_connection(act: Callable[[], T]) -> T:
    """Run one transition; if the connection turns out to be dead, once more on a fresh one.

    Doing it twice is safe: each transition is guarded, so a first try that did commit makes the
    second one touch no row.
    """
    connection = ledger.ledger_connection()
    try:
        return act()
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
        time.sleep(_PAUSE)
        return act()
