"""Many calls of one task at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from . import arguments, calling, conflicts, events, keying, ledger, options
from .appconf import appconf
from .dedup import Policy
from .errors import AlreadyQueued
from .ids import new_id
from .many import Batches, EnqueuedMany

if TYPE_CHECKING:
    from .task import ReliableTask


def enqueue_many(task: ReliableTask, calls: Iterable[Any], call: Mapping[str, Any]) -> EnqueuedMany:
    """Enqueue many calls; see :meth:`reliable_tasks.ReliableTask.enqueue_many`.

    Args:
        task: the task that is called.
        calls: the arguments of each call.
        call: the options of all of them, the task's own filled in.
    """
    options.check(task.name, call)
    policy = keying.policy_of(task, call)
    if appconf(task._get_app()).task_always_eager:
        return _eagerly(task, calls, call)
    if policy is not None:
        return _once(task, calls, policy, call)
    batches = _batches(task, calls, call)
    calling.check_transaction(task.name)
    alias = ledger.ledger_connection().alias
    with transaction.atomic(using=alias) if batches.ids else nullcontext():
        for batch in batches:
            batch.write()
            task.publish_after_commit(batch.template, batch.ids)
    for batch in batches:
        events.emit_many(events.Enqueued, task.name, batch.ids, queue=batch.template.queue)
    return EnqueuedMany(task, batches.ids)


def _eagerly(task: ReliableTask, calls: Iterable[Any], call: Mapping[str, Any]) -> EnqueuedMany:
    ids: list[UUID] = []
    held: dict[int, AlreadyQueued] = {}
    for item in calls:
        try:
            result = task.apply_async(*arguments.of_item(task, item), **call)
            ids.append(options.entry_id(result.id))
        except AlreadyQueued as refused:
            held[len(ids)] = refused
            ids.append(refused.entry or new_id())
    return EnqueuedMany(task, ids, held)


def _once(
    task: ReliableTask, calls: Iterable[Any], policy: Policy, call: Mapping[str, Any]
) -> EnqueuedMany:
    entries = []
    for item in calls:
        args, kwargs = arguments.of_item(task, item)
        task.check_signature(args, kwargs)
        entry = calling.new_entry(task, new_id(), args, kwargs, call)
        entries.append(keying.with_key(task, entry, policy, args, kwargs))
    calling.check_transaction(task.name)
    with transaction.atomic(using=ledger.ledger_connection().alias):
        written, refused = conflicts.many(task, entries, policy)
        for queue in {entry.queue for entry in written}:
            alike = [entry for entry in written if entry.queue == queue]
            task.publish_after_commit(alike[0], [entry.id for entry in alike])
    for entry in written:
        events.emit(events.Enqueued(entry=entry.id, task=task.name, queue=entry.queue))
    ids = [
        (refused[n].entry or entry.id) if n in refused else entry.id
        for n, entry in enumerate(entries)
    ]
    return EnqueuedMany(task, ids, refused)


def _batches(task: ReliableTask, calls: Iterable[Any], call: Mapping[str, Any]) -> Batches:
    """Check and encode calls."""
    routed = bool(appconf(task._get_app()).task_routes)
    batches = Batches(calling.new_entry(task, new_id(), (), {}, call))
    for item in calls:
        args, kwargs = arguments.of_item(task, item)
        task.check_signature(args, kwargs)
        args, kwargs, subject = arguments.plain(task, args, kwargs)
        queue = calling.route(task, call, args, kwargs) if routed else batches.template.queue
        batches.add((new_id(), *arguments.texts(task, args, kwargs)), queue, subject)
    return batches
