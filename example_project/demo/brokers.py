"""How the demo makes a broker forget, and how much of it.

An own Redis is wiped whole. On a Redis that was given, every key of the demo has a prefix, and only
those are deleted. On any other broker the demo has a queue of its own, and only that is emptied.
"""

import contextlib
from abc import ABC, abstractmethod

import redis

from example_project.celery import app
from example_project.demo.place import Place

_TIMEOUT = 2.0  # seconds for one answer


class Broker(ABC):
    """What the demo does to a broker."""

    @abstractmethod
    def wipe(self) -> int:
        """Make it forget.

        Returns:
            How many wake-ups were lost.
        """

    @abstractmethod
    def leave(self) -> None:
        """Take the demo's traces away, if the broker outlives the demo."""


class RedisBroker(Broker):
    """A Redis; one that the demo runs itself if there is no prefix."""

    def __init__(self, url: str, queue: str, prefix: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
        )
        self._queue = queue
        self._prefix = prefix

    def answers(self) -> bool:
        """Tell whether it is up."""
        try:
            return bool(self._client.ping())
        except redis.RedisError:
            return False

    def wipe(self) -> int:
        """Delete what the demo has there, or everything."""
        lost = int(self._client.llen(f"{self._prefix}{self._queue}"))
        if self._prefix:
            self._delete_prefixed()
        else:
            self._client.flushall()
        return lost

    def leave(self) -> None:
        """Delete what the demo has there; an own Redis ends with the demo."""
        if self._prefix:
            with contextlib.suppress(redis.RedisError):
                self._delete_prefixed()
        self._client.close()

    def _delete_prefixed(self) -> None:
        for key in self._client.scan_iter(match=f"{self._prefix}*", count=1000):
            self._client.delete(key)


class QueueBroker(Broker):
    """A broker that only Celery knows how to talk to."""

    def __init__(self, queue: str) -> None:
        self._queue = queue

    def wipe(self) -> int:
        """Empty the demo's queue."""
        return int(app.control.purge())

    def leave(self) -> None:
        """Delete the demo's queue."""
        with (
            app.connection_for_write() as connection,
            contextlib.suppress(*connection.connection_errors, *connection.channel_errors),
            connection.channel() as channel,
        ):
            channel.queue_delete(self._queue)
            channel.exchange_delete(self._queue)


def broker_of(place: Place) -> Broker:
    """Choose how to deal with a run's broker.

    Args:
        place: the run.
    """
    url, queue = place.environment["CELERY_BROKER_URL"], place.environment["SHOP_QUEUE"]
    if url.startswith(("redis://", "rediss://")):
        return RedisBroker(url, queue, place.environment["SHOP_KEY_PREFIX"])
    return QueueBroker(queue)
