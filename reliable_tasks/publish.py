"""Publish: hand wake-ups to the broker after commit. It never fails and never stalls the caller.

Nothing here writes a row. When a wake-up is lost on its way, the sweeper publishes the entry again:
``wake_at`` was set ahead when the entry was written. So the only duties are to be quick, to be
bounded, and to leave a broker alone that does not answer.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final

from celery import Celery, signals
from django.db import close_old_connections

from .conf import current
from .faults import reach
from .link import Link
from .wakeup import WakeUp

logger = logging.getLogger("reliable_tasks.publish")

# How many wake-ups the thread takes at once; more would only delay what waits behind them.
_BATCH: Final = 1000
# In a burst of calls the thread waits this long for more to come: one pipeline for several messages
# costs the callers less of the interpreter's time than one send for each. A call after a pause of
# more than _BURST is published at once.
_LINGER: Final = 0.003
_BURST: Final = 0.010

#: Nothing is published. For tests, which run what they enqueue by themselves.
silent: Final[ContextVar[bool]] = ContextVar("silent", default=False)


class Publisher:
    """Takes wake-ups from callers and delivers them from a thread of its own.

    Args:
        app: the Celery app whose broker it is.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._link = Link(app)
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[WakeUp] = deque()
        self._in_flight = 0
        self._thread: threading.Thread | None = None

    def submit(self, wakeups: Sequence[WakeUp]) -> None:
        """Publish as soon as possible. Returns at once; never raises for the broker's sake.

        Args:
            wakeups: what to publish; left to the sweeper if the buffer is full.
        """
        mode = current().PUBLISH
        if mode == "off" or silent.get():
            return
        if mode == "inline":
            self._link.deliver(wakeups)
            return
        if self._link.breaker.is_open:
            return
        with self._changed:
            # What waits already counts, not what comes: a large batch after a pause fits.
            if len(self._waiting) >= current().PUBLISH_BUFFER:
                return
            self._waiting.extend(wakeups)
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._run, name="reliable-tasks-publisher", daemon=True
                )
                thread.start()  # may fail for want of threads; the next call tries again
                self._thread = thread
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted so far was delivered or given up.

        Args:
            timeout: longest wait in seconds.

        Returns:
            False if the time was not enough.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._in_flight, timeout
            )

    def after_fork(self) -> None:
        """Start afresh in a child: the thread and what it was sending are the parent's."""
        self._begin()

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
            if time.monotonic() - last < _BURST:
                time.sleep(_LINGER)
            last = time.monotonic()
            with self._changed:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._in_flight = len(batch)
            try:
                reach("publish.begin")
                self._link.deliver(batch)
                reach("publish.sent")
                # A receiver may have asked the database. No request ends here to close what is old
                # or broken.
                close_old_connections()
            except Exception:  # a receiver of ours or of Celery's; the thread must live on
                logger.exception("The publisher failed; the sweeper publishes what it held.")
            finally:
                with self._changed:
                    self._in_flight = 0
                    self._changed.notify_all()


_publishers: dict[int, Publisher] = {}
_making = threading.Lock()


def publisher(app: Celery) -> Publisher:
    """Return this process's publisher for a Celery app."""
    found = _publishers.get(id(app))
    if found is None:
        with _making:
            found = _publishers.setdefault(id(app), Publisher(app))
    return found


def flush(timeout: float | None = None) -> bool:
    """Wait until every publisher of this process has delivered what was submitted to it.

    Args:
        timeout: longest wait in seconds; None for what one slow broker may cost.

    Returns:
        False if the time was not enough; the sweeper publishes what is left.
    """
    limit = 2 * current().PUBLISH_TIMEOUT if timeout is None else timeout
    left = [each for each in list(_publishers.values()) if not each.flush(limit)]
    return not left


def _after_fork() -> None:
    global _making  # noqa: PLW0603 - a lock that another thread held at the fork is never freed
    _making = threading.Lock()
    for each in _publishers.values():
        each.after_fork()


def _flush_at_exit(**_: object) -> None:
    if any(each._thread is not None for each in _publishers.values()):
        flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_flush_at_exit)
# A pool child ends with os._exit, which runs no atexit handlers.
signals.worker_process_shutdown.connect(_flush_at_exit, weak=False)
