"""The boot step that every worker runs by itself."""

from __future__ import annotations

import atexit
import logging
import os
from typing import Any

from celery import bootsteps, signals
from celery.signals import task_revoked, worker_shutdown, worker_shutting_down

from .. import identity
from ..pins import PINNED
from ..restoring import entry_of
from ..task import ReliableTask
from . import connections, handed, inbox, reconnecting, unknown
from .keeper import Keeper

logger = logging.getLogger("reliable_tasks.worker")


class ReliableStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the keeper and the sweeper with the worker, whatever its pool."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> Keeper:
        """Prepare before the pool forks its children."""
        identity.begin()
        connections.take_over(worker.app)
        warn_of_undone_pins(worker.app)
        keeper = worker.reliable_keeper = Keeper(worker)
        signals.task_revoked.disconnect(_on_revoked)
        task_revoked.connect(_on_revoked, weak=False)
        worker_shutting_down.connect(keeper_drains(keeper), weak=False)
        worker_shutdown.connect(keeper_ends(keeper), weak=False)
        # A cold stop sends no signal.
        atexit.register(keeper_ends(keeper))
        return keeper

    def start(self, worker: Any) -> None:
        """Start once the children exist; the consumer, which is made by now, starts last."""
        reconnecting.look_after(worker.consumer)
        unknown.take_over(worker.consumer)
        handed.keep_track(worker.pool)
        worker.reliable_keeper.begin()

    def stop(self, worker: Any) -> None:
        """The pool still finishes what it runs, so leases are renewed until the very end."""
        worker.reliable_keeper.draining = True

    terminate = stop


def warn_of_undone_pins(app: Any) -> list[str]:
    """Log each reliable task on which an annotation or option undid what the base needs.

    Args:
        app: the Celery app.

    Returns:
        The warnings.
    """
    found = [
        f"{task.name} has {name}={getattr(task, name)!r}: {why} Remove it from the task's options "
        "and from CELERY_TASK_ANNOTATIONS; the ledger does what it is for."
        for task in app.tasks.values()
        if isinstance(task, ReliableTask)
        for name, why in PINNED.items()
        if getattr(task, name, False)
    ]
    for words in found:
        logger.warning(words)
    return found


def keeper_drains(keeper: Keeper) -> Any:
    """Return a receiver that marks the worker as draining. It runs in a signal handler: no I/O."""

    def drain(**_: object) -> None:
        keeper.draining = True

    return drain


def keeper_ends(keeper: Keeper) -> Any:
    """Return a receiver that stops the keeper once the pool has stopped."""
    here = os.getpid()

    def end(**_: object) -> None:
        if keeper.is_alive() and os.getpid() == here:
            keeper.end()

    return end


def _on_revoked(sender: Any, request: Any, **_: object) -> None:
    if isinstance(sender, ReliableTask):
        inbox.leave(inbox.Revoked(entry_of(request)))
