"""The sweeper: publishes what nobody published or claimed, rescues, expires, prunes.

Every worker runs one, and any number may run at once. ``manage.py reliable_tasks sweep`` runs the
same alone.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from celery import Celery
from django.db import Error as DjangoDatabaseError
from django.db import connections

from . import events, ledger, results
from .conf import current
from .errors import LedgerNotReady
from .faults import reach
from .ledger import Swept
from .link import Link
from .patience import Patience
from .states import ENDED
from .turns import Turns

logger = logging.getLogger("reliable_tasks.sweeper")

# The sweeper looks ahead to the next due time, but not more often than this.
_SHORTEST_PAUSE: Final = 0.02
_PRUNE_EVERY: Final = 60.0
# How many entries whose messages are missing one count marks, to be published at the usual pace.
_MOST_PULLED: Final = 50_000
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
        put_off: entries looked at that only wait their turn.
        pruned: old entries deleted.
        full: the pass took as many entries as one may; there may be more.
        paced: it published as many as one may in a turn.
    """

    published: int = 0
    unpublished: int = 0
    rescued: int = 0
    died: int = 0
    cancelled: int = 0
    expired: int = 0
    put_off: int = 0
    pruned: int = 0
    full: bool = field(default=False, repr=False)
    paced: bool = field(default=False, repr=False)


@dataclass(slots=True)
class Reconciled:
    """What a count of entries against messages came to.

    Attributes:
        pulled: entries to be published again because a message is missing.
        shared: queues with more messages than entries, so that none can be seen to be missing.
    """

    pulled: int = 0
    shared: set[str] = field(default_factory=set)


def sweep(
    app: Celery,
    link: Link,
    *,
    rescuing: bool = True,
    shared: Collection[str] = (),
    prune: bool = True,
    now: datetime | None = None,
) -> SweepReport:
    """Do one pass over everything that is due.

    Args:
        app: the Celery app to publish with.
        link: the connection to publish over.
        rescuing: take over running entries whose lease has ended.
        shared: queues that :func:`reconcile` found messages of plain tasks on.
        prune: delete what is older than the ``KEEP_…`` settings, too.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done.
    """
    settings = current()
    spread = _spread()
    report = SweepReport()
    reach("sweep.begin")
    swept = ledger.sweep_due(
        limit=settings.SWEEP_BATCH,
        recheck=settings.PUBLISH_RECHECK * spread,
        longest=settings.PUBLISH_RECHECK_MAX * spread,
        publishing=link.is_up(),
        counted=link.counts,
        shared=shared,
        rescuing=rescuing,
        now=now,
    )
    report.full = swept.touched >= settings.SWEEP_BATCH
    report.paced = len(swept.wakeups) >= settings.SWEEP_BATCH
    reach("sweep.committed")
    report.published = link.deliver(swept.wakeups)
    reach("sweep.published")
    if report.published < len(swept.wakeups):
        report.unpublished = len(swept.wakeups)
        lost = [UUID(wakeup.entry) for wakeup in swept.wakeups]
        reach("takeback.begin")
        ledger.take_back(lost, retry_in=settings.BREAKER_SECONDS, now=now)
        reach("takeback.written")
    tell(app, swept)
    report.rescued, report.died = len(swept.rescued), len(swept.died)
    report.cancelled, report.expired = len(swept.cancelled), len(swept.expired)
    report.put_off = swept.put_off
    if prune:
        report.pruned = prune_old(now=now)
    return report


def reconcile(link: Link, *, now: datetime | None = None) -> Reconciled:
    """Count whether there is a message for every entry that waits; see the ledger's ``backlog``.

    Args:
        link: the connection to the broker.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many entries the next sweep publishes again, and on which queues nobody can tell.
    """
    settings = current()
    fetched: Counter[str] | None = None
    found = Reconciled()
    paused = ledger.paused(now=now)
    if paused.some_ended:
        ledger.forget_ended(now=now)
    for queue in ledger.waiting_queues(grace=settings.PUBLISH_GRACE, held=paused, now=now):
        held = link.depth(queue)
        if held is None:  # of this queue, or the broker is down
            if link.breaker.is_open:
                break
            continue
        if fetched is None:
            fetched = ledger.fetched(settings.LEASE_SECONDS, now=now)
        missing = ledger.missing_on(
            queue,
            held + fetched[queue],
            grace=settings.PUBLISH_GRACE,
            at_most=_MOST_PULLED,
            held=paused,
            now=now,
        )
        if missing > 0:
            reach("reconcile.counted")
            found.pulled += ledger.pull_forward(
                queue, count=missing, grace=settings.PUBLISH_GRACE, held=paused, now=now
            )
            reach("reconcile.pulled")
        elif missing < 0:
            found.shared.add(queue)
    return found


