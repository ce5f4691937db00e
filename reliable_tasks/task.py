"""The task base: what users subclass, and what Celery calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid5

from celery.result import AsyncResult
from django.db import transaction

from . import (
    arguments,
    arrival,
    bulk,
    calling,
    conflicts,
    definition,
    events,
    keying,
    ledger,
    options,
    results,
)
from .appconf import appconf
from .body import Body, FromSettings
from .conf import current
from .dedup import KEPT_AS, Policy
from .errors import ArgumentError
from .faults import reach
from .ledger import NewEntry
from .many import EnqueuedMany
from .publish import publisher
from .running import Running
from .steady import on_live_connection
from .wakeup import WakeUp

if TYPE_CHECKING:
    from celery import Celery

T = TypeVar("T")


class ReliableTask(Body):
    """A Celery task whose calls are entries in the database's ledger.

    Use it as ``@shared_task(base=ReliableTask)`` or ``@app.task(base=ReliableTask)``. All of
    Celery's own task options work; those below are new or have another default.

    Attributes:
        atomic: run the body and the end of its attempt in one transaction on the ledger's database.
        max_retries: failures that are followed by another attempt; None for no limit.
        retry_backoff: seconds of the first delay, doubled each time; False for
            ``default_retry_delay``.
        retry_backoff_max: longest delay in seconds.
        retry_jitter: draw each delay evenly from zero to its full length.
        crash_budget: attempts that may take their process down before the entry is dead.
        autoretry_for: exception classes that are retried; every ``Exception`` unless set.
        dont_autoretry_for: exception classes that are not.
        on_missing: what becomes of an entry when a row that an argument names is gone: "dead",
            "discard" or "retry".
        once: how equal calls are kept from being enqueued twice: True, or a dict of options; None
            for not at all. See the page "Doing it once".
        sensitive: names of parameters whose values are never shown.
        subject: the parameter whose row the entry is about; False for none.
    """

    abstract = True
    once: Any = None
    crash_budget: Any = FromSettings("CRASH_BUDGET")

    # The message is only a wake-up and is acknowledged before the body runs: late acknowledgement
    # would make the broker deliver it again, hours of work later, to no purpose.
    acks_late = False
    acks_on_failure = True
    acks_on_timeout = True
    reject_on_worker_lost = False
    retry_on_worker_lost = False
    # Celery would report STARTED for every message, also for one that wakes nothing because its
    # entry has succeeded already. CELERY_TASK_TRACK_STARTED is honoured, but after the claim.
    track_started = False

    Request = "reliable_tasks.worker.request:ReliableRequest"

    # -- enqueue ----------------------------------------------------------------------------------

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | UUID | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **call: Any,
    ) -> AsyncResult:
        """Enqueue: write the entry in the caller's transaction, publish after it commits.

        Args:
            args: positional arguments: instances or keys where a parameter is annotated with a
                model; JSON values, UUID, Decimal, members of enums, dates, times, timedelta.
            kwargs: keyword arguments, likewise.
            task_id: the entry's id, a UUID; equal ids make one entry.
            producer: taken for Celery's sake, has no effect.
            link: signature(s) to run after success.
            link_error: signature(s) to run when the entry dies.
            shadow: another name for logs.
            **call: Celery's options: ``countdown``, ``eta``, ``expires``, ``queue``,
                ``priority``, ``headers``, ``time_limit``, ``soft_time_limit``, ….

        Returns:
            The result handle, with the entry's id.

        Raises:
            AlreadyQueued: another entry holds the call's key, and ``once`` says to raise.
            KeyReused: the call's key was used before with other arguments.
            ArgumentError: an argument cannot be kept.
            TypeError: the arguments do not fit the task's signature.
            OptionError: an option is unknown or impossible.
            TransactionMismatch: the entry would not be part of the caller's transaction.
            LedgerNotReady: the ledger's tables are missing.
        """
        args, kwargs = args or (), kwargs or {}
        self.check_signature(args, kwargs)
        call = self.complete(call, link=link, link_error=link_error, shadow=shadow)
        options.check(self.name, call)
        # Also for an eager call, which then refuses in a test what production would refuse.
        entry = calling.new_entry(self, calling.mint(task_id, self.name), args, kwargs, call)
        policy = keying.policy_of(self, call)
        if appconf(self._get_app()).task_always_eager:
            return self._run_at_once(entry, policy, args, kwargs, call)
        result: AsyncResult = self.AsyncResult(str(entry.id))
        if self._replaces_the_running(entry):
            return result
        calling.check_transaction(self.name)
        other = self._enqueue(entry, policy, args, kwargs, call)
        if other is not None:
            return other
        self._add_to_parent(result, call)
        return result

    def _enqueue(
        self,
        entry: NewEntry,
        policy: Policy | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        call: Mapping[str, Any],
    ) -> AsyncResult | None:
        """Write the entry; return the result of another one if that is what the call gets."""
        reach("enqueue.begin")
        if policy is None:
            written = self._surely(lambda: self._write(entry))
        else:
            keyed = keying.with_key(self, entry, policy, args, kwargs)
            written, other = self._surely(lambda: self._write_once(keyed, policy, call))
            if other is not None:
                return other
        reach("enqueue.written")
        if written is not None:
            events.emit(events.Enqueued(entry=written.id, task=self.name, queue=entry.queue))
            self.publish_after_commit(written, [written.id])
        return None

    def enqueue_many(
        self, calls: Iterable[Sequence[Any] | Mapping[str, Any]], **call: Any
    ) -> EnqueuedMany:
        """Enqueue many calls with a statement per thousand and one batch to the broker.

        Args:
            calls: one item a call: a tuple or list is its positional arguments, a dict its
                keyword arguments.
            **call: options for all of them, as for :meth:`apply_async`.

        Returns:
            The result handles in the order of the calls; ``.ids`` has the ids alone, and
            ``.conflicts`` the calls whose dedup key was held, which raise nothing here.

        Raises:
            ArgumentError, TypeError, OptionError, TransactionMismatch, LedgerNotReady: as for
                :meth:`apply_async`; nothing is written then.
        """
        return bulk.enqueue_many(self, calls, self.complete(call))

    @property
    def default_timeout(self) -> float:
        """Seconds that ``AlreadyQueued.countdown`` counts from where ``once`` has no timeout."""
        return float(current().ONCE_TIMEOUT)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """The same as ``delay``: an entry is part of the caller's transaction anyway."""
        return self.apply_async(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """The same as ``apply_async``: an entry is part of the caller's transaction anyway."""
        return self.apply_async(*args, **kwargs)

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Look at the task's options once Celery knows its app and name.

        Raises:
            ConfigurationError: one of them cannot be kept in an entry.
        """
        super().on_bound(app)
        if cls.name:
            definition.check(cls)

    # -- run ------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attempt that a message woke; a direct call in Python just runs the body."""
        request = self.request
        if request.called_directly or getattr(request, "reliable", None) is not None:
            return super().__call__(*args, **kwargs)
        return arrival.run(self, args, kwargs)

    def body(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's function itself, without the wrapper of Celery's own autoretry."""
        return (getattr(self, "_orig_run", None) or self.run)(*args, **kwargs)

    def hard_limit(self) -> float | None:
        """Return the hard time limit of the running attempt in seconds, None if it has none."""
        limits = self.request.timelimit or (None, None)
        limit: float | None = limits[0] or self.time_limit or self._get_app().conf.task_time_limit
        return limit

    # -- for this package's other modules ---------------------------------------------------------

    def new_entry(
        self,
        entry_id: UUID,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        call: Mapping[str, Any],
        queue: str = "",
    ) -> NewEntry:
        """Build an entry of this task; see :func:`reliable_tasks.calling.new_entry`."""
        return calling.new_entry(self, entry_id, args, kwargs, call, queue)

    def publish_entry(
        self, entry: UUID, queue: str, priority: int | None, kept: Any, task: str | None = None
    ) -> None:
        """Publish the wake-up of an entry that is in the ledger and due."""
        wakeup = WakeUp(str(entry), task or self.name, queue, priority, options.loads(kept))
        publisher(self._get_app()).submit([wakeup])

    def store_cancel(self, entry: UUID, reason: str) -> None:
        """Give Celery's result backend the end of an attempt that was asked to stop."""
        results.store_cancel(self._get_app(), entry, self.name, reason)

    def check_signature(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError if a call's arguments do not fit, as Celery does."""
        if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
            raise ArgumentError(
                f"{self.name}: args must be a list or tuple and kwargs a dict, not "
                f"{type(args).__name__} and {type(kwargs).__name__}."
            )
        arguments.check(self)
        header = getattr(self, "__header__", None) if self.typing else None
        if header is not None:
            header(*args, **kwargs)

    def complete(self, call: dict[str, Any], **given: Any) -> dict[str, Any]:
        """Return a call's options with the task's own filled in, and those given that are set."""
        own = {
            name: value
            for name, value in self._get_exec_options().items()
            # Celery applies the task's own limits wherever it runs; only a call's need a place.
            if value is not None and name not in ("time_limit", "soft_time_limit")
        }
        call = {**own, **call}
        for name, value in given.items():
            if value is not None:
                call[name] = value
        return call

    def publish_after_commit(self, entry: NewEntry, ids: Sequence[UUID]) -> None:
        """Publish the wake-ups of entries like ``entry`` once the open transaction commits."""
        connection = ledger.ledger_connection()
        # With autocommit off and no atomic() nobody tells of the commit: the sweeper will see it.
        by_hand = not connection.in_atomic_block and not connection.get_autocommit()
        if by_hand or calling.due_later(entry):
            return
        kept = options.loads(entry.options) if entry.options else None
        wakeups = [WakeUp(str(each), entry.task, entry.queue, entry.priority, kept) for each in ids]
        submit = publisher(self._get_app()).submit

        # A function, because Django names it when it logs what it raised; a partial has no name.
        def after_commit() -> None:
            reach("enqueue.committed")
            submit(wakeups)

        transaction.on_commit(after_commit, using=connection.alias, robust=True)

    def _run_at_once(
        self,
        entry: NewEntry,
        policy: Policy | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        call: Mapping[str, Any],
    ) -> AsyncResult:
        """Make an eager call of it, unless another entry holds its key."""
        other = conflicts.before_eager(self, entry, policy, args, kwargs, call)
        if other is not None:
            return other
        # Celery sends the arguments through its serializer once, which knows no instances.
        args, kwargs, _ = arguments.plain(self, args, kwargs)
        return super().apply_async(args, kwargs, str(entry.id), None, **call)

    def _surely(self, write: Callable[[], T]) -> T:
        """Write an entry; in spite of a broken connection where it follows an attempt that is over.

        Nobody could be told then: the attempt has ended, and the chain would stop there.
        """
        running = _running_of(self._get_app().current_worker_task)
        return write() if running is None or not running.over else on_live_connection(write)

    def _write(self, entry: NewEntry) -> NewEntry | None:
        """Write an entry and return it as it was written; None if it was there already."""
        written = entry
        while not ledger.enqueue(written, grace=current().PUBLISH_RECHECK):
            if not ledger.was_replaced(written.id):
                return None
            # Derived, so that two of them are one.
            written = calling.under(entry, uuid5(written.id, "last step"), str(entry.id))
        return written

    def _write_once(
        self, entry: NewEntry, policy: Policy, call: Mapping[str, Any]
    ) -> tuple[NewEntry | None, AsyncResult | None]:
        follows = conflicts.in_canvas(policy, call)
        grace = current().PUBLISH_RECHECK
        while True:
            written, other = conflicts.enqueue(
                self, entry, policy, call, follows=follows, grace=grace
            )
            if written is not None or other is not None or not ledger.was_replaced(entry.id):
                return written, other
            entry = calling.under(entry, uuid5(entry.id, "last step"), str(entry.id))

    def _replaces_the_running(self, entry: NewEntry) -> bool:
        """Celery's ``replace()`` sends its successor under the id of the task that runs."""
        current_task = self._get_app().current_worker_task
        running = _running_of(current_task)
        if running is None or options.entry_id(current_task.request.id) != entry.id:
            return False
        if running.claim.entry != entry.id:
            entry = calling.under(entry, running.claim.entry, str(entry.id))
        if KEPT_AS in running.options:  # the entry is the same, and so is its key
            kept = options.loads(entry.options) | {KEPT_AS: running.options[KEPT_AS]}
            entry = replace(entry, options=options.dumps(kept))
        running.replacement = entry
        return True

    def _add_to_parent(self, result: AsyncResult, call: Mapping[str, Any]) -> None:
        if call.get("add_to_parent", True):
            parent = self._get_app().current_worker_task
            if parent is not None:
                parent.add_trail(result)


def _running_of(task: Any) -> Running | None:
    """Return the attempt of the task that Celery runs now, None if there is none."""
    return getattr(task.request, "reliable", None) if task else None
