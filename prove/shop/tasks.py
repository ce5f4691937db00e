"""The workload's tasks, each of which leaves effects for its order."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, Final

from celery import shared_task

from prove.shop import runs
from prove.shop.kinds import POISON_BUDGET
from prove.shop.models import Effect, Order
from reliable_tasks import ReliableTask

# Chaos may hit the same healthy entry many times; only poison is to die of it.
_PATIENT: Final[dict[str, Any]] = {
    "base": ReliableTask,
    "bind": True,
    "crash_budget": 1000,
    "retry_backoff": 0.2,
    "retry_backoff_max": 1,
    "retry_jitter": False,
}


class Flaw(Exception):
    """What a flaky task raises."""


def _effect(task: Any, number: str, kind: str, **more: int) -> None:
    own = {"entry": task.request.id, "attempt": task.attempt, "pid": os.getpid()}
    Effect.objects.create(number=number, kind=kind, **own, **more)


def _start(task: Any, number: str, kind: str) -> None:
    runs.note("start", number, kind, task.attempt)


def _end(task: Any, number: str, kind: str) -> None:
    runs.note("end", number, kind, task.attempt)


@shared_task(**_PATIENT, atomic=True)
def atomic(self: Any, number: str) -> None:
    _start(self, number, "atomic")
    _effect(self, number, "atomic")
    _end(self, number, "atomic")


@shared_task(**_PATIENT)
def plain(self: Any, number: str) -> None:
    _start(self, number, "plain")
    _effect(self, number, "plain")
    _end(self, number, "plain")


@shared_task(**_PATIENT, atomic=True)
def flaky(self: Any, number: str) -> None:
    """Leave an effect, and fail in the first attempt: that effect must not stay."""
    _start(self, number, "flaky")
    _effect(self, number, "flaky")
    if self.request.retries < 1:
        raise Flaw("the first try")
    _end(self, number, "flaky")


@shared_task(**_PATIENT)
def flaky_plain(self: Any, number: str) -> None:
    """Fail in the first attempt, before there is an effect."""
    _start(self, number, "flaky_plain")
    if self.request.retries < 1:
        raise Flaw("the first try")
    _effect(self, number, "flaky_plain")
    _end(self, number, "flaky_plain")


@shared_task(**_PATIENT, atomic=True)
def long(self: Any, number: str) -> None:
    """Leave an effect, and keep the transaction open for long."""
    _start(self, number, "long")
    _effect(self, number, "long")
    time.sleep(float(os.environ.get("PROVE_LONG", "3")))
    _end(self, number, "long")


@shared_task(**_PATIENT)
def long_plain(self: Any, number: str) -> None:
    """Work for long, then leave an effect."""
    _start(self, number, "long_plain")
    time.sleep(float(os.environ.get("PROVE_LONG", "3")))
    _effect(self, number, "long_plain")
    _end(self, number, "long_plain")


@shared_task(**_PATIENT, atomic=True)
def parent(self: Any, number: str) -> None:
    """Enqueue another task in the same transaction."""
    _start(self, number, "parent")
    _effect(self, number, "parent")
    child.delay(number)
    _end(self, number, "parent")


@shared_task(**_PATIENT, atomic=True)
def child(self: Any, number: str) -> None:
    _start(self, number, "child")
    _effect(self, number, "child")
    _end(self, number, "child")


@shared_task(**_PATIENT, atomic=True)
def later(self: Any, number: str) -> None:
    _start(self, number, "later")
    _effect(self, number, "later")
    _end(self, number, "later")


@shared_task(
    **{**_PATIENT, "retry_backoff": 1},
    atomic=True,
    once={"keys": ["product"], "conflict": "return"},
)
def sole(self: Any, product: int, number: str) -> None:
    """Live alone for a product; one in two fails first, and keeps its key for a second's wait."""
    _start(self, number, "sole")
    if self.request.retries < 1 and number < "8":
        raise Flaw("the first try")
    time.sleep(0.05)
    _effect(self, number, "sole", product=product)
    _end(self, number, "sole")


@shared_task(**_PATIENT, atomic=True, once={"keys": ["product"], "conflict": "replace"})
def recount(self: Any, product: int, number: str) -> None:
    """Count a product's orders: each of them must be seen by a count that begins after it."""
    _start(self, number, "recount")
    seen = Order.objects.filter(kind="recount", product=product).count()
    _effect(self, number, "recount", product=product, seen=seen)
    _end(self, number, "recount")


@shared_task(**_PATIENT, atomic=True, once={"window": "forever", "conflict": "return"})
def event(self: Any, number: str) -> None:
    """Run once, however often the event is delivered."""
    _start(self, number, "event")
    _effect(self, number, "event")
    _end(self, number, "event")


# Each with a key of its own, which must not outlive what these come to.
@shared_task(**_PATIENT, atomic=True, once=True)
def hog(self: Any, number: str) -> None:
    """Run out of memory: killed the first time, as by the kernel; refused the second time."""
    _start(self, number, "hog")
    _effect(self, number, "hog")
    if self.attempt <= 2:
        _use_up_memory(killed=self.attempt == 1)
    _end(self, number, "hog")


def _use_up_memory(*, killed: bool) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    sizes = Path("/proc/self/statm").read_text()
    used = int(sizes.split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (128 << 20), before[1]))
    taken = []
    try:
        while True:
            taken.append(bytearray(8 << 20))
    except MemoryError:
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        taken.clear()
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@shared_task(**_PATIENT, atomic=True, once=True, time_limit=2)
def overrun(self: Any, number: str) -> None:
    """Run into the hard time limit in the first attempt."""
    _start(self, number, "overrun")
    _effect(self, number, "overrun")
    if self.attempt == 1:
        time.sleep(60)
    _end(self, number, "overrun")


@shared_task(base=ReliableTask, bind=True, once=True, crash_budget=POISON_BUDGET)
def poison(self: Any, number: str) -> None:
    """Kill the process, each time."""
    _start(self, number, "poison")
    os.kill(os.getpid(), signal.SIGKILL)
