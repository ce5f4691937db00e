"""The sweeper: publishes what nobody published or claimed, rescues, expires, prunes.

Every worker runs one, and any number may run at once. ``manage.py reliable_tasks sweep`` runs the
same alone.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from celery import Celery
from django.db import DatabaseError, connections

from . import events, ledger, results
from .conf import current
from .ledger import Swept
from .publish import Link
from .states import State

logger = logging.getLogger("reliable_tasks.sweeper")

# The sweeper looks ahead to the next due time, but not more often than this.
_SHORTEST_PAUSE: Final = 0.02
_PRUNE_EVERY: Final = 60.0
_WORKER_FORGOTTEN_AFTER: Final = timedelta(days=1)


@dataclass(slots=True)
class SweepReport:
    """What one sweep did, in numbers.

    Attributes:
        published: wake-ups handed to the broker.
        unpublished: wake-ups the broker did not take.
        rescued: entries taken over from a lost process, to run again.
        died: entries taken over for the last time.
        cancelled: entries whose cancel was carried out.
        expired: entries whose ``expires`` had passed.
        pruned: old entries deleted.
    """

    published: int = 0
    unpublished: int = 0
    rescued: int = 0
    died: int = 0
    cancelled: int = 0
    expired: int = 0
    pruned: int = 0
    full: bool = field(default=False, repr=False)


def sweep(
    app: Celery, link: Link, *, prune: bool = True, now: datetime | None = None
) -> SweepReport:
    """Do one pass over everything that is due.

    Args:
        app: the Celery app to publish with.
        link: the connection to publish over.
        prune: delete what is older than the ``KEEP_…`` settings, too.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done.
    """
    settings = current()
    report = SweepReport()
    swept = ledger.sweep_due(
        limit=settings.SWEEP_BATCH,
        grace=settings.PUBLISH_GRACE,
        longest=settings.PUBLISH_BACKOFF_MAX,
        publishing=link.is_up(),
        now=now,
    )
    report.full = swept.touched >= settings.SWEEP_BATCH
    report.published = link.deliver(swept.wakeups)
    if report.published < len(swept.wakeups):
        report.unpublished = len(swept.wakeups)
        lost = [UUID(wakeup.entry) for wakeup in swept.wakeups]
        ledger.take_back(lost, retry_in=settings.BREAKER_SECONDS, now=now)
    tell(app, swept)
    report.rescued, report.died = len(swept.rescued), len(swept.died)
    report.cancelled, report.expired = len(swept.cancelled), len(swept.expired)
    if prune:
        report.pruned = prune_old(now=now)
    return report


def tell(app: Celery, swept: Swept) -> None:
    """Emit the events of a pass, and give Celery's result backend the endings nobody else reports.

    Args:
        app: the Celery app whose result backend it is.
        swept: what the pass did; its transaction has committed.
    """
    for taken in (*swept.rescued, *swept.died):
        events.emit(
            events.Rescued(
                entry=taken.id,
                task=taken.task,
                attempt=taken.attempt,
                worker=taken.worker,
                crashes=taken.crashes,
            )
        )
    for taken in swept.died:
        events.emit(
            events.Died(
                entry=taken.id,
                task=taken.task,
                attempt=taken.attempt,
                outcome="crashed",
                error=ledger.CRASH,
                reason=taken.reason,
            )
        )
        results.store_loss(app, taken)
    for taken in swept.cancelled:
        events.emit(events.Cancelled(entry=taken.id, task=taken.task, reason=taken.reason))
        results.store_cancel(app, taken.id, taken.task, taken.reason)
    for taken in swept.expired:
        events.emit(events.Expired(entry=taken.id, task=taken.task))
        results.store_cancel(app, taken.id, taken.task, "expired")


def prune_old(*, now: datetime | None = None) -> int:
    """Delete one batch of each kind of ended entries that is older than its ``KEEP_…`` setting.

    Returns:
        How many were deleted.
    """
    settings = current()
    keep = {
        State.SUCCEEDED: settings.KEEP_SUCCEEDED,
        State.CANCELLED: settings.KEEP_CANCELLED,
        State.DEAD: settings.KEEP_DEAD,
    }
    return sum(
        ledger.prune(state, age, batch=settings.PRUNE_BATCH, now=now)
        for state, age in keep.items()
        if age is not None
    )


class Sweeper(threading.Thread):
    """Sweeps until it is told to stop.

    Args:
        app: the Celery app to publish with.
    """

    def __init__(self, app: Celery) -> None:
        super().__init__(name="reliable-tasks-sweeper", daemon=True)
        self._app = app
        self._link = Link(app, redeclare=True)
        self._wake = threading.Event()
        self._stopped = False
        self._next_prune = 0.0

    def nudge(self) -> None:
        """Sweep now rather than at the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """End after the sweep that is under way."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Sweep, wait for the next due time, and so on; an outage is logged and outlived."""
        while not self._stopped:
            pause = self._turn()
            self._wake.wait(pause)
            self._wake.clear()
        self._link.close()
        connections.close_all()

    def _turn(self) -> float:
        settings = current()
        began = time.monotonic()
        try:
            # A look first: it takes no lock, which spares SQLite's other writers.
            wait = ledger.seconds_until_wake()
            full = False
            if wait is not None and wait <= 0:
                full = sweep(self._app, self._link, prune=False).full
                wait = ledger.seconds_until_wake()
            if began >= self._next_prune:
                self._prune(began)
        except DatabaseError as error:
            logger.warning("The ledger cannot be swept: %s", error)
            connections.close_all()
            return settings.SWEEP_SECONDS
        except Exception:  # one bad row or receiver must not end the sweeping for good
            logger.exception("A sweep failed; the next one follows.")
            return settings.SWEEP_SECONDS
        if not _keeps_connection():
            connections.close_all()
        if full or wait is None:
            # A full batch means a backlog: publishing it is bounded to one batch a turn.
            return max(_SHORTEST_PAUSE, settings.SWEEP_SECONDS - (time.monotonic() - began))
        if wait <= 0:  # overdue, but the broker is down or somebody else holds the rows
            return settings.SWEEP_SECONDS
        return max(_SHORTEST_PAUSE, min(wait, settings.SWEEP_SECONDS))

    def _prune(self, began: float) -> None:
        self._next_prune = began + (0.0 if prune_old() else _PRUNE_EVERY)
        ledger.forget_silent(_WORKER_FORGOTTEN_AFTER)


def _keeps_connection() -> bool:
    # A pool's children are forked while this thread lives. PostgreSQL's drivers leave an inherited
    # connection alone; the others' might close it for both, so it must not be open between turns.
    return ledger.ledger_connection().vendor == "postgresql"
