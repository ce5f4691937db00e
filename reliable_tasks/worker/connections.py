"""Keeps a task's database connections between tasks.

Celery's Django fixup closes every connection before and after each task. Opening one costs more
than all of an entry's bookkeeping, so for reliable tasks only what is broken or old is closed. One
of Django's own pool (``OPTIONS["pool"]``) goes back there, where others of the process may be
waiting for it.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, signals
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..conf import current
from ..task import ReliableTask

_SINCE = "_reliable_tasks_since"


def take_over(app: Celery) -> None:
    """Put this module in the place of the fixup's closing of connections, for reliable tasks.

    Args:
        app: the worker's app. Plain tasks keep what the fixup does.
    """
    for fixup in getattr(app, "_fixups", ()):
        theirs = getattr(fixup, "worker_fixup", None)
        if theirs is None:
            continue
        if signals.task_prerun.disconnect(theirs.on_task_prerun):
            signals.task_prerun.connect(_unless_reliable(theirs.on_task_prerun), weak=False)
        if signals.task_postrun.disconnect(theirs.on_task_postrun):
            signals.task_postrun.connect(_unless_reliable(theirs.on_task_postrun), weak=False)
    signals.task_postrun.connect(_tidy_after, weak=False, dispatch_uid="reliable_tasks.tidy")


def _unless_reliable(theirs: Any) -> Any:
    def receiver(sender: Any, **kwargs: Any) -> None:
        if not isinstance(sender, ReliableTask):
            theirs(sender, **kwargs)

    return receiver


def _tidy_after(sender: Any, **_: Any) -> None:
    if isinstance(sender, ReliableTask) and not sender.request.is_eager:
        tidy()


def tidy() -> None:
    """Close this thread's connections that are broken, old, left in a transaction, or pooled."""
    oldest = time.monotonic() - current().CONNECTION_MAX_AGE
    for connection in connections.all(initialized_only=True):
        driver = connection.connection
        if driver is None:
            continue
        # The age is kept with the driver's connection it belongs to: a new one starts at zero.
        known, since = getattr(connection, _SINCE, (None, 0.0))
        if known != id(driver):
            since = time.monotonic()
            setattr(connection, _SINCE, (id(driver), since))
        done_with = connection.in_atomic_block or connection.settings_dict["OPTIONS"].get("pool")
        if since < oldest or done_with or _is_broken(connection):
            _close(connection)


def _is_broken(connection: BaseDatabaseWrapper) -> bool:
    if not connection.get_autocommit():
        return True
    if not connection.errors_occurred:
        return False
    if not connection.is_usable():
        return True
    connection.errors_occurred = False
    return False


def _close(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.close()
    except DatabaseError:
        connection.connection = None
