"""Gives Celery's result backend the endings that no attempt is left to report.

An entry that dies with its process, is cancelled while it waits, or expires has nobody in a worker
who would store its result. Without this, ``AsyncResult.get()`` would wait for ever and a chord
would never learn of it.

A backend may be down, or never answer: see Note [Errands] for who does not wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.app.task import Context
from django.db.models import TextField
from django.db.models.functions import Cast

from . import events
from .errands import tell
from .errors import CorruptEntry
from .forgetting import AsLongAsItAnswers
from .ledger import Taken, ledger_connection
from .models import Entry
from .options import listed, loads
from .states import ENDED

logger = logging.getLogger("reliable_tasks.results")

# An entry's state, its options as text, and the entries around it.
_Kept = tuple[Any, ...]
_NOTHING: Final = (None, None, None, None, None)


def store_loss(app: Celery, taken: Taken) -> None:
    """Store that an entry died because its process was lost too often."""
    task = app.tasks.get(taken.task)
    if task is not None:
        store_failure(task, taken.id, WorkerLostError(taken.reason))


def store_failure(task: Any, entry: UUID, error: Exception) -> None:
    """Store a failure that happened outside any attempt, run errbacks, tell the chord.

    Args:
        task: the task.
        entry: the entry.
        error: what to report.
    """

    def store(request: Context, stores: bool) -> None:
        stores = stores or bool(task.store_errors_even_if_ignored)
        task.backend.mark_as_failure(request.id, error, request=request, store_result=stores)

    tell(partial(_store, task, entry, store))


def store_cancel(app: Celery, entry: UUID, task_name: str, reason: str) -> None:
    """Store that an entry was cancelled, as Celery's own revoke does, and tell the chord."""
    if task_name in app.tasks:
        tell(partial(store_cancels, app, {entry: task_name}, reason))


def store_cancels(app: Celery, tasks: Mapping[UUID, str], reason: str) -> None:
    """Store that entries were cancelled; see :func:`store_cancel`.

    Args:
        app: the Celery app.
        tasks: the entries, with the names of their tasks.
        reason: why, in words.
    """

    def store(task: Any, request: Context, stores: bool) -> None:
        task.backend.mark_as_revoked(request.id, reason, request=request, store_result=stores)

    known = {entry: task for entry, name in tasks.items() if (task := app.tasks.get(name))}
    try:
        kept = _kept(known) if known else {}
    except Exception as failed:  # an attempt whose end is written tells this, and must go on
        logger.warning("The result backend is not told of %d ends: %r", len(known), failed)
        return
    backend = AsLongAsItAnswers()
    for entry, task in known.items():
        found = kept.get(entry, _NOTHING)
        backend.do(partial(_store, task, entry, partial(store, task), found))
    backend.say_so()


def _store(
    task: Any,
    entry: UUID,
    store: Callable[[Context, bool], None],
    found: _Kept | None = None,
) -> None:
    try:
        request = _request(task, entry, found or _kept([entry]).get(entry, _NOTHING))
        if request is not None:
            store(*request)
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not take the end of %s: %r", entry, failed)


def tell_expired(app: Celery, taken: Taken) -> None:
    """Tell whoever waits for an entry that it has expired.

    Args:
        app: the Celery app.
        taken: the entry.
    """
    events.emit(events.Expired(entry=taken.id, task=taken.task))
    store_cancel(app, taken.id, taken.task, "expired")


def _kept(entries: Collection[UUID]) -> dict[UUID, _Kept]:
    """Return of entries what Celery needs to know of them."""
    rows = Entry.objects.using(ledger_connection().alias).filter(pk__in=list(entries))
    text = Cast("options", TextField())
    columns = rows.values_list("pk", "state", text, "group_id", "root_id", "parent_id")
    return {pk: tuple(found) for pk, *found in columns}


def _request(task: Any, entry: UUID, found: _Kept) -> tuple[Context, bool] | None:
    """Return what Celery needs to know of the entry, and whether its result is to be stored.

    Returns:
        None if the entry has been put back meanwhile.
    """
    state, options, *links = found
    if state is not None and state not in ENDED:
        return None
    try:
        kept = loads(options)
    except CorruptEntry:  # why it is dead, if it is
        kept = {}
    group, root, parent = (str(link) if link else None for link in links)
    request = Context(
        id=kept.get("task_id") or str(entry),
        task=task.name,
        args=(),
        kwargs={},
        errbacks=listed(kept.get("link_error")),
        chord=kept.get("chord"),
        chain=kept.get("chain"),
        group=group,
        group_index=kept.get("group_index"),
        root_id=root,
        parent_id=parent,
        delivery_info={},
        called_directly=False,
    )
    return request, not kept.get("ignore_result", task.ignore_result)
