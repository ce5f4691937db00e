"""The task base: what users subclass, and what Celery calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any, overload
from uuid import UUID, uuid4

from celery import Task
from celery.result import AsyncResult
from django.db import transaction

from . import calling, codec, events, execution, ledger, options
from .backoff import RetryPolicy
from .conf import current
from .errors import ArgumentError, AttemptCancelled, OptionError
from .ledger import NewEntry
from .models import Entry
from .publish import publisher
from .running import Running
from .verdict import RetryAsked
from .wakeup import WakeUp


class _FromSettings:
    """A class attribute whose default is a setting; a task that sets it overrides it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return getattr(current(), self._name)


class ReliableTask(Task):
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
    """

    abstract = True
    atomic: bool = False
    max_retries: int | None = _FromSettings("MAX_RETRIES")  # type: ignore[assignment]
    retry_backoff: Any = _FromSettings("RETRY_BACKOFF")
    retry_backoff_max: Any = _FromSettings("RETRY_BACKOFF_MAX")
    retry_jitter: Any = _FromSettings("RETRY_JITTER")
    crash_budget: int = _FromSettings("CRASH_BUDGET")  # type: ignore[assignment]

    # The message is only a wake-up and is acknowledged before the body runs: late acknowledgement
    # would make the broker deliver it again, hours of work later, to no purpose.
    acks_late = False
    acks_on_failure = True
    acks_on_timeout = True
    reject_on_worker_lost = False
    retry_on_worker_lost = False

    Request = "reliable_tasks.worker.request:ReliableRequest"

    # -- enqueue ----------------------------------------------------------------------------------

    def apply_async(  # type: ignore[override]
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
            args: positional arguments: JSON values, UUID, Decimal, datetime, date, time, timedelta.
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
            ArgumentError: an argument cannot be kept.
            TypeError: the arguments do not fit the task's signature.
            OptionError: an option is unknown or impossible.
            TransactionMismatch: the entry would not be part of the caller's transaction.
            LedgerNotReady: the ledger's tables are missing.
        """
        args, kwargs = args or (), kwargs or {}
        self._check_signature(args, kwargs)
        call = self._complete(call, link=link, link_error=link_error, shadow=shadow)
        options.check(self.name, call)
        app = self._get_app()
        if app.conf.task_always_eager:
            codec.encode(args, kwargs)
            return super().apply_async(
                args, kwargs, str(task_id or uuid4()), None, link, link_error, shadow, **call
            )
        entry = calling.new_entry(self, calling.mint(task_id, self.name), args, kwargs, call)
        result: AsyncResult = self.AsyncResult(str(entry.id))
        if self._replaces_the_running(entry):
            return result
        calling.check_transaction(self.name)
        if ledger.enqueue(entry, grace=current().PUBLISH_GRACE):
            events.emit(events.Enqueued(entry=entry.id, task=self.name, queue=entry.queue))
            self._publish_after_commit([entry])
        self._add_to_parent(result, call)
        return result

    def enqueue_many(
        self, calls: Iterable[Sequence[Any] | Mapping[str, Any]], **call: Any
    ) -> EnqueuedMany:
        """Enqueue many calls with a statement per thousand and one batch to the broker.

        Args:
            calls: one item a call: a tuple or list is its positional arguments, a dict its
                keyword arguments.
            **call: options for all of them, as for :meth:`apply_async`.

        Returns:
            The result handles in the order of the calls; ``.ids`` has the ids alone.

        Raises:
            ArgumentError, TypeError, OptionError, TransactionMismatch, LedgerNotReady: as for
                :meth:`apply_async`; nothing is written then.
        """
        call = self._complete(call)
        options.check(self.name, call)
        if self._get_app().conf.task_always_eager:
            results = [self.apply_async(*self._arguments(item), **call) for item in calls]
            return EnqueuedMany(self, [options.entry_id(result.id) for result in results])
        entries = []
        for item in calls:
            args, kwargs = self._arguments(item)
            self._check_signature(args, kwargs)
            entries.append(
                calling.new_entry(self, calling.mint(None, self.name), args, kwargs, call)
            )
        calling.check_transaction(self.name)
        if entries:
            with transaction.atomic(using=ledger.ledger_connection().alias):
                ledger.enqueue_many(entries, grace=current().PUBLISH_GRACE)
                self._publish_after_commit(entries)
            for entry in entries:
                events.emit(events.Enqueued(entry=entry.id, task=self.name, queue=entry.queue))
        return EnqueuedMany(self, [entry.id for entry in entries])

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """The same as ``delay``: an entry is part of the caller's transaction anyway."""
        return self.apply_async(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """The same as ``apply_async``: an entry is part of the caller's transaction anyway."""
        return self.apply_async(*args, **kwargs)

    # -- run ------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the attempt that a message woke; a direct call in Python just runs the body."""
        request = self.request
        if request.called_directly or getattr(request, "reliable", None) is not None:
            return super().__call__(*args, **kwargs)
        return execution.run(self, args, kwargs)

    def body(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's function itself, without the wrapper of Celery's own autoretry."""
        return (getattr(self, "_orig_run", None) or self.run)(*args, **kwargs)

    def retry(  # type: ignore[override]
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **call: Any,
    ) -> Exception:
        """Ask for another attempt, with Celery's meaning; nothing is sent, the entry is rescheduled.

        Args:
            args: other positional arguments for it.
            kwargs: other keyword arguments for it.
            exc: what to raise instead when no retries are left.
            throw: raise at once; otherwise the wish is kept until the body returns.
            eta: when it is due.
            countdown: seconds until it is due; ``default_retry_delay`` unless given.
            max_retries: another limit for this time.
            **call: other options for it, as for :meth:`apply_async`.

        Returns:
            What it would have raised, if ``throw`` is off.

        Raises:
            Retry: always, unless ``throw`` is off.
            MaxRetriesExceededError: no retries are left and ``exc`` was not given.
        """
        running: Running | None = getattr(self.request, "reliable", None)
        if running is None:
            return super().retry(  # type: ignore[no-any-return]
                args, kwargs, exc, throw, eta, countdown, max_retries, **call
            )
        limit = self.retry_policy().max_retries if max_retries is None else max_retries
        if limit is not None and running.claim.retries >= limit:
            running.gave_up = True
            raise exc or self.MaxRetriesExceededError(
                f"{self.name}[{self.request.id}] was retried {running.claim.retries} times already.",
                task_args=self.request.args,
                task_kwargs=self.request.kwargs,
            )
        due_at = None
        if eta is not None:
            now = datetime.now(timezone.utc)
            due_at = options.moment_of(self.name, "eta", eta, self._get_app().timezone, now)
        delay = float(self.default_retry_delay if countdown is None else countdown)
        asked = RetryAsked(exc, delay, due_at, self._changes(running, args, kwargs, call))
        if throw:
            raise asked
        running.retry_asked = asked
        return asked

    def retry_policy(self) -> RetryPolicy:
        """Return how this task is retried, from its options and the settings."""
        given = getattr(self, "retry_kwargs", None) or {}
        backoff = 0.0 if "countdown" in given else float(self.retry_backoff)
        return RetryPolicy(
            max_retries=given.get("max_retries", self.max_retries),
            backoff=backoff,
            backoff_max=float(self.retry_backoff_max),
            jitter=bool(self.retry_jitter),
            delay=float(given.get("countdown", self.default_retry_delay)),
            retry_for=tuple(getattr(self, "autoretry_for", None) or (Exception,)),
            never_for=tuple(getattr(self, "dont_autoretry_for", None) or ()),
        )

    def hard_limit(self) -> float | None:
        """Return the hard time limit of the running attempt in seconds, None if it has none."""
        limits = self.request.timelimit or (None, None)
        return limits[0] or self.time_limit or self._get_app().conf.task_time_limit

    # -- what a body may ask --------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """Number of the running attempt, from 1; 0 in a direct call."""
        running = self._running()
        return running.claim.token if running else 0

    @property
    def entry(self) -> Entry | None:
        """The running attempt's entry, read on first use; None in a direct call."""
        running = self._running()
        return running.entry if running else None

    @property
    def idempotency_key(self) -> str:
        """A key to hand to outside services: the same in every attempt of this entry.

        In a direct call it is new for each call.
        """
        running = self._running()
        if running is not None:
            return str(running.claim.entry)
        request = self.request
        if not hasattr(request, "idempotency_key"):
            request.idempotency_key = str(uuid4())
        return str(request.idempotency_key)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the body has come; at most one write a second, the rest is free.

        Args:
            done: how much is done.
            total: how much there is, if known; reaching it is always written.
            note: what is being done, in words.

        Raises:
            AttemptCancelled: the entry was cancelled meanwhile. Let it pass.
        """
        running = self._running()
        if running is not None:
            running.progress(done, total, note)

    def cancel_requested(self) -> bool:
        """Tell whether the entry was cancelled while its body runs; looks once a second."""
        running = self._running()
        return running is not None and running.asked_to_stop()

    def raise_if_cancelled(self) -> None:
        """Raise AttemptCancelled if the entry was cancelled while its body runs."""
        if self.cancel_requested():
            raise AttemptCancelled(f"{self.name}[{self.request.id}] was cancelled.")

    # -- for this package's other modules -----------------------------------------------------------

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

    def _running(self) -> Running | None:
        found: Running | None = getattr(self.request, "reliable", None)
        return found

    def _check_signature(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        header = getattr(self, "__header__", None) if self.typing else None
        if header is not None:
            header(*args, **kwargs)

    def _complete(self, call: dict[str, Any], **given: Any) -> dict[str, Any]:
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

    def _arguments(self, item: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if isinstance(item, Mapping):
            return (), item
        if isinstance(item, list | tuple):
            return item, {}
        raise ArgumentError(
            f"{self.name}.enqueue_many() takes one tuple, list or dict of arguments a call; it got "
            f"{item!r}. For one argument a call: [({item!r},), …]."
        )

    def _publish_after_commit(self, entries: Sequence[NewEntry]) -> None:
        wakeups = [
            WakeUp(
                str(entry.id),
                entry.task,
                entry.queue,
                entry.priority,
                options.loads(entry.options) if entry.options else None,
            )
            for entry in entries
            if not calling.due_later(entry)
        ]
        if wakeups:
            submit = partial(publisher(self._get_app()).submit, wakeups)
            transaction.on_commit(submit, using=ledger.ledger_connection().alias, robust=True)

    def _replaces_the_running(self, entry: NewEntry) -> bool:
        """Celery's ``replace()`` sends its successor under the id of the task that runs."""
        current_task = self._get_app().current_worker_task
        running: Running | None = (
            getattr(current_task.request, "reliable", None) if current_task else None
        )
        if running is None or running.claim.entry != entry.id:
            return False
        running.replacement = entry
        return True

    def _add_to_parent(self, result: AsyncResult, call: Mapping[str, Any]) -> None:
        if call.get("add_to_parent", True):
            parent = self._get_app().current_worker_task
            if parent is not None:
                parent.add_trail(result)

    def _changes(
        self,
        running: Running,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        call: Mapping[str, Any],
    ) -> dict[str, Any]:
        options.check(self.name, call)
        changes: dict[str, Any] = {}
        if args is not None:
            changes["args"] = codec.encode(args, {})[0]
        if kwargs is not None:
            changes["kwargs"] = codec.encode((), kwargs)[1]
        if call.get("queue"):
            changes["queue"] = calling.route(self, call, (), {})
        if call.get("expires") is not None:
            raise OptionError(f"{self.name}: retry() cannot change expires; it belongs to the entry.")
        kept = options.kept({name: value for name, value in call.items() if name != "queue"})
        if kept:
            changes["options"] = options.dumps({**running.options, **kept})
        return changes


class EnqueuedMany(Sequence[AsyncResult]):
    """The results of :meth:`ReliableTask.enqueue_many`; handles are made when asked for.

    Attributes:
        ids: the entries' ids, in the order of the calls.
    """

    def __init__(self, task: ReliableTask, ids: list[UUID]) -> None:
        self._task = task
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> AsyncResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AsyncResult]: ...
    def __getitem__(self, index: int | slice) -> AsyncResult | Sequence[AsyncResult]:
        if isinstance(index, slice):
            return EnqueuedMany(self._task, self.ids[index])
        return self._task.AsyncResult(str(self.ids[index]))

    def __iter__(self) -> Iterator[AsyncResult]:
        return (self._task.AsyncResult(str(each)) for each in self.ids)
