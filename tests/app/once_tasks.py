"""Tasks with dedup keys, for the tests with real workers and processes."""

from __future__ import annotations

from typing import Any, Final

from celery import shared_task

from reliable_tasks import QueueOnce, ReliableTask
from tests.app.worker_tasks import begin, leave_effect, wait_for_go


@shared_task(base=ReliableTask, bind=True, once={"keys": ["number"]})
def hold_once(self: ReliableTask, number: int, folder: str) -> str:
    """Wait for the test, then return the entry's id."""
    begin(self, folder)
    wait_for_go(folder)
    leave_effect(self, f"once {number}")
    return str(self.request.id)


@shared_task(base=ReliableTask, bind=True, once={"keys": ["number"]}, max_retries=0)
def fail_once(self: ReliableTask, number: int, folder: str) -> None:
    """Wait for the test, then fail."""
    begin(self, folder)
    wait_for_go(folder)
    raise ValueError(f"{number} failed")


@shared_task(base=ReliableTask, once={"keys": ["number"]}, bind=True, retry_backoff=0.05)
def succeed_at(self: ReliableTask, number: int, attempt: int) -> int:
    """Fail until this attempt."""
    if self.attempt < attempt:
        raise ValueError("not yet")
    return self.attempt


@shared_task(base=QueueOnce, bind=True, once={"keys": ["number"], "unlock_before_run": True})
def unlocked(self: QueueOnce, number: int, folder: str) -> int:
    """Wait for the test, its key free again."""
    begin(self, folder)
    wait_for_go(folder)
    return number


class Hopeless(Exception):
    """What the tasks below do not retry."""


_ATOMIC: Final[dict[str, Any]] = {
    "base": ReliableTask,
    "bind": True,
    "atomic": True,
    "retry_backoff": 0.1,
    "retry_jitter": False,
    "dont_autoretry_for": (Hopeless,),
}


def _hold(task: Any, folder: str, until: int) -> int:
    leave_effect(task, "hold")
    begin(task, folder)
    wait_for_go(folder)
    if not until:
        raise Hopeless
    if task.attempt < until:
        raise ValueError(f"attempt {task.attempt}")
    return int(task.attempt)


@shared_task(**_ATOMIC, once={"keys": ["name"]})
def hold_live(self: ReliableTask, folder: str, name: str, until: int = 1) -> int:
    """Leave an effect, wait for the test, and fail before an attempt; in each one for 0."""
    return _hold(self, folder, until)


@shared_task(**_ATOMIC, once={"keys": ["name"], "blocks": "waiting"})
def hold_waiting(self: ReliableTask, folder: str, name: str, until: int = 1) -> int:
    """Do the same, the key free while the body runs."""
    return _hold(self, folder, until)


@shared_task(base=ReliableTask, once={"keys": ["number"]})
def square(number: int) -> int:
    """Return the square."""
    return number * number


@shared_task(base=ReliableTask, once={"keys": ["number"], "window": 60, "conflict": "return"})
def square_in_window(number: int) -> int:
    """Return the square; its key blocks on for a minute."""
    return number * number


@shared_task(base=ReliableTask)
def total(numbers: list[int]) -> int:
    """Return the sum."""
    return sum(numbers)


@shared_task(base=ReliableTask)
def add_text(text: str, more: str) -> str:
    """Return both texts."""
    return text + more
