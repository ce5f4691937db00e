"""Tasks that misbehave on purpose, for the tests with real workers.

A test gives a folder to a body. The body writes a line into the file ``runs`` there whenever an
attempt begins, and waits for the file ``go``: so a test knows and decides when things happen.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import group, shared_task
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from django.db import connection
from django.dispatch import receiver

from reliable_tasks import ReliableTask, events
from tests.app.models import Effect, Item

# A test that forgets to say go must not leave a body behind for ever.
PATIENCE = 30.0


def begin(task: Any, folder: str) -> None:
    """Write down that an attempt begins."""
    with (Path(folder) / "runs").open("a") as runs:
        runs.write(
            f"{task.name.rpartition('.')[2]} {task.request.id} {task.attempt} {os.getpid()}\n"
        )


def until_go(folder: str) -> Iterator[None]:
    """Yield every now and then until the test has written the file ``go``."""
    deadline = time.monotonic() + PATIENCE
    while not (Path(folder) / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody said go")
        yield
        time.sleep(0.02)


def wait_for_go(folder: str) -> None:
    """Return once the test has written the file ``go``."""
    for _ in until_go(folder):
        pass


def leave_effect(task: Any, name: str) -> None:
    """Write the row that shows that this attempt's effects were kept."""
    Effect.objects.create(name=name, entry_id=task.request.id, attempt=task.attempt)


# -- bodies that a test holds -----------------------------------------------------------------


@shared_task(base=ReliableTask, bind=True)
def hold(self: ReliableTask, folder: str) -> int:
    """Wait for the test, then leave an effect; return the attempt's number."""
    begin(self, folder)
    wait_for_go(folder)
    leave_effect(self, "hold")
    return self.attempt


@shared_task(base=ReliableTask, bind=True, atomic=True)
def hold_atomic(self: ReliableTask, folder: str) -> int:
    """Leave an effect in the transaction, then wait for the test; return the attempt's number."""
    leave_effect(self, "hold_atomic")
    begin(self, folder)
    wait_for_go(folder)
    return self.attempt


# -- bodies that fail ----------------------------------------------------------------------------


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.1, retry_jitter=False)
def fail_until(self: ReliableTask, attempt: int, value: Any = "done") -> Any:
    """Fail in every attempt before the given one, then return the value."""
    if self.attempt < attempt:
        raise ValueError(f"attempt {self.attempt}")
    return value


@shared_task(base=ReliableTask, bind=True, atomic=True, retry_backoff=0.1, retry_jitter=False)
def fail_until_atomic(self: ReliableTask, attempt: int) -> int:
    """Leave an effect and fail in every attempt before the given one."""
    leave_effect(self, "fail_until_atomic")
    if self.attempt < attempt:
        raise ValueError(f"attempt {self.attempt}")
    return self.attempt


@shared_task(base=ReliableTask, max_retries=2, retry_backoff=0.05, retry_jitter=False)
def always_fail(message: str = "no") -> None:
    """Fail in every attempt."""
    raise ValueError(message)


class Picky(ValueError):
    """What ``picky`` does not retry."""


@shared_task(base=ReliableTask, dont_autoretry_for=(Picky,))
def picky() -> None:
    """Fail with an error that is not retried."""
    raise Picky("not worth it")


class TwoWords(Exception):
    """Cannot be made again from its arguments, as pickle would."""

    def __init__(self, where: str, code: int) -> None:
        super().__init__(f"{where}: {code}")


def ask_gateway() -> None:
    """Fail."""
    raise TwoWords("gateway", 503)


