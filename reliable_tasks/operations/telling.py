"""What follows an operator's act once it has committed: events, and Celery's stored results."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any, Final
from uuid import UUID

from celery import Celery, current_app
from django.db import transaction

from .. import events, ledger, options, overview, results
from ..errors import CorruptEntry
from ..forgetting import forget

logger = logging.getLogger("reliable_tasks")

_IMPORTED: Final = "_reliable_tasks_imported"


def celery_app() -> Celery:
    """Return the Celery app of this process: the project's, where the project imports it."""
    return current_app._get_current_object()


def known_task(name: str, app: Celery | None = None) -> Any:
    """Return a task by its name, None if this process does not know it.

    Args:
        name: the task's name.
        app: the Celery app; this process's unless given.
    """
    app = app or celery_app()
    found = app.tasks.get(name)
    if found is None and not getattr(app, _IMPORTED, False):
        # A web process need not have imported the modules of tasks that it never calls.
        setattr(app, _IMPORTED, True)
        try:
            app.loader.import_default_modules()
        except Exception as failed:  # only what Celery would add is at stake
            logger.warning("The modules of the tasks cannot be imported: %r", failed)
        found = app.tasks.get(name)
    return found


def after_commit(act: Callable[[], Any]) -> None:
    """Do something once the ledger's transaction has committed."""

    def tell() -> None:  # Django logs the name of what raised, which a partial has not
        act()

    transaction.on_commit(tell, using=ledger.ledger_connection().alias, robust=True)


def tasks_of(entry_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the tasks' names of entries."""
    if not entry_ids:
        return {}
    return dict(overview.entries().filter(pk__in=entry_ids).values_list("pk", "task"))


def tell_cancelled(tasks: dict[UUID, str], reason: str) -> None:
    """Tell that entries which waited were cancelled."""
    app = celery_app()
    for pk, task in tasks.items():
        events.emit(events.Cancelled(entry=pk, task=task, reason=reason))
    known = {pk: task for pk, task in tasks.items() if known_task(task, app) is not None}
    results.store_cancels(app, known, reason)


def tell_discarded(tasks: dict[UUID, str], reason: str) -> None:
    """Tell that dead entries were discarded. Celery has their failure already."""
    for pk, task in tasks.items():
        events.emit(events.Cancelled(entry=pk, task=task, reason=reason))


def tell_requeued(entry_ids: list[UUID], reason: str) -> None:
    """Tell that entries were put back, and have Celery forget their end."""
    app = celery_app()
    rows = overview.entries().filter(pk__in=entry_ids).order_by("pk")
    ended: dict[str, list[str]] = defaultdict(list)
    for pk, name, kept in rows.values_list("pk", "task", "options"):
        events.emit(events.Requeued(entry=pk, task=name, reason=reason))
        task = known_task(name, app)
        if task is not None and (not task.ignore_result or task.store_errors_even_if_ignored):
            ended[name].append(_result_id(pk, kept))
    for name, ids in ended.items():
        forget(app.tasks[name].backend, ids)


def _result_id(entry: UUID, kept: Any) -> str:
    try:
        # A message that was adopted may have an id of its own kind.
        return str(options.loads(kept).get("task_id") or entry)
    except CorruptEntry:
        return str(entry)
