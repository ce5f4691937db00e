"""From a call to the entry it writes: options, routing, times, and the caller's transaction."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery._state import _task_stack
from celery.exceptions import QueueNotFound
from django.db import connections

from . import arguments, ledger, options
from .appconf import appconf
from .conf import current
from .errors import OptionError, TransactionMismatch
from .ids import new_id
from .ledger import NewEntry

if TYPE_CHECKING:
    from celery import Celery
    from celery.app.task import Context

    from .task import ReliableTask


def new_entry(
    task: ReliableTask,
    entry_id: UUID,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    call: Mapping[str, Any],
    queue: str = "",
) -> NewEntry:
    """Build the entry for one call.

    Args:
        task: the task that is called.
        entry_id: the entry's id.
        args: positional arguments.
        kwargs: keyword arguments.
        call: the call's options, checked.
        queue: the queue if it is known; otherwise the routes decide.

    Returns:
        The entry, ready to be written.

    Raises:
        ArgumentError: an argument cannot be kept.
        OptionError: ``eta`` or ``expires`` is not a time, or ``expires`` has passed.
    """
    args, kwargs, subject = arguments.plain(task, args, kwargs)
    args_text, kwargs_text = arguments.texts(task, args, kwargs)
    parent_id, root_id = _family(task, call)
    due_at, delay = _due(task, call)
    expires_at, expires_in = _expiry(task, call)
    return NewEntry(
        id=entry_id,
        task=task.name,
        args=args_text,
        kwargs=kwargs_text,
        options=_options(call, root_id),
        queue=queue or route(task, call, args, kwargs),
        priority=_priority(task, call),
        max_retries=task.retry_policy().max_retries,
        crash_budget=task.crash_budget,
        due_at=due_at,
        delay=delay,
        expires_at=expires_at,
        expires_in=expires_in,
        root_id=root_id,
        parent_id=parent_id,
        group_id=options.as_uuid(call.get("group_id")),
        schedule=str((call.get("headers") or {}).get("periodic_task_name") or ""),
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
    )


def _options(call: Mapping[str, Any], root_id: UUID | None) -> str | None:
    kept = options.kept(call)
    if root_id is not None and ("chain" in kept or "link" in kept):
        # Celery notes the root of what follows before the entry is read.
        kept["root_id"] = str(root_id)
    return options.dumps(kept)


def under(entry: NewEntry, entry_id: UUID, task_id: str) -> NewEntry:
    """Return an entry under another id than the one that Celery knows its task by.

    A task that puts a workflow in its place hands its Celery id on to the last step, so that who
    waits for its result gets that of the workflow. Its entry has ended, and stays what it was.

    Args:
        entry: the entry.
        entry_id: its id in the ledger.
        task_id: its id in messages and results.
    """
    kept = {**options.loads(entry.options), "task_id": task_id}
    return replace(entry, id=entry_id, options=options.dumps(kept))


def mint(task_id: Any, task: str) -> UUID:
    """Return the id of a new entry.

    Args:
        task_id: what the caller asks for, or None.
        task: the task's name, for the message.

    Raises:
        OptionError: the id asked for is no UUID.
    """
    if task_id is None:
        return new_id()
    found = options.as_uuid(task_id)
    if found is None:
        raise OptionError(
            f"{task}: task_id must be a UUID, because it is the entry's primary key; it is "
            f"{task_id!r}. To make equal calls one entry, use a dedup key instead."
        )
    return found


def route(
    task: ReliableTask, call: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return the name of the queue that Celery's routing chooses for a call.

    Args:
        task: the task.
        call: the call's options.
        args: its positional arguments, which routes may look at.
        kwargs: its keyword arguments, likewise.

    Raises:
        OptionError: there is no such queue, or its name cannot be kept.
    """
    app = task._get_app()
    conf = appconf(app)
    asked = call.get("queue")
    if asked is None and not conf.task_routes and not call.get("exchange"):
        return conf.task_default_queue
    routing = {name: call[name] for name in ("queue", "exchange", "routing_key") if call.get(name)}
    try:
        found = app.amqp.router.route(routing, task.name, args, kwargs).get("queue")
    except QueueNotFound as error:
        raise OptionError(
            f"{task.name}: there is no queue {asked!r} in CELERY_TASK_QUEUES, and "
            "CELERY_TASK_CREATE_MISSING_QUEUES is off."
        ) from error
    if found is None:
        return conf.task_default_queue
    name = str(getattr(found, "name", found))
    options.check_queue(task.name, name)
    return name