@shared_task(base=ReliableTask, bind=True, default_retry_delay=0.1, max_retries=3)
def asks_again(self: ReliableTask, how: str, until: int = 2) -> Any:
    """Ask for another attempt in one of Celery's ways, until the given attempt."""
    if self.attempt >= until:
        return {"attempt": self.attempt, "retries": self.request.retries}
    if how == "quiet":
        self.retry(countdown=0.1, throw=False)
        return "never seen"
    if how == "raise":
        raise Retry("by hand", when=0.1)
    if how.startswith("handling"):
        try:
            ask_gateway()
        except TwoWords as error:
            exc = error if how == "handling, told" else None
            self.retry(exc=exc, countdown=0.05, throw=how != "handling, quiet")
        return "never seen"
    ways: dict[str, dict[str, Any]] = {
        "plain": {"countdown": 0.2},
        "default": {},
        "slow": {"countdown": 600},
        "now": {"countdown": 0},
        "error": {"exc": KeyError("cause"), "countdown": 0.1},
        "limited": {"exc": LookupError("limit reached"), "countdown": 0.05, "max_retries": 1},
        "unlimited error": {"countdown": 0.05, "max_retries": 1},
        "args": {"args": ("args", 1), "countdown": 0.05},
    }
    raise self.retry(**ways[how])


@shared_task(base=ReliableTask, bind=True, max_retries=1, default_retry_delay=0.05)
def raises_retry_forever(self: ReliableTask, folder: str) -> None:
    """Raise Celery's Retry by hand in every attempt."""
    begin(self, folder)
    raise Retry("again", when=0.05)


@shared_task(base=ReliableTask, bind=True, atomic=True)
def says_ignore(self: ReliableTask) -> None:
    """Say that there is nothing (more) to do."""
    leave_effect(self, "says_ignore")
    raise Ignore("nothing to do")


@shared_task(base=ReliableTask, bind=True, max_retries=1, retry_backoff=0.05)
def rejects(self: ReliableTask, requeue: bool) -> None:
    """Reject the message."""
    raise Reject("not mine", requeue=requeue)


# -- bodies that take their process down -----------------------------------------------------------


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.1, retry_jitter=False, max_retries=1)
def misbehave(self: ReliableTask, folder: str, how: str, until: int = 2) -> int:
    """Do the worst in every attempt before the given one."""
    begin(self, folder)
    if self.attempt < until:
        _WORST[how.partition(" ")[0]](how)
    return self.attempt


def _raise(error: BaseException) -> None:
    raise error


_WORST: dict[str, Any] = {
    "os._exit": lambda how: os._exit(3),
    "SIGKILL": lambda how: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda how: ctypes.string_at(0),
    "MemoryError": lambda how: bytearray(1 << 60),
    "KeyboardInterrupt": lambda how: _raise(KeyboardInterrupt()),
    "GeneratorExit": lambda how: _raise(GeneratorExit()),
    "CancelledError": lambda how: _raise(asyncio.CancelledError()),
    "sys.exit": lambda how: sys.exit(int(how.partition(" ")[2])),
}


def _overrun(how: str) -> None:
    if how == "sleep":
        time.sleep(PATIENCE)
    elif how == "busy":
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pass
    elif how.startswith("blocked"):
        # Native code that keeps the interpreter's lock, and a thread that takes no signals.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
        ctypes.PyDLL(None).sleep(int(how.partition(" ")[2] or PATIENCE))


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.1, retry_jitter=False, max_retries=1)
def overrun(self: ReliableTask, folder: str, how: str, until: int = 2) -> int:
    """Run far too long in every attempt before the given one."""
    begin(self, folder)
    if self.attempt >= until:
        return self.attempt
    _overrun(how)
    return self.attempt


@shared_task(
    base=ReliableTask,
    bind=True,
    atomic=True,
    retry_backoff=0.1,
    retry_jitter=False,
    max_retries=1,
    time_limit=1.5,
)
def overrun_atomic(self: ReliableTask, folder: str, until: int = 2) -> int:
    """Leave an effect, then run far too long in every attempt before the given one."""
    leave_effect(self, "overrun_atomic")
    begin(self, folder)
    if self.attempt < until:
        _overrun("sleep")
    return self.attempt


@shared_task(base=ReliableTask, bind=True, max_retries=1, retry_backoff=0.1, retry_jitter=False)
def heeds_soft_limit(self: ReliableTask, folder: str) -> str:
    """Catch the soft time limit and return."""
    begin(self, folder)
    try:
        time.sleep(PATIENCE)
    except SoftTimeLimitExceeded:
        return "cut short"
    return "never"


