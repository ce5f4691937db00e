"""The keeper: renews the leases of what its worker runs, and sees to what went wrong there."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
import time
from collections import Counter
from typing import Any, Final
from uuid import UUID

import celery
import django
from celery.exceptions import Ignore
from celery.worker import state as worker_state
from django.db import Error as DjangoDatabaseError
from django.db import connections

from .. import __version__, calling, execution, ledger, operations, results, sweeper
from ..conf import current
from ..errors import LedgerNotReady
from ..faults import reach
from ..identity import identity
from ..ledger import EMBEDDED_BEAT, Claim, WorkerReport
from ..models import Entry
from ..options import entry_id
from ..restoring import entry_of
from ..states import State
from ..task import ReliableTask
from ..turns import Turns
from . import inbox
from .children import Children

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
        self._children = Children(worker)
        self._turns = Turns()
        known = sorted(worker.app.tasks.items())
        self._tasks = [name for name, task in known if isinstance(task, ReliableTask)]
        self.draining = False
        self.sweeper = sweeper.Sweeper(worker.app, self._identity) if current().SWEEPER else None

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
        try:
            left = ledger.release_left(self._identity)
            ledger.leave(self._identity)
        except (DjangoDatabaseError, LedgerNotReady) as error:
            logger.warning("The worker could not sign off: %s", error)
        else:
            if left:
                logger.info("Released %s entries that the pool left behind.", left)

    def run(self) -> None:
        """Beat at every interval; serve notes in between."""
        next_beat = time.monotonic()
        while not self._stopped:
            wait = next_beat - time.monotonic()
            if wait <= 0:
                next_beat = time.monotonic() + current().HEARTBEAT_SECONDS
                self._guarded(self._beat)
                continue
            note = inbox.take(min(wait, 0.5))
            if note is not None:
                self._guarded(self._serve, note)
        connections.close_all()

    def _guarded(self, act: Any, *args: Any) -> None:
        try:
            with self._turns.turn():
                act(*args)
        except (DjangoDatabaseError, LedgerNotReady) as error:
            logger.warning("The ledger cannot be reached by the keeper: %s", error)
            connections.close_all()
        except Exception:  # the leases of everything that runs here depend on this thread
            logger.exception("The keeper failed; it goes on.")

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
        self._obey_revokes()
        ledger.beat(self._report(), draining=self.draining)

    def _held_and_lost(self) -> tuple[dict[UUID, int], dict[UUID, float]]:
        """Return the entries that living processes have, and those of dead ones with since when.

        After a crash Celery keeps the lost request for seconds, while a new attempt of the same
        entry may be running here: that one counts.
        """
        requests = _snapshot(worker_state.active_requests)
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

    def _fetched(self) -> Counter[str]:
        """Count the messages of each queue that are fetched and not begun."""
        begun = set(_snapshot(worker_state.active_requests))
        return Counter(
            calling.queue_of(self._worker.app, request.delivery_info)
            for request in _snapshot(worker_state.reserved_requests)
            if request not in begun
        )

    def _report(self) -> WorkerReport:
        worker = self._worker
        consumer = getattr(worker, "consumer", None)
        queues = getattr(getattr(consumer, "task_consumer", None), "queues", None) or []
        names = {getattr(queue, "name", str(queue)) for queue in queues}
        return WorkerReport(
            identity=self._identity,
            hostname=worker.hostname,
            pid=os.getpid(),
            pool=type(worker.pool).__module__.rpartition(".")[2],
            concurrency=worker.concurrency,
            queues=sorted(names or worker.app.amqp.queues.consume_from),
            fetched=self._fetched(),
            versions={
                "python": platform.python_version(),
                "django": django.get_version(),
                "celery": celery.__version__,
                "reliable_tasks": __version__,
                **({EMBEDDED_BEAT: "yes"} if getattr(worker, "beat", None) else {}),
            },
            tasks=self._tasks,
        )

    # -- what went wrong --------------------------------------------------------------------------

    def _serve(self, note: inbox.Note) -> None:
        match note:
            case inbox.Lost(entry, pid, noticed):
                # Celery reports late: meanwhile another attempt may be running here.
                if entry not in self._held_and_lost()[0]:
                    self._rescue([entry], self._children.dead_since(pid, noticed))
            case inbox.TimedOut(entry, limit):
                self._time_out(entry, limit)
            case inbox.Stopping(entry, pid):
                # Celery forgets it now, but it may take its time to stop.
                self._stopping[entry] = pid
                ledger.renew([entry], self._identity, lease=current().LEASE_SECONDS)
            case inbox.Revoked(entry):
                self._cancel(entry)

    def _rescue(self, entries: list[UUID], dead_since: float) -> None:
        dead_for = time.monotonic() - dead_since
        swept = ledger.rescue_lost(entries, self._identity, dead_for=dead_for)
        sweeper.tell(self._worker.app, swept)
        if swept.rescued and self.sweeper is not None:
            self.sweeper.nudge()

    def _time_out(self, entry: UUID, limit: float) -> None:
        time.sleep(_CHILD_REPORTS_WITHIN)
        alias = ledger.ledger_connection().alias
        row = (
            Entry.objects.using(alias)
            .filter(pk=entry, state=State.RUNNING, worker=self._identity)
            .first()
        )
        if row is None or entry in self._held_and_lost()[0]:
            return  # the child reported by itself, and another attempt may be running already
        task = self._worker.app.tasks.get(row.task)
        if not isinstance(task, ReliableTask):
            return
        claim = _claim_of(row)
        decision = execution.timed_out(task, claim, limit)
        try:
            execution.finish(task, claim, decision)
        except Ignore:
            return
        if decision.dead:
            error = celery.exceptions.TimeLimitExceeded(limit)
            results.store_failure(task, entry, error)

    def _obey_revokes(self) -> None:
        """Cancel the entries among the tasks that Celery was told to revoke; let it forget them.

        Celery remembers a revoked id for hours in each worker's memory, and would discard the
        message of an entry that a person has put back meanwhile. The ledger remembers better.
        """
        remembered = _copy(worker_state.revoked)
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


def _snapshot(requests: Any) -> list[Any]:
    """Copy a set of Celery's requests, those of reliable tasks, while its event loop changes it."""
    return [each for each in _copy(requests) if isinstance(each.task, ReliableTask)]


def _copy(changing: Any) -> list[Any]:
    while True:
        try:
            return list(changing)
        except RuntimeError:  # it changed while it was copied
            continue


def _claim_of(row: Entry) -> Claim:
    return Claim(
        entry=row.pk,
        token=row.attempt,
        task=row.task,
        args=row.args,
        kwargs=row.kwargs,
        options=row.options,
        queue=row.queue,
        priority=row.priority,
        retries=row.retries,
        crashes=row.crashes,
        root_id=row.root_id,
        parent_id=row.parent_id,
        group_id=row.group_id,
        schedule=row.schedule,
        worker=row.worker,
    )
