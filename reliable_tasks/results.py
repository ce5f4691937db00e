"""Gives Celery's result backend the endings that no attempt is left to report.

An entry that dies with its process, is cancelled while it waits, or expires has nobody in a worker
who would store its result. Without this, ``AsyncResult.get()`` would wait for ever and a chord
would never learn of it.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.app.task import Context

from .ledger import Taken
from .options import listed

logger = logging.getLogger("reliable_tasks.results")


def store_loss(app: Celery, taken: Taken) -> None:
    """Store that an entry died because its process was lost too often."""
    task = app.tasks.get(taken.task)
    if task is not None:
        store_failure(task, taken.id, WorkerLostError(taken.reason), taken.options)


def store_failure(task: Any, entry: UUID, error: Exception, options: dict[str, Any] | None) -> None:
    """Store a failure that happened outside any attempt, and run the entry's errbacks.

    Args:
        task: the task.
        entry: the entry.
        error: what to report.
        options: the entry's options.
    """
    kept = options or {}
    request = Context(
        id=str(entry),
        task=task.name,
        args=(),
        kwargs={},
        errbacks=listed(kept.get("link_error")),
        chord=kept.get("chord"),
        chain=kept.get("chain"),
        group=kept.get("group_id"),
        delivery_info={},
        called_directly=False,
    )
    try:
        task.backend.mark_as_failure(
            str(entry), error, request=request, store_result=_stores(task, kept)
        )
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not take the end of %s: %r", entry, failed)


def store_cancel(app: Celery, entry: UUID, task_name: str, reason: str) -> None:
    """Store that an entry was cancelled, as Celery's own revoke does."""
    task = app.tasks.get(task_name)
    if task is None:
        return
    try:
        task.backend.mark_as_revoked(str(entry), reason, store_result=not task.ignore_result)
    except Exception as failed:
        logger.warning("The result backend did not take the end of %s: %r", entry, failed)


def _stores(task: Any, kept: dict[str, Any]) -> bool:
    ignored = kept.get("ignore_result", task.ignore_result)
    return not ignored or bool(task.store_errors_even_if_ignored)