@shared_task(base=ReliableTask, bind=True)
def slow_end(self: ReliableTask) -> int:
    """Return at once; ``_dawdle`` below makes the end of the attempt outlast the soft limit."""
    return self.attempt


@receiver(events.entry_succeeded)
def _dawdle(sender: str, **_: Any) -> None:
    if sender == slow_end.name:
        time.sleep(1.5)


@shared_task(base=ReliableTask, bind=True, atomic=True)
def pause(self: ReliableTask, folder: str, seconds: float) -> int:
    """Take a while, then leave an effect."""
    begin(self, folder)
    time.sleep(seconds)
    leave_effect(self, "pause")
    return self.attempt


# -- bodies for canvas -------------------------------------------------------------------------


@shared_task(base=ReliableTask)
def combine(values: list[int], also: int = 0) -> int:
    """Return the sum of a chord's results."""
    return sum(values) + also


@shared_task(base=ReliableTask, bind=True)
def remember(self: ReliableTask, value: Any, folder: str) -> Any:
    """Write down that a callback ran, and with what."""
    with (Path(folder) / "seen").open("a") as seen:
        seen.write(f"{value}\n")
    return value


@shared_task(base=ReliableTask)
def remember_failure(task_id: str, *, folder: str) -> None:
    """Write down of which task an errback told.

    With one positional parameter alone, every version of Celery calls it as a task.
    """
    with (Path(folder) / "seen").open("a") as seen:
        seen.write(f"failed {task_id}\n")


@shared_task(base=ReliableTask, crash_budget=1)
def dies() -> None:
    """Take the process down; the first crash is the last."""
    os._exit(3)


@shared_task
def plain_add(x: int, y: int) -> int:
    """Return the sum, as a task of plain Celery."""
    return x + y


@shared_task
def plain_combine(values: list[int]) -> int:
    """Return the sum of a chord's results, as a task of plain Celery."""
    return sum(values)


@shared_task
def plain_fail() -> None:
    """Fail, in plain Celery."""
    raise ValueError("no")


@shared_task(base=ReliableTask, max_retries=0)
def fail() -> None:
    """Fail at once, as plain Celery does."""
    raise ValueError("no")


@shared_task(base=ReliableTask, bind=True)
def replaces_itself(self: ReliableTask, x: int) -> Any:
    """Leave the rest to one other task."""
    leave_effect(self, "replaces_itself")
    return self.replace(combine.s([x, 1]))


@shared_task(base=ReliableTask, bind=True, atomic=True)
def becomes_a_chain(self: ReliableTask, x: int) -> Any:
    """Leave the rest to a chain, from within a transaction."""
    leave_effect(self, "becomes_a_chain")
    return self.replace(fail_until.s(2, value=[x, 1]) | combine.s(also=100))


@shared_task(base=ReliableTask, bind=True, atomic=True)
def becomes_a_group(self: ReliableTask, x: int) -> Any:
    """Leave the rest to a group, whose results stand for this task's."""
    leave_effect(self, "becomes_a_group")
    return self.replace(group(combine.s([x, n]) for n in range(3)))


@shared_task(base=ReliableTask, bind=True)
def counts_down(self: ReliableTask, x: int) -> Any:
    """Replace itself by itself until there is nothing left."""
    if x > 0:
        return self.replace(counts_down.s(x - 1) | combine_one.s())
    return x


@shared_task(base=ReliableTask)
def combine_one(value: int) -> int:
    """Add one."""
    return value + 1


@shared_task(base=ReliableTask, bind=True)
def knows_itself(self: ReliableTask) -> Any:
    """Return what a body can ask of itself."""
    return self.attempt, self.entry, self.cancel_requested()


@shared_task(base=ReliableTask, bind=True)
def factorial(self: ReliableTask, n: int) -> dict[str, Any]:
    """Call itself and another task directly; return also the attempt that the other saw."""
    other, _, _ = knows_itself()
    below = self(n - 1) if n > 1 else {"value": 1, "other": []}
    return {"value": n * below["value"], "other": [*below["other"], other]}


