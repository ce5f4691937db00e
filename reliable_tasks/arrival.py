"""What happens when a message arrives, or an eager call: find, adopt or drop, then run."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from celery import Task
from celery.exceptions import Ignore, Retry
from django.db import InterfaceError, OperationalError, transaction

from . import (
    arguments,
    calling,
    conflicts,
    events,
    execution,
    hiding,
    keying,
    ledger,
    options,
)
from .conf import current
from .conflicts import EAGER_LEASE
from .dedup import LIVE
from .errors import ArgumentError, EntryRefused
from .failure import describe
from .faults import reach
from .identity import identity
from .ids import new_id
from .ledger import Claim, NewEntry
from .models import Entry
from .restoring import call_of, entry_of, hide, is_wakeup
from .states import Outcome, State
from .steady import on_live_connection
from .verdict import Verdict

if TYPE_CHECKING:
    from .task import ReliableTask

logger = logging.getLogger("reliable_tasks.execution")

# Seconds. Without it such a message would go round as fast as broker and worker can pass it on.
_PAUSE_BEFORE_SENDING_BACK: Final = 1.0

#: An entry is claimed before it is due, too. For tests, whose time passes faster.
ignoring_due: Final[ContextVar[bool]] = ContextVar("ignoring_due", default=False)


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
    began = time.monotonic()
    request.arrives = True
    request._protected = 1  # a body that calls its own task directly must get a plain call
    if request.is_eager:
        return _run_eagerly(task, args, kwargs)
    entry_id = entry_of(request)
    reach("claim.begin")
    claim = _claim(entry_id, task)
    if claim is None and not is_wakeup(request) and not ledger.exists(entry_id):
        _adopt(task, entry_id, args, kwargs)
        claim = _claim(entry_id, task)
    if claim is None:
        _drop(entry_id, task.name)
    reach("claim.written")
    return _attempt(task, claim, began)


def _claim(entry_id: UUID, task: ReliableTask) -> Claim | None:
    worker = identity(task.request.hostname)

    def take() -> Claim | None:
        return ledger.claim(
            entry_id,
            worker,
            lease=current().LEASE_SECONDS,
            task=task.name,
            ignore_due=ignoring_due.get(),
        )

    try:
        return _freed(on_live_connection(take))
    except (OperationalError, InterfaceError) as error:
        if not is_wakeup(task.request):
            _send_back(task, error)
            raise Ignore("the ledger cannot be reached, the message went back") from error
        # The entry waits untouched, and a sweeper wakes it again when the database is back.
        logger.error("The ledger cannot be reached, %s stays where it is: %s", entry_id, error)
        raise Ignore("the ledger cannot be reached") from error


def _send_back(task: ReliableTask, error: Exception) -> None:
    """Give the broker a message back that may stand alone: it was acknowledged on arrival."""
    request = task.request
    logger.error(
        "The ledger cannot be reached, so %s[%s] cannot be adopted; its message goes back to the "
        "broker: %s",
        *(task.name, request.id, error),
    )
    time.sleep(_PAUSE_BEFORE_SENDING_BACK)
    again = task.signature_from_request(request, request.args, request.kwargs)
    try:
        Task.apply_async(task, again.args, again.kwargs, **again.options)
    except Exception:
        # Celery's record of the failure, and the arguments in the log, are all that can be left.
        logger.exception(
            "The broker does not take it either. What is lost: %s[%s], args %r, kwargs %r",
            *(task.name, request.id),
            *arguments.masked(task, request.args or (), request.kwargs or {}),
        )
        raise error from None


def _freed(claim: Claim | None) -> Claim | None:
    """Release the key of an entry that blocks only until its attempt starts."""
    # Not in the claim's transaction: should the process die in between, the next claim does it.
    if claim is not None and claim.key is not None:
        hold = claim.hold
        if hold is None or hold.blocks != LIVE:
            reach("free.begin")
            on_live_connection(lambda: ledger.free_at_start(claim.entry, claim.token))
    return claim


def _drop(entry_id: UUID, task: str) -> NoReturn:
    alias = ledger.ledger_connection().alias
    row = Entry.objects.using(alias).filter(pk=entry_id).values_list("state", flat=True).first()
    if row is None:
        reason = "no entry"
    elif row in {State.PENDING, State.RETRYING}:
        reason = "not due, paused, expired, cancelled, or another task's by now"
    else:
        reason = row
    events.emit(events.Dropped(entry=entry_id, task=task, reason=reason))
    raise Ignore(f"nothing to wake: {reason}")


# -- messages that no entry stands behind ------------------------------------------------------


def _adopt(task: ReliableTask, entry_id: UUID, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    hide(task, args, kwargs)
    if not current().ADOPT:
        events.emit(events.Dropped(entry=entry_id, task=task.name, reason="refused"))
        raise EntryRefused(
            f"A message for {task.name} arrived that no entry stands behind, and "
            "RELIABLE_TASKS['ADOPT'] is off. Enqueue with delay(), apply_async() or "
            "enqueue_many() of the task itself."
        )
    request = task.request
    call = call_of(request)
    if options.as_uuid(request.id) is None:
        call["task_id"] = request.id
    queue = calling.queue_of(task._get_app(), request.delivery_info)
    try:
        entry = task.new_entry(entry_id, args, kwargs, call, queue=queue)
    except ArgumentError as error:
        _bury_unreadable(task, entry_id, args, kwargs, queue, error)
    reach("adopt.begin")
    grace = current().PUBLISH_RECHECK
    try:
        policy = keying.policy_of(task, call)
        if policy is not None:
            entry = keying.with_key(task, entry, policy, args, kwargs)
    except Exception as error:
        # Arguments that do not fit, a ``key`` function that fails: nobody is there to be told.
        hiding.hide_in_error(error, arguments.secrets(task, args, kwargs))
        _bury(task, entry, error, f"No key can be made of the message's arguments: {error!r}")
    if policy is None:
        on_live_connection(lambda: ledger.enqueue(entry, grace=grace))
    else:
        # Whoever sent it waits for this id, if for anything.
        on_live_connection(
            lambda: conflicts.enqueue(task, entry, policy, call, follows=True, grace=grace)
        )
    reach("adopt.written")
    events.emit(events.Adopted(entry=entry_id, task=task.name))


def _bury_unreadable(
    task: ReliableTask,
    entry_id: UUID,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    queue: str,
    error: ArgumentError,
) -> NoReturn:
    # The message is gone once it is acknowledged; what can be shown of it is kept for a person.
    args, kwargs = arguments.masked(task, args, kwargs)
    shown = {"args": [repr(arg) for arg in args], "kwargs": {k: repr(v) for k, v in kwargs.items()}}
    entry = task.new_entry(entry_id, (), {"unreadable": shown}, {}, queue=queue)
    _bury(task, entry, error, f"The message's arguments cannot be kept: {error}")


def _bury(task: ReliableTask, entry: NewEntry, error: Exception, reason: str) -> NoReturn:
    on_live_connection(lambda: ledger.enqueue(entry, grace=current().PUBLISH_RECHECK))
    claim = _claim(entry.id, task)
    if claim is not None:
        execution.finish(task, claim, Verdict(describe(error), Outcome.REJECTED, reason))
    raise error


# -- eager calls --------------------------------------------------------------------------------


def _run_eagerly(task: ReliableTask, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an eager call: the same entry, attempts without waiting in between."""
    request = task.request
    # What a task puts in its place runs, under its id, while its own entry still does.
    within = calling.caller(task._get_app())
    if within is not None and request.parent_id is None:  # from 5.6 on, Celery does it
        request.parent_id, request.root_id = within.id, within.root_id or within.id
    replaces = request.parent_id == request.id
    entry_id = new_id() if replaces else options.entry_id(request.id)
    entry = task.new_entry(entry_id, args, kwargs, call_of(request))
    ledger.enqueue(entry, grace=EAGER_LEASE)
    while True:
        claim = _freed(ledger.claim(entry_id, identity(None), lease=EAGER_LEASE, ignore_due=True))
        if claim is None:
            _drop(entry_id, task.name)
        try:
            return _attempt(task, claim)
        except Retry:
            continue


def _attempt(task: ReliableTask, claim: Claim, began: float | None = None) -> Any:
    # Inside a caller's transaction, which is a test's or that of an eager call, a failed attempt
    # must leave that transaction usable.
    if not task.atomic and ledger.ledger_connection().in_atomic_block:
        return execution.attempt(_Savepointed(task), claim, began)  # type: ignore[arg-type]
    return execution.attempt(task, claim, began)


class _Savepointed:
    """A task whose body runs in a savepoint; everything else is the task's own."""

    def __init__(self, task: ReliableTask) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def body(self, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic(using=ledger.ledger_connection().alias):
            return self._task.body(*args, **kwargs)
