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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from uuid import UUID

from celery import Celery, signals
from celery.app.amqp import task_message
from kombu import Connection, Producer

from .conf import current
from .events import Published, PublishFailed, emit
from .wakeup import WakeUp

logger = logging.getLogger("reliable_tasks.publish")

_BODY: Final[tuple[Any, ...]] = ((), {}, {})
# How many wake-ups one pipeline to the broker holds.
_BATCH: Final = 1000


class Breaker:
    """Opens after a failure, so that a broker that is down costs nobody a wait for some seconds."""

    def __init__(self) -> None:
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether publishing is to be left to the sweeper for now."""
        return time.monotonic() < self._open_until

    def trip(self, seconds: float) -> None:
        """Open for that many seconds."""
        self._open_until = time.monotonic() + seconds

    def reset(self) -> None:
        """Close: the broker answers again."""
        self._open_until = 0.0


class Link:
    """One connection to the broker, with short timeouts, used by one thread at a time.

    Args:
        app: the Celery app whose broker it is.
        redeclare: declare each queue before each batch. The sweeper does, because a broker that
            was wiped has lost its queues and bindings; callers do not, because it costs a round
            trip.
    """

    def __init__(self, app: Celery, *, redeclare: bool = False) -> None:
        self._app = app
        self._redeclare = redeclare
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._declared: set[str] = set()
        self.breaker = Breaker()

    def deliver(self, wakeups: Sequence[WakeUp]) -> int:
        """Send wake-ups, pipelined where the transport can.

        Args:
            wakeups: what to send.

        Returns:
            How many were handed over: all of them, or 0 if the broker failed or the breaker is
            open. After a failure some may have arrived all the same, which does no harm.
        """
        if not wakeups or self.breaker.is_open:
            return 0
        with self._lock:
            try:
                for start in range(0, len(wakeups), _BATCH):
                    self._send(wakeups[start : start + _BATCH])
            except Exception as error:  # whatever the transport raises, the ledger has the entry
                self._failed(error, wakeups)
                return 0
        self.breaker.reset()
        for wakeup in wakeups:
            emit(Published(entry=UUID(wakeup.entry), task=wakeup.task, queue=wakeup.queue))
        return len(wakeups)

    def is_up(self) -> bool:
        """Tell whether the broker answers, opening the connection if there is none yet."""
        if self.breaker.is_open:
            return False
        with self._lock:
            try:
                self._ready_producer()
            except Exception as error:
                self._failed(error, ())
                return False
        return True

    def depth(self, queue: str) -> int | None:
        """Return how many messages the broker holds for a queue; None if it cannot tell."""
        if self.breaker.is_open:
            return None
        with self._lock:
            try:
                bound = self._app.amqp.queues[queue](self._ready_producer().channel)
                bound.declare()
                self._declared.add(queue)
                # Declaring again tells the depth; a passive look would call an empty queue of a
                # virtual transport missing.
                answer = bound.queue_declare()
                return int(answer.message_count)
            except Exception as error:
                self._failed(error, ())
                return None

    def close(self) -> None:
        """Close the connection; the next delivery opens another one."""
        connection, self._connection, self._producer = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            try:
                connection.release()
            except Exception as error:
                logger.debug("Closing a broken connection to the broker failed: %r", error)

    def forget(self) -> None:
        """Drop the connection without a word to the broker: it belongs to the parent process."""
        self._lock = threading.Lock()
        self._connection = self._producer = None
        self._declared = set()

    def _failed(self, error: Exception, wakeups: Sequence[WakeUp]) -> None:
        self.close()
        self.breaker.trip(current().BREAKER_SECONDS)
        emit(
            PublishFailed(
                entry=UUID(wakeups[0].entry) if len(wakeups) == 1 else None,
                task=wakeups[0].task if wakeups else "",
                error=f"{type(error).__name__}: {error}",
                count=len(wakeups),
            )
        )

    def _send(self, wakeups: Sequence[WakeUp]) -> None:
        producer = self._ready_producer()
        send = self._app.amqp.send_task_message
        if self._redeclare:
            self._declared.clear()
        with _pipelined(producer, len(wakeups)):
            for wakeup in wakeups:
                send(
                    producer,
                    wakeup.task,
                    self._message(wakeup),
                    queue=wakeup.queue,
                    declare=self._to_declare(wakeup.queue),
                    retry=False,
                    serializer="json",
                    **wakeup.routing(),
                )

    def _message(self, wakeup: WakeUp) -> Any:
        headers = wakeup.headers()
        sent_event = None
        if self._app.conf.task_send_sent_event:
            sent_event = {"uuid": wakeup.entry, "name": wakeup.task, "args": "", "kwargs": ""}
        return task_message(headers, wakeup.properties(), _BODY, sent_event)

    def _to_declare(self, queue: str) -> list[Any]:
        if queue in self._declared:
            return []
        bound = self._app.amqp.queues[queue](self._producer.channel)  # type: ignore[union-attr]
        bound.declare()
        self._declared.add(queue)
        return []

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            timeout = current().PUBLISH_TIMEOUT
            self._connection = self._app.connection_for_write(
                connect_timeout=timeout,
                transport_options={
                    # Redis.
                    "socket_timeout": timeout,
                    "socket_connect_timeout": timeout,
                    # AMQP.
                    "read_timeout": timeout,
                    "write_timeout": timeout,
                },
            )
            # Not connect() nor default_channel: they wait and try again when the broker refuses.
            self._connection.ensure_connection(max_retries=0)
            self._producer = self._app.amqp.Producer(self._connection.channel(), auto_declare=False)
        return self._producer


@contextmanager
def _pipelined(producer: Producer, count: int) -> Iterator[None]:
    # kombu 5.7 can pipeline; before that every message is its own round trip.
    batch = getattr(producer, "batch", None)
    with batch(max_size=_BATCH) if batch is not None and count > 1 else nullcontext():
        yield


class Publisher:
    """Takes wake-ups from callers and delivers them from a thread of its own.

    Args:
        app: the Celery app whose broker it is.
    """

    def __init__(self, app: Celery) -> None:
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
            wakeups: what to publish. What does not fit the buffer is left to the sweeper.
        """
        if current().PUBLISH == "inline":
            self._link.deliver(wakeups)
            return
        if self._link.breaker.is_open:
            return
        with self._changed:
            room = current().PUBLISH_BUFFER - len(self._waiting)
            self._waiting.extend(wakeups[: max(0, room)])
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="reliable-tasks-publisher", daemon=True
                )
                self._thread.start()
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
        self._link.forget()
        self._begin()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._in_flight = len(batch)
            try:
                self._link.deliver(batch)
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