@shared_task(base=ReliableTask, bind=True)
def applies_itself(self: ReliableTask, n: int) -> int:
    """Return the factorial of a number, by eager calls of its own."""
    return n * self.apply((n - 1,)).result if n > 1 else 1


@shared_task(base=ReliableTask)
def delegates(x: int) -> Any:
    """Enqueue another task; return its result where it is there already."""
    result = combine_one.delay(x)
    return result.result


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.1)
def breaks_a_statement(self: ReliableTask) -> int:
    """Write a row, then send the database a broken statement in the first attempt."""
    if self.attempt == 1:
        Item.objects.create(name="undone where there is a transaction")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table_of_ours")
    return self.attempt


@shared_task(base=ReliableTask)
def interrupted() -> None:
    """Be interrupted as by Ctrl-C."""
    raise KeyboardInterrupt


if os.environ.get("RELIABLE_TASKS_TEST_LATECOMER"):

    @shared_task(base=ReliableTask, name="tests.latecomer")
    def latecomer(x: int) -> int:
        """A task that only a later release of the code knows."""
        return x


# -- bodies that report and can be asked to stop --------------------------------------------------


@shared_task(base=ReliableTask, bind=True)
def reports(self: ReliableTask, folder: str) -> int:
    """Report progress in every round until the test says go; return the number of rounds."""
    return _report(self, folder)


@shared_task(base=ReliableTask, bind=True, atomic=True)
def reports_atomic(self: ReliableTask, folder: str) -> int:
    """The same in a transaction, with an effect."""
    leave_effect(self, "reports_atomic")
    return _report(self, folder)


def _report(task: Any, folder: str) -> int:
    begin(task, folder)
    rounds = 0
    for _ in until_go(folder):
        task.progress(rounds, 1000, note=f"round {rounds}")
        rounds += 1
    task.progress(1000, 1000)
    return rounds


@shared_task(base=ReliableTask, bind=True)
def looks_up(self: ReliableTask, folder: str) -> None:
    """Look in every round whether somebody cancelled the entry."""
    begin(self, folder)
    for _ in until_go(folder):
        self.raise_if_cancelled()


@shared_task(base=ReliableTask, bind=True)
def backend_of(self: ReliableTask) -> tuple[int, int]:
    """Return this process and the PostgreSQL process or the connection that it talks to."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_backend_pid()")
            return os.getpid(), cursor.fetchone()[0]
        cursor.execute("SELECT 1")
    return os.getpid(), id(connection.connection)


@shared_task
def plain_backend_of() -> tuple[int, bool]:
    """Return, as a task of plain Celery, this process and whether its connection was open."""
    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return os.getpid(), was_open


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.1)
def fails_when_told(self: ReliableTask, folder: str) -> None:
    """Wait for the test, then fail."""
    begin(self, folder)
    wait_for_go(folder)
    raise ValueError("told to")


@shared_task(base=ReliableTask, bind=True, atomic=True)
def write_names(self: ReliableTask, name: str) -> None:
    """Leave an effect of that name."""
    leave_effect(self, name)


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.05)
def reports_then_fails(self: ReliableTask) -> None:
    """Report progress and fail in the first attempt; do neither in the second."""
    if self.attempt == 1:
        self.progress(1, 2)
        raise ValueError("after some progress")


def _tell_backend(task: Any, folder: str) -> int:
    begin(task, folder)
    if task.attempt == 1:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (Path(folder) / "writing").write_text(str(cursor.fetchone()[0]))
        (Path(folder) / "writing").rename(Path(folder) / "backend")
        wait_for_go(folder)
    return int(task.attempt)


@shared_task(base=ReliableTask, bind=True, retry_backoff=0.05)
def tells_backend(self: ReliableTask, folder: str) -> int:
    """Tell of the process that serves its connection, then wait for the test."""
    return _tell_backend(self, folder)


@shared_task(base=ReliableTask, bind=True, atomic=True, retry_backoff=0.05)
def tells_backend_atomic(self: ReliableTask, folder: str) -> int:
    """The same in a transaction."""
    return _tell_backend(self, folder)
