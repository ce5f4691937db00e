"""What follows an operator's act once it has committed: events, and Celery's stored results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final
from uuid import UUID

from celery import Celery, current_app
from django.db import transaction

from .. import events, ledger, options, overview, results

logger = logging.getLogger("reliable_tasks")

# Seconds that an act waits for one result before it leaves the others.
_PATIENCE: Final = 2.0
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
    backend = _Backend()
    for pk, task in tasks.items():
        events.emit(events.Cancelled(entry=pk, task=task, reason=reason))
        if known_task(task, app) is not None:
            backend.do(partial(results.store_cancel, app, pk, task, reason))
    backend.say_so()


def tell_discarded(tasks: dict[UUID, str], reason: str) -> None:
    """Tell that dead entries were discarded. Celery has their failure already."""
    for pk, task in tasks.items():
        events.emit(events.Cancelled(entry=pk, task=task, reason=reason))


def tell_requeued(entry_ids: list[UUID], reason: str) -> None:
    """Tell that entries were put back, and have Celery forget their end."""
    app = celery_app()
    backend = _Backend()
    rows = overview.entries().filter(pk__in=entry_ids).order_by("pk")
    for pk, name, kept in rows.values_list("pk", "task", "options"):
        events.emit(events.Requeued(entry=pk, task=name, reason=reason))
        task = known_task(name, app)
        if task is not None and (not task.ignore_result or task.store_errors_even_if_ignored):
            backend.do(partial(_forget, task, pk, kept))
    backend.say_so()


class _Backend:
    """Asks a result backend as long as it answers in time.

    One that is down costs Celery twenty seconds for each result, and a person waits for the act.
    """

    def __init__(self) -> None:
        self._too_long = False
        self._left = 0

    def do(self, act: Callable[[], Any]) -> None:
        """Do something there, unless the last time took too long."""
        if self._too_long:
            self._left += 1
            return
        began = time.monotonic()
        act()
        self._too_long = time.monotonic() - began > _PATIENCE

    def say_so(self) -> None:
        """Log what was not done."""
        if self._left:
            logger.warning(
                "The result backend takes too long: it is not told of %s more entries. "
                "The ledger has the truth; who waits in get() for one of them goes on waiting.",
                self._left,
            )


def _forget(task: Any, entry: UUID, kept: Any) -> None:
    try:
        # A message that was adopted may have an id of its own kind.
        task.backend.forget(options.loads(kept).get("task_id") or str(entry))
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not forget the end of %s: %r", entry, failed)