def queue_of(app: Any, delivery: Mapping[str, Any] | None) -> str:
    """Return the name of the queue that a message came from; empty if that cannot be told.

    Args:
        app: the Celery app.
        delivery: the request's ``delivery_info``, which knows exchange and routing key only.
    """
    exchange, key = ((delivery or {}).get(name) or "" for name in ("exchange", "routing_key"))
    if not exchange:
        return str(key)
    for name, queue in app.amqp.queues.items():
        if queue.exchange.name == exchange and queue.routing_key == key:
            return str(name)
    return ""


def due_later(entry: NewEntry) -> bool:
    """Tell whether an entry is due only later, so that nothing is published now."""
    return entry.due_at is not None or entry.delay > 0


def check_transaction(task: str) -> None:
    """Refuse, or warn of, an entry that would not be part of the caller's transaction.

    Raises:
        TransactionMismatch: a transaction is open, but not on the ledger's database.
    """
    connection = ledger.ledger_connection()
    if connection.in_atomic_block:
        return
    others = [
        other.alias
        for other in connections.all(initialized_only=True)
        if other.in_atomic_block and other.alias != connection.alias
    ]
    mode = current().OTHER_TRANSACTION
    if not others or mode == "allow":
        return
    message = (
        f"{task} is enqueued while a transaction is open on {', '.join(map(repr, others))}, but "
        f"the ledger lives on {connection.alias!r}: the entry would commit at once, even if that "
        f"transaction rolls back. Open atomic(using={connection.alias!r}) as well, enqueue after "
        "that transaction, or set RELIABLE_TASKS['OTHER_TRANSACTION'] to 'warn' or 'allow'."
    )
    if mode == "error":
        raise TransactionMismatch(message)
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def caller(app: Celery) -> Context | None:
    """Return the request of the task within whose body this call is made, None outside of any.

    Celery's ``current_worker_task`` is not it while a call that arrives is being turned into an
    entry: that call would be its own parent.

    Args:
        app: the Celery app.
    """
    if app.current_worker_task is None:  # the rule outside of workers, and cheap
        return None
    below: Counter[int] = Counter()
    for task in reversed(_task_stack.stack):
        requests = task.request_stack.stack  # the same task may call itself
        below[id(task)] += 1
        request: Context = requests[-below[id(task)]]
        still_arrives = hasattr(request, "arrives") and not hasattr(request, "reliable")
        if not request.called_directly and not still_arrives:
            return request
    return None


def _family(task: ReliableTask, call: Mapping[str, Any]) -> tuple[UUID | None, UUID | None]:
    parent_id, root_id = call.get("parent_id"), call.get("root_id")
    parent = caller(task._get_app())
    if parent is not None and parent.id:
        parent_id = parent_id or parent.id
        root_id = root_id or parent.root_id or parent.id
    return options.as_uuid(parent_id), options.as_uuid(root_id)


def _priority(task: ReliableTask, call: Mapping[str, Any]) -> int | None:
    priority: int | None = call.get("priority")
    if priority is None and appconf(task._get_app()).task_inherit_parent_priority:
        parent = caller(task._get_app())
        info = (parent.delivery_info or {}) if parent is not None else {}
        priority = info.get("priority")
    return priority


def _due(task: ReliableTask, call: Mapping[str, Any]) -> tuple[datetime | None, float]:
    eta, countdown = call.get("eta"), call.get("countdown")
    if countdown is not None:
        return None, float(countdown)
    if eta is None:
        return None, 0.0
    now = datetime.now(UTC)
    return options.moment_of(task.name, "eta", eta, task._get_app().timezone, now), 0.0


def _expiry(task: ReliableTask, call: Mapping[str, Any]) -> tuple[datetime | None, float | None]:
    expires = call.get("expires")
    if expires is None:
        return None, None
    if isinstance(expires, int | float):
        return None, float(expires)
    now = datetime.now(UTC)
    return options.moment_of(task.name, "expires", expires, task._get_app().timezone, now), None
