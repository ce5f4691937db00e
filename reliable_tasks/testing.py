"""For a project's own tests: see what was enqueued, and run it without a broker or a worker.

Nothing is simulated: the entries are in the test's database, and an attempt goes the way that it
goes in a worker, from the claim to the end. Emptying a queue from within a test is an idea of Oban.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from celery import Celery, current_app
from celery.app.trace import build_tracer
from celery.exceptions import Retry

from . import arguments, arrival, keying, ledger, sweeping
from .codec import decode
from .errors import ReliableTasksError
from .identity import identity
from .ledger.guard import moment_expression
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
    """Entries still wait after as many attempts as were allowed.

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
    """
    rows = list(_waiting(task).order_by("enqueued_at", "pk"))
    if not args and not kwargs:
        return rows
    if not isinstance(task, ReliableTask):
        raise TypeError("enqueued() compares arguments only when it is given the task itself.")
    task.check_signature(args, kwargs)
    plain = arguments.plain(task, args, kwargs)
    wanted = keying.kept_arguments(task, *arguments.texts(task, plain.args, plain.kwargs))
    return [row for row in rows if _arguments_of(task, row) == wanted]


def run_due(
    task: ReliableTask | str | None = None,
    *,
    within: timedelta | float = 0.0,
    most: int = 1000,
    raising: bool = False,
) -> list[Entry]:
    """Run in this process what is due, and what becomes due by that, one attempt after the other.

    Works in a ``TestCase`` as well as in a ``TransactionTestCase``; callbacks, chains, groups and
    chords go on as they do in a worker. Entries that have expired are cancelled first.

    Args:
        task: only this task's entries, or those of the task of this name.
        within: also run what is due within this time (seconds if it is a number), without waiting
            for it: countdowns, and the attempts that follow failures.
        most: attempts that may be made.
        raising: raise what a body raised, at its first failure.

    Returns:
        The entries that had an attempt, as they are now, in the order of their first attempts.

    Raises:
        StillWaiting: entries still wait after ``most`` attempts.
        UnknownTask: an entry names a task that this process does not know.
        Exception: what a body raised, with ``raising``.
    """
    seconds = within.total_seconds() if isinstance(within, timedelta) else float(within)
    app = current_app._get_current_object()
    ran: dict[UUID, None] = {}
    refused: set[UUID] = set()
    attempts = 0
    with _ahead_of_time(seconds):
        while (row := _next(app, task, seconds, refused)) is not None:
            if attempts == most:
                raise StillWaiting(
                    f"{row} still waits after {most} attempts. Does a task enqueue itself? "
                    "Allow more with run_due(most=...)."
                )
            error = _run(app, row)
            attempts += 1
            if _token_of(row) == row.attempt:  # paused, cancelled or expired: it was not claimed
                refused.add(row.pk)
                continue
            ran[row.pk] = None
            if raising and error is not None:
                raise error
    found = _entries().in_bulk(list(ran))
    return [found[pk] for pk in ran]


# -- the entries ----------------------------------------------------------------------------------


def _entries() -> Any:
    return Entry.objects.using(ledger.ledger_connection().alias)


def _waiting(task: ReliableTask | str | None) -> Any:
    rows = _entries().filter(state__in=WAITING)
    return rows if task is None else rows.filter(task=getattr(task, "name", task))


def _next(
    app: Celery, task: ReliableTask | str | None, seconds: float, refused: set[UUID]
) -> Entry | None:
    # What has expired ends here, as a sweeper would end it; nothing is published.
    swept = ledger.sweep_due(limit=1000, recheck=1.0, longest=1.0, publishing=False, rescuing=False)
    sweeping.tell(app, swept)
    due = _waiting(task).filter(due_at__lte=moment_expression(seconds, None))
    row: Entry | None = due.exclude(pk__in=refused).order_by("due_at", "pk").first()
    return row


def _token_of(row: Entry) -> int:
    return int(_entries().values_list("attempt", flat=True).get(pk=row.pk))


def _arguments_of(task: ReliableTask, row: Entry) -> dict[str, Any]:
    args, kwargs = decode(row.args, row.kwargs)
    return keying.kept_arguments(task, *arguments.texts(task, args, kwargs))


# -- one attempt ----------------------------------------------------------------------------------


@contextmanager
def _ahead_of_time(seconds: float) -> Iterator[None]:
    token = arrival.ignoring_due.set(seconds > 0)
    try:
        yield
    finally:
        arrival.ignoring_due.reset(token)


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
    no_args: Sequence[Any] = []
    return {
        **wakeup.headers(),
        **wakeup.properties(),
        "args": no_args,
        "kwargs": {},
        "hostname": identity(_HOST),
        "delivery_info": {"exchange": "", "routing_key": row.queue, "priority": row.priority},
    }
