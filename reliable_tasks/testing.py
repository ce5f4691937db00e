"""For a project's own tests: see what was enqueued, and run it without a broker or a worker.

Nothing is simulated but the passing of time: the entries are in the test's database, and an attempt
goes the way that it goes in a worker, from the claim to the end. Emptying a queue from within a
test is an idea of Oban.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from celery import Celery, current_app
from celery.app.trace import build_tracer
from celery.exceptions import Retry

from . import arguments, arrival, execution, keying, ledger, overview, publish, sweeping
from .appconf import appconf
from .codec import decode
from .dedup import argument_digest
from .errors import ConfigurationError, CorruptEntry, ReliableTasksError
from .identity import identity
from .models import Entry
from .states import WAITING
from .task import ReliableTask
from .wakeup import WakeUp

__all__ = ["StillWaiting", "UnknownTask", "enqueued", "run_due"]

_HOST: Final = "tests"


class UnknownTask(ReliableTasksError):
    """An entry names a task that this process does not know.

    Import the module that defines it, or let Celery find it with ``app.autodiscover_tasks()``.
    """


class StillWaiting(ReliableTasksError):
    """Entries are still due after as many attempts as were allowed.

    A task probably enqueues itself without end, or the test needs a larger ``most``.
    """


def enqueued(task: ReliableTask | str | None = None, /, *args: Any, **kwargs: Any) -> list[Entry]:
    """Return the entries that wait, oldest first.

    Args:
        task: only those of this task, or of the task of this name.
        *args: only those with exactly these arguments, given as for ``delay``: model instances for
            their keys, defaults left out or not. Needs the task itself.
        **kwargs: the same by name.

    Raises:
        TypeError: arguments without a task, or that do not fit the task's signature.
        ConfigurationError: ``CELERY_TASK_ALWAYS_EAGER`` is on, so that nothing ever waits.
    """
    _app()
    rows = list(_waiting(task).order_by("enqueued_at", "pk"))
    if not args and not kwargs:
        return rows
    if not isinstance(task, ReliableTask):
        raise TypeError("enqueued() compares arguments only when it is given the task itself.")
    task.check_signature(args, kwargs)
    plain = arguments.plain(task, args, kwargs)
    wanted = _digest(task, plain.args, plain.kwargs)
    return [row for row in rows if _digest_of(task, row) == wanted]


def run_due(
    task: ReliableTask | str | None = None,
    *,
    within: timedelta | float = 0.0,
    most: int = 1000,
    raising: bool = True,
) -> list[Entry]:
    """Run in this process what is due, and what becomes due by that, one attempt after the other.

    Works in a ``TestCase`` as well as in a ``TransactionTestCase``; callbacks, chains, groups and
    chords go on as they do in a worker. Entries that have expired are cancelled first, and what is
    paused waits.

    Args:
        task: only this task's entries, or those of the task of this name.
        within: also run what comes due within this time (seconds if it is a number), in its order
            and without waiting for it: countdowns, and the attempts that follow failures.
        most: attempts that may be made.
        raising: raise what a body raised, at its first failure. Turn it off to see what becomes of
            an entry that fails.

    Returns:
        The entries that had an attempt, as they are now, in the order of their first attempts.

    Raises:
        StillWaiting: entries are still due after ``most`` attempts.
        UnknownTask: an entry names a task that this process does not know.
        ConfigurationError: ``CELERY_TASK_ALWAYS_EAGER`` is on, so that nothing ever waits.
        Exception: what a body raised, with ``raising``.
    """
    app = _app()
    clock = _Clock(within if isinstance(within, timedelta) else timedelta(seconds=within))
    ran: dict[UUID, None] = {}
    refused: set[UUID] = set()
    attempts = 0
    with _as_in_a_worker():
        while (row := clock.next(app, task, refused)) is not None:
            if attempts == most:
                raise StillWaiting(
                    f"{row} is still due after {most} attempts. Does a task enqueue itself? "
                    "Allow more with run_due(most=...)."
                )
            error = _run(app, row)
            if _token_of(row) == row.attempt:  # cancelled or expired meanwhile: it was not claimed
                refused.add(row.pk)
                continue
            attempts += 1
            ran[row.pk] = None
            if raising and error is not None:
                raise error
    return _as_they_are(ran)


# -- the entries ----------------------------------------------------------------------------------


def _as_they_are(ids: Iterable[UUID]) -> list[Entry]:
    found = _entries().in_bulk(list(ids))
    return [found[pk] for pk in ids if pk in found]


def _app() -> Celery:
    app = current_app._get_current_object()
    if appconf(app).task_always_eager:
        raise ConfigurationError(
            "With CELERY_TASK_ALWAYS_EAGER a call runs at once, and no entry ever waits. Turn it "
            "off in the settings of the tests; run_due() runs what they enqueue."
        )
    return app


def _entries() -> Any:
    return Entry.objects.using(ledger.ledger_connection().alias)


def _waiting(task: ReliableTask | str | None) -> Any:
    rows = _entries().filter(state__in=WAITING)
    return rows if task is None else rows.filter(task=getattr(task, "name", task))


def _token_of(row: Entry) -> int | None:
    token: int | None = _entries().filter(pk=row.pk).values_list("attempt", flat=True).first()
    return token


def _digest(task: ReliableTask, args: Any, kwargs: Any) -> str:
    texts = arguments.texts(task, args, kwargs)
    return argument_digest(keying.kept_arguments(task, *texts))


def _digest_of(task: ReliableTask, row: Entry) -> str | None:
    try:
        return _digest(task, *decode(row.args, row.kwargs))
    except (CorruptEntry, TypeError):  # of an older signature, or changed by hand
        return None


class _Clock:
    """Time that passes as fast as entries run: what is written late in it is due later.

    Args:
        within: how far it may go.
    """

    def __init__(self, within: timedelta) -> None:
        self._within = within
        # How far this clock is ahead of the database's.
        self._ahead = timedelta(0)
        self._known: dict[UUID, tuple[datetime, timedelta]] = {}

    def next(
        self, app: Celery, task: ReliableTask | str | None, refused: set[UUID]
    ) -> Entry | None:
        """Return the entry that is due next, and let the time pass until then."""
        # What has expired ends here, as a sweeper would end it; nothing is published.
        swept = ledger.sweep_due(
            limit=1000, recheck=1.0, longest=1.0, publishing=False, rescuing=False
        )
        sweeping.tell(app, swept)
        held = ledger.paused()
        now = overview.now()
        due: list[tuple[datetime, UUID]] = []
        for row in _waiting(None).only("pk", "due_at", "queue", "task"):
            written, ahead = self._known.get(row.pk, (None, self._ahead))
            if written != row.due_at:  # written since the last look, so by this clock
                ahead = self._ahead
                self._known[row.pk] = row.due_at, ahead
            wanted = task is None or row.task == getattr(task, "name", task)
            at = row.due_at + ahead
            if (
                wanted
                and row.pk not in refused
                and not held.holds(row)
                and at <= now + self._within
            ):
                due.append((at, row.pk))
        at, pk = min(due, default=(datetime.max.replace(tzinfo=UTC), None))
        if at > now + self._within:
            return None
        self._ahead = max(self._ahead, at - now)
        found: Entry | None = _entries().filter(pk=pk).first()
        return found


# -- one attempt ----------------------------------------------------------------------------------


@contextmanager
def _as_in_a_worker() -> Iterator[None]:
    """Claim what this clock finds due, publish nothing, and let Ctrl-C end the test."""
    due = arrival.ignoring_due.set(True)
    silent = publish.silent.set(True)
    interruptible = execution.interruptible.set(True)
    try:
        yield
    finally:
        execution.interruptible.reset(interruptible)
        publish.silent.reset(silent)
        arrival.ignoring_due.reset(due)


def _run(app: Celery, row: Entry) -> BaseException | None:
    """Let an entry's wake-up arrive; return what its body raised, if it did."""
    task = app.tasks.get(row.task)
    if not isinstance(task, ReliableTask):
        raise UnknownTask(
            f"{row} cannot be run: no reliable task of that name is registered with {app!r}. "
            "Import the module that defines it."
        )
    request = _request(row)
    trace = build_tracer(task.name, task, app=app, hostname=_HOST)
    _, info, *_ = trace(request["id"], request["args"], request["kwargs"], request)
    error = getattr(info, "retval", None)
    if isinstance(error, Retry):
        error = error.exc
    return error if isinstance(error, Exception) and info.state in _FAILURES else None


_FAILURES: Final = frozenset({"FAILURE", "RETRY"})


def _request(row: Entry) -> dict[str, Any]:
    options: Mapping[str, Any] = row.options or {}
    wakeup = WakeUp(str(row.pk), row.task, row.queue, row.priority, options)
    return {
        **wakeup.headers(),
        **wakeup.properties(),
        "args": [],
        "kwargs": {},
        "hostname": identity(_HOST),
        "delivery_info": {"exchange": "", "routing_key": row.queue, "priority": row.priority},
    }
