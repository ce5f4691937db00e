"""The keeper: renews the leases of what its worker runs, and sees to what went wrong there."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from celery.exceptions import Ignore, TimeLimitExceeded
from celery.worker import state as worker_state
from django.db import Error as DjangoDatabaseError
from django.db import connections

from .. import errands, execution, ledger, operations, results, sweeper, sweeping
from ..conf import current
from ..errors import LedgerNotReady
from ..faults import reach
from ..identity import identity
from ..models import Entry
from ..options import entry_id
from ..restoring import entry_of
from ..task import ReliableTask
from ..turns import Turns
from . import inbox
from .children import Children
from .reporter import Reporter, copy_of, snapshot

logger = logging.getLogger("reliable_tasks.worker")

# A child that got its hard limit's SIGTERM has a tenth of a second to report by itself.
_CHILD_REPORTS_WITHIN: Final = 0.3


class Keeper(threading.Thread):
    """One thread in each worker's main process.

    Args:
        worker: Celery's worker controller.
    """

    def __init__(self, worker: Any) -> None:
        super().__init__(name="reliable-tasks-keeper", daemon=True)
        self._worker = worker
        self._identity = identity(worker.hostname)
        self._stopped = False
        self._stopping: dict[UUID, int] = {}
        self._terminated: dict[UUID, float] = {}
        self._not_entries: set[str] = set()
        self._unserved: list[inbox.Note] = []
        self._children = Children(worker)
        self._turns = Turns()
        self._reporter = Reporter(worker, self._identity)
        self._errands = sweeper.errands_in_turns()
        self.draining = False
        self.sweeper = (
            sweeper.Sweeper(worker.app, self._identity, self._errands)
            if current().SWEEPER
            else None
        )

    def begin(self) -> None:
        """Start keeping, and sweeping."""
        self.start()
        if self.sweeper is not None:
            self.sweeper.start()

    def end(self) -> None:
        """Stop keeping; the worker has nothing running any more."""
        self._stopped = True
        if self.sweeper is not None:
            self.sweeper.stop()
        self.join(timeout=2.0)
        if self.sweeper is not None and self.sweeper.is_alive():
            self.sweeper.join(timeout=2.0)  # what its last pass has to tell
        try:
            left = ledger.release_left(self._identity)
            ledger.leave(self._identity)
        except (DjangoDatabaseError, LedgerNotReady) as error:
            logger.warning("The worker could not sign off: %s", error)
        else:
            if left:
                logger.info("Released %s entries that the pool left behind.", left)
        if not self._errands.flush(errands.LAST_SECONDS):
            logger.warning("The worker ends before receivers and result backends were told all.")

    def run(self) -> None:
        """Beat at every interval; serve notes in between."""
        errands.rely_on(self._errands)
        next_beat = time.monotonic()
        while not self._stopped:
            wait = next_beat - time.monotonic()
            if wait <= 0:
                next_beat = time.monotonic() + current().HEARTBEAT_SECONDS
                self._beat_and_make_up()
                continue
            note = inbox.take(min(wait, 0.5))
            if note is not None:
                self._serve_all([note])
        connections.close_all()

    def _beat_and_make_up(self) -> None:
        if self._guarded(self._beat):
            unserved, self._unserved = self._unserved, []
            self._serve_all(unserved)

    def _serve_all(self, notes: list[inbox.Note]) -> None:
        """Serve notes; keep those that the ledger did not take until a heartbeat reaches it."""
        self._unserved += [note for note in notes if not self._guarded(self._serve, note)]

    def _guarded(self, act: Any, *args: Any) -> bool:
        try:
            self._turns.take(act, *args)
        except (DjangoDatabaseError, LedgerNotReady) as error:
            logger.warning("The ledger cannot be reached by the keeper: %s", error)
            connections.close_all()
            return False
        except Exception:  # the leases of everything that runs here depend on this thread
            logger.exception("The keeper failed; it goes on.")
        return True

    # -- heartbeat --------------------------------------------------------------------------------

    def _beat(self) -> None:
        held, lost = self._held_and_lost()
        if held:
            reach("renew.begin")
            ledger.renew(held, self._identity, lease=current().LEASE_SECONDS)
            reach("renew.written")
            self._stop_cancelled(held)
        for since in set(lost.values()):
            self._rescue([entry for entry in lost if lost[entry] == since], since)
        ledger.beat(self._reporter.report(), draining=self.draining)
        self._obey_revokes()

    def _held_and_lost(self) -> tuple[dict[UUID, int], dict[UUID, float]]:
        """Return the entries that living processes have, and those of dead ones with since when.

        After a crash Celery keeps the lost request for seconds, while a new attempt of the same
        entry may be running here: that one counts.
        """
        requests = snapshot(worker_state.active_requests)
        alive = self._children.living()
        held = {key: pid for key, pid in self._stopping.items() if alive is None or pid in alive}
        lost: dict[UUID, float] = {}
        for request in requests:
            entry = entry_of(request)
            if alive is None or request.worker_pid in alive:
                held[entry] = request.worker_pid
            else:
                since = self._children.dead_since(request.worker_pid)
                lost[entry] = max(since, lost.get(entry, since))
        return held, {entry: since for entry, since in lost.items() if entry not in held}

    # -- what went wrong --------------------------------------------------------------------------

    def _serve(self, note: inbox.Note) -> None:
        match note:
            case inbox.Lost(entry, pid, noticed):
                # Celery reports late: meanwhile another attempt may be running here.
                if entry not in self._held_and_lost()[0]:
                    self._rescue([entry], self._children.dead_since(pid, noticed))
            case inbox.TimedOut(entry, limit, noticed):
                self._time_out(entry, limit, noticed)
            case inbox.Stopping(entry, pid):
                # Celery forgets it now, but it may take its time to stop.
                self._stopping[entry] = pid
                ledger.renew([entry], self._identity, lease=current().LEASE_SECONDS)
            case inbox.Revoked(entry):
                self._cancel(entry)

    def _rescue(self, entries: list[UUID], dead_since: float) -> None:
        dead_for = time.monotonic() - dead_since
        swept = ledger.rescue_lost(entries, self._identity, dead_for=dead_for)
        sweeping.tell(self._worker.app, swept)
        if swept.rescued and self.sweeper is not None:
            self.sweeper.nudge()

    def _time_out(self, entry: UUID, limit: float, noticed: float) -> None:
        time.sleep(max(0.0, noticed + _CHILD_REPORTS_WITHIN - time.monotonic()))
        claim = ledger.claim_of(entry, self._identity, begun_for=time.monotonic() - noticed)
        if claim is None or entry in self._held_and_lost()[0]:
            return  # the child reported by itself, and another attempt may be running already
        task = self._worker.app.tasks.get(claim.task)
        if not isinstance(task, ReliableTask):
            return
        decision = execution.timed_out(task, claim, limit)
        try:
            # It keeps the note, and tries again, where the ledger does not take it.
            execution.finish(task, claim, decision, how=_promptly)
        except Ignore:
            return
        if decision.dead:
            error = TimeLimitExceeded(limit)
            results.store_failure(task, entry, error)

    def _obey_revokes(self) -> None:
        """Cancel the entries among the tasks that Celery was told to revoke; let it forget them.

        Celery remembers a revoked id for hours in each worker's memory, and would discard the
        message of an entry that a person has put back meanwhile. The ledger remembers better.
        """
        remembered = copy_of(worker_state.revoked)
        self._not_entries.intersection_update(remembered)  # what Celery forgets, so do we
        revoked = {
            entry_id(task_id): task_id for task_id in remembered if task_id not in self._not_entries
        }
        if not revoked:
            return
        alias = ledger.ledger_connection().alias
        known = Entry.objects.using(alias).filter(pk__in=list(revoked))
        ours = set(known.values_list("pk", flat=True))
        self._not_entries |= {name for entry, name in revoked.items() if entry not in ours}
        for entry in ours:
            self._cancel(entry)
            worker_state.revoked.discard(revoked[entry])

    def _cancel(self, entry: UUID) -> None:
        with ledger.short_transaction():
            operations.cancel([entry], "Revoked through Celery.")

    def _stop_cancelled(self, held: dict[UUID, int]) -> None:
        """Terminate attempts that were asked to stop and did not, where the pool can."""
        asked = ledger.asked_to_stop(held, self._identity)
        now = time.monotonic()
        self._terminated = {key: self._terminated.get(key, now) for key in asked}
        if self._children.living() is None:
            return
        for key, since in self._terminated.items():
            graces = (now - since) // max(current().CANCEL_GRACE, current().HEARTBEAT_SECONDS)
            if graces >= 1:
                logger.warning("Terminating the process of %s: it was cancelled.", key)
                number = signal.SIGTERM if graces == 1 else signal.SIGKILL
                self._worker.pool.terminate_job(held[key], number)


def _promptly(write: Callable[[], None], _was_written: Callable[[], bool]) -> None:
    with ledger.short_transaction():
        write()
