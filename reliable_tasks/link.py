"""One connection to the broker that is quick, bounded, and gives up early."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any, Final, TypeVar
from uuid import UUID

from amqp.exceptions import ChannelError
from celery import Celery, signals
from celery.app.amqp import task_message
from kombu import Connection, Producer, Queue
from kombu.exceptions import OperationalError

from . import forks
from .appconf import appconf
from .conf import current
from .events import Published, PublishFailed, emit, emit_many
from .wakeup import WakeUp

logger = logging.getLogger("reliable_tasks.publish")

_BODY: Final[tuple[Any, ...]] = ((), {}, {})
_BODY_TEXT: Final = "[[],{},{}]"
# How many wake-ups one pipeline to the broker holds.
_BATCH: Final = 1000

T = TypeVar("T")


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
        self._refused: set[str] = set()
        self.breaker = Breaker()
        #: Whether the broker can tell how many messages a queue holds.
        self.counts = True
        forks.wait_for(self)  # see Note [Half a module] there

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
            if self._is_known_down():  # whoever was waited for has found that out
                return 0
            try:
                self._on_live_connection(lambda: self._send_all(wakeups))
            except Exception as error:  # whatever the transport raises, the ledger has the entries
                self._failed(error, wakeups)
                return 0
        self.breaker.reset()
        for (task, queue), some in groupby(wakeups, lambda each: (each.task, each.queue)):
            emit_many(Published, task, [UUID(each.entry) for each in some], queue=queue)
        return len(wakeups)

    def lend(self, act: Callable[[Producer], object], task: str) -> bool:
        """Let somebody send messages of another kind over this connection.

        Args:
            act: what to do with the producer; done a second time if an idle connection turns out
                to be broken.
            task: a task's name, for the event of a failure.

        Returns:
            False if the broker cannot be reached or the breaker is open.

        Raises:
            Exception: what ``act`` raised on a new connection that is not at fault, such as the
                broker's word against one queue.
        """
        if self.breaker.is_open:
            return False
        with self._lock:
            if self._is_known_down():
                return False
            try:
                self._on_live_connection(lambda: act(self._ready_producer()))
            except Exception as error:  # whatever the transport raises
                if self._is_connected_after(error):
                    self.close()  # RabbitMQ has closed the channel
                    raise
                self._failed(error, (), task)
                return False
        self.breaker.reset()
        return True

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

    def trouble(self) -> str:
        """Return why the broker does not answer; empty if it does. For questions: tells nobody."""
        with self._lock:
            try:
                self._ready_producer()
            except Exception as error:  # whatever the transport raises
                self.close()
                return f"{type(error).__name__}: {error}"
        return ""

    def depth(self, queue: str) -> int | None:
        """Return how many messages the broker holds for a queue; None if it cannot tell."""
        if self.breaker.is_open:
            return None
        with self._lock:
            try:
                return self._on_live_connection(lambda: self._depth(queue))
            except (AttributeError, NotImplementedError, TypeError):
                # A transport of kombu's that has no such notion.
                self.counts = False
                return None
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

    def hold(self, seconds: float) -> bool:
        """Keep every thread from delivering; False if one goes on for longer than that."""
        return self._lock.acquire(timeout=seconds)

    def let_go(self) -> None:
        """Let threads deliver again."""
        self._lock.release()

    def forget(self) -> None:
        """Drop the connection without a word to the broker: it belongs to the parent process."""
        self._lock = threading.Lock()
        self._connection = self._producer = None
        self._declared = set()

    def _is_known_down(self) -> bool:
        return self.breaker.is_open

    def _failed(self, error: Exception, wakeups: Sequence[WakeUp], task: str = "") -> None:
        self.close()
        self.breaker.trip(current().BREAKER_SECONDS)
        emit(
            PublishFailed(
                entry=UUID(wakeups[0].entry) if len(wakeups) == 1 else None,
                task=wakeups[0].task if wakeups else task,
                error=f"{type(error).__name__}: {error}",
                count=len(wakeups),
            )
        )

    def _on_live_connection(self, act: Callable[[], T]) -> T:
        # A connection that was idle may have been closed by the other side. That alone says
        # nothing about the broker, so one more try is made on a new connection.
        was_open = self._producer is not None
        try:
            return act()
        except Exception:
            if not was_open:
                raise
            self.close()
            return act()

    def _is_connected_after(self, error: Exception) -> bool:
        if self._connection is None or self._producer is None:  # none was to be had
            return False
        # Celery raises kombu's word for it in place of the transport's.
        told = error.__cause__ if isinstance(error, OperationalError) else error
        return told is not None and not isinstance(told, self._connection.connection_errors)

    def _depth(self, name: str) -> int | None:
        self._ready_producer()
        self._declared.discard(name)
        queue = self._declare(name)
        if queue is None:
            return None
        # Declaring again tells the depth; a passive look would call an empty queue of a virtual
        # transport missing. Where the broker refuses to declare it, a look is all there is.
        bound = queue(self._ready_producer().channel)
        try:
            return int(bound.queue_declare(passive=name in self._refused).message_count)
        except ChannelError as error:
            self._new_channel()
            logger.error("RabbitMQ does not tell how many messages %r holds: %s", name, error)
            return None

    def _send_all(self, wakeups: Sequence[WakeUp]) -> None:
        for start in range(0, len(wakeups), _BATCH):
            self._send(wakeups[start : start + _BATCH])

    def _send(self, wakeups: Sequence[WakeUp]) -> None:
        self._ready_producer()
        if self._redeclare:
            self._declared.clear()
        queues = {name: self._declare(name) for name in {wakeup.queue for wakeup in wakeups}}
        producer = self._ready_producer()
        # Celery's own way costs twice as much a message. It is taken where somebody could tell.
        observed = (
            signals.before_task_publish.receivers
            or signals.after_task_publish.receivers
            or appconf(self._app).task_send_sent_event
        )
        with _pipelined(producer, len(wakeups)):
            for wakeup in wakeups:
                queue = queues[wakeup.queue]
                if queue is None:
                    continue
                routing = wakeup.routing()
                if observed or routing or queue.exchange.type != "direct":
                    self._send_by_celery(producer, wakeup, routing)
                else:
                    self._send_plainly(producer, wakeup, queue)

    def _send_plainly(self, producer: Producer, wakeup: WakeUp, queue: Queue) -> None:
        producer.publish(
            _BODY_TEXT,
            exchange="",
            routing_key=queue.name,
            content_type="application/json",
            content_encoding="utf-8",
            headers=wakeup.headers(),
            delivery_mode=queue.exchange.delivery_mode or "persistent",
            **wakeup.properties(),
        )

    def _send_by_celery(self, producer: Producer, wakeup: WakeUp, routing: dict[str, Any]) -> None:
        sent_event = None
        if appconf(self._app).task_send_sent_event:
            sent_event = {"uuid": wakeup.entry, "name": wakeup.task, "args": "", "kwargs": ""}
        message = task_message(wakeup.headers(), wakeup.properties(), _BODY, sent_event)
        self._app.amqp.send_task_message(
            producer,
            wakeup.task,
            message,
            queue=wakeup.queue,
            declare=[],
            retry=False,
            serializer="json",
            **routing,
        )

    def _declare(self, name: str) -> Queue | None:
        queue = self._known(name)
        if queue is None or name in self._declared:
            return queue
        try:
            queue(self._ready_producer().channel).declare()
            self._refused.discard(name)
        except ChannelError as error:
            # RabbitMQ closes the channel, not the connection: this is about one queue. It exists
            # with other arguments, or is not ours to declare; messages can be sent to it as it is.
            self._new_channel()
            if name not in self._refused:
                logger.error(
                    "RabbitMQ refuses to declare the queue %r: %s. Messages are sent to it as it "
                    "is. Make CELERY_TASK_QUEUES say what the broker has, or delete it there.",
                    *(name, error),
                )
            self._refused.add(name)
        self._declared.add(name)
        return queue

    def _new_channel(self) -> None:
        assert self._connection is not None, "a channel failed, so there was one"
        self._producer = self._app.amqp.Producer(self._connection.channel(), auto_declare=False)

    def _known(self, name: str) -> Queue | None:
        # One entry for a queue that this app's configuration lacks must not stop all others.
        try:
            return self._app.amqp.queues[name]
        except KeyError:
            logger.error(
                "Nothing is published to %r: it is not in CELERY_TASK_QUEUES of this process, and "
                "CELERY_TASK_CREATE_MISSING_QUEUES is off. Its entries wait.",
                name,
            )
            return None

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
            # One try for each broker that the URL names.
            self._connection.ensure_connection(
                max_retries=max(0, len(self._connection.alt) - 1), interval_start=0, interval_step=0
            )
            self._new_channel()
        assert self._producer is not None, "made above"
        return self._producer


@contextmanager
def _pipelined(producer: Producer, count: int) -> Iterator[None]:
    # kombu 5.7 can pipeline; before that every message is its own round trip.
    batch = getattr(producer, "batch", None)
    with batch(max_size=_BATCH) if batch is not None and count > 1 else nullcontext():
        yield
