"""The sweeper: a thread in every worker that sweeps, and looks ahead to the next due time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from celery import Celery
from django.db import Error as DjangoDatabaseError
from django.db import connections

from . import ledger
from .conf import current
from .errands import LAST_SECONDS, Errands, rely_on
from .errors import LedgerNotReady
from .link import Link
from .patience import Patience
from .sweeping import MOST_PULLED, prune_old, reconcile, spread, sweep
from .turns import Turns

logger = logging.getLogger("reliable_tasks.sweeper")

# The sweeper looks ahead to the next due time, but not more often than this.
_SHORTEST_PAUSE: Final = 0.02
_PRUNE_EVERY: Final = 60.0
# With a long backlog even a pass that finds nothing to do costs the database much. After such a one
# the sweeper rests for a multiple of its time, though for no longer than a rescue can wait; and it
# spends no more than a tenth of its time on counting.
_REST: Final = 2.0
_LONGEST_REST: Final = 2.0
_COUNTING_REST: Final = 10.0
_WORKER_FORGOTTEN_AFTER: Final = timedelta(days=1)


def errands_in_turns() -> Errands:
    """Return a thread for errands that keeps its connection to the database away from forks."""
    # An errand may hang. A fork must not, nor the keeper, which makes way for it.
    turns = Turns(patience=1.0)

    def carry_out(errand: Callable[[], object]) -> None:
        try:
            turns.take(errand)
        finally:
            connections.close_all()  # there is seldom another errand soon

    return Errands(carry_out)


class Sweeper(threading.Thread):
    """Sweeps until it is told to stop.

    Args:
        app: the Celery app to publish with.
        worker: the identity of the worker it runs in; None where it runs alone.
        errands: the thread that tells what it does; None for one of its own.
    """

    def __init__(
        self, app: Celery, worker: str | None = None, errands: Errands | None = None
    ) -> None:
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
        self._errands = errands_in_turns() if errands is None else errands

    def nudge(self) -> None:
        """Sweep now rather than at the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """End after the sweep that is under way."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Sweep, wait for the next due time, and so on; an outage is logged and outlived."""
        rely_on(self._errands)
        while not self._stopped:
            pause = self._turn()
            self._wake.wait(pause)
            self._wake.clear()
        self._link.close()
        connections.close_all()
        self._errands.flush(LAST_SECONDS)

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
        return max(_SHORTEST_PAUSE, pause)

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
        took = time.monotonic() - began
        pulled = self._now_and_then(began)
        if report is not None and report.paced:
            # Publishing a backlog is bounded to one batch a turn.
            return longest - (time.monotonic() - began)
        if pulled or (report is not None and report.full):
            pause = 0.0
        elif wait is None or wait <= 0:
            # Overdue still: the broker is down, somebody else holds the rows, or leases have ended
            # that are not believed yet.
            doubted = self._patience.left()
            pause = longest if doubted is None else min(doubted, longest)
        else:
            pause = min(wait, longest)
        rest = min(_REST * took, _LONGEST_REST) if report is not None and report.idle else 0.0
        return max(pause, rest)

    def _now_and_then(self, began: float) -> int:
        pulled = 0
        settings = current()
        if began >= self._next_reconcile:
            # One worker's count is enough; the others count now and then, should that one hang.
            mine = self._worker in (None, ledger.first_alive(settings.LEASE_SECONDS))
            often = mine or not self._next_reconcile
            counting = time.monotonic()
            found = reconcile(self._link)
            took = time.monotonic() - counting
            pulled, self._shared = found.pulled, found.shared
            pause = settings.PUBLISH_GRACE if often else settings.PUBLISH_RECHECK
            # A count that stopped at its limit says that more are missing.
            more = pulled >= MOST_PULLED
            self._next_reconcile = began + (
                0.0 if more else max(pause * spread(), _COUNTING_REST * took)
            )
        if began >= self._next_prune:
            lapsed = ledger.forget_lapsed(batch=settings.PRUNE_BATCH)
            more = prune_old() > 0 or lapsed >= settings.PRUNE_BATCH
            self._next_prune = began + (0.0 if more else _PRUNE_EVERY)
            ledger.forget_silent(_WORKER_FORGOTTEN_AFTER)
        return pulled