def _spread() -> float:
    # Workers ask the broker for messages in a rhythm of their own. Were ours a fixed multiple of
    # it, the same worker could be served each time, though it does not know the task.
    return random.uniform(0.8, 1.2)  # noqa: S311 - no secret


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
    return sum(
        ledger.prune(state, age, batch=settings.PRUNE_BATCH, now=now)
        for state in sorted(ENDED)
        if (age := settings.keep(state)) is not None
    )


class Sweeper(threading.Thread):
    """Sweeps until it is told to stop.

    Args:
        app: the Celery app to publish with.
        worker: the identity of the worker it runs in; None where it runs alone.
    """

    def __init__(self, app: Celery, worker: str | None = None) -> None:
        super().__init__(name="reliable-tasks-sweeper", daemon=True)
        self._app = app
        self._worker = worker
        self._link = Link(app, redeclare=True)
        self._wake = threading.Event()
        self._stopped = False
        self._next_prune = 0.0
        self._next_reconcile = 0.0
        self._patience = Patience()
        self._shared: set[str] = set()
        self._turns = Turns()

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
        try:
            pause = self._turns.take(self._sweep_and_look_ahead)
        except (DjangoDatabaseError, LedgerNotReady) as error:
            logger.warning("The ledger cannot be swept: %s", error)
            connections.close_all()
            self._patience.start_over()
            return settings.SWEEP_SECONDS
        except Exception:  # one bad row or receiver must not end the sweeping for good
            logger.exception("A sweep failed; the next one follows.")
            return settings.SWEEP_SECONDS
        return max(_SHORTEST_PAUSE, min(pause, settings.SWEEP_SECONDS))

    def _sweep_and_look_ahead(self) -> float:
        began = time.monotonic()
        longest = current().SWEEP_SECONDS
        # A look first: it takes no lock, which spares SQLite's other writers.
        wait = ledger.seconds_until_wake()
        report = None
        if wait is not None and wait <= 0:
            report = sweep(
                self._app,
                self._link,
                rescuing=self._patience.is_over(),
                shared=self._shared,
                prune=False,
            )
            wait = ledger.seconds_until_wake()
        pulled = self._now_and_then(began)
        if report is not None and report.paced:
            # Publishing a backlog is bounded to one batch a turn.
            return longest - (time.monotonic() - began)
        if pulled or (report is not None and report.full):
            return 0.0
        if wait is None or wait <= 0:
            # Overdue still: the broker is down, somebody else holds the rows, or leases have ended
            # that are not believed yet.
            doubted = self._patience.left()
            return longest if doubted is None else doubted
        return wait

    def _now_and_then(self, began: float) -> int:
        pulled = 0
        settings = current()
        if began >= self._next_reconcile:
            # One worker's count is enough; the others count now and then, should that one hang.
            mine = self._worker in (None, ledger.first_alive(settings.LEASE_SECONDS))
            often = mine or not self._next_reconcile
            found = reconcile(self._link)
            pulled, self._shared = found.pulled, found.shared
            pause = settings.PUBLISH_GRACE if often else settings.PUBLISH_RECHECK
            # A count that stopped at its limit says that more are missing.
            more = pulled >= _MOST_PULLED
            self._next_reconcile = began + (0.0 if more else pause * _spread())
        if began >= self._next_prune:
            lapsed = ledger.forget_lapsed(batch=settings.PRUNE_BATCH)
            more = prune_old() > 0 or lapsed >= settings.PRUNE_BATCH
            self._next_prune = began + (0.0 if more else _PRUNE_EVERY)
            ledger.forget_silent(_WORKER_FORGOTTEN_AFTER)
        return pulled
