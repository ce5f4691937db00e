"""A worker whose broker is away listens again soon after it is back."""

from __future__ import annotations

import contextlib
import re
from types import SimpleNamespace

import kombu
import pytest
from kombu.common import ignore_errors
from kombu.utils.functional import retry_over_time

from reliable_tasks.worker import reconnecting
from tests.app.models import Effect
from tests.app.tasks import write_effect
from tests.harness import wait_until
from tests.workers.support import FAST

_TRIES = re.compile(r"Trying again in ([\d.]+) second")


def test_a_worker_tries_at_short_intervals(worker, private_redis):
    """However long the broker is away, the waits stay short; the worker goes on when it is back."""
    process = worker(
        settings={**FAST, "RECONNECT_SECONDS": 1.0},
        celery={"CELERY_BROKER_URL": private_redis.url},
        concurrency=1,
    )
    private_redis.kill()
    wait_until(lambda: len(_TRIES.findall(process.log)) >= 5, 60, message=lambda: process.log)
    private_redis.start()
    write_effect.delay("back")  # published elsewhere: the worker's sweeper brings it
    wait_until(Effect.objects.filter(name="back").exists, 60, message=lambda: process.log)
    waits = [float(found) for found in _TRIES.findall(process.log)]
    assert max(waits) <= 2.0, waits  # one step more with kombu 5.5


def test_a_worker_ends_when_celerys_limit_is_reached(worker, private_redis):
    """A worker whose broker stays away ends after the time that Celery's limit stands for."""
    process = worker(
        settings={**FAST, "RECONNECT_SECONDS": 0.25},
        celery={
            "CELERY_BROKER_URL": private_redis.url,
            "CELERY_BROKER_CONNECTION_MAX_RETRIES": 1,  # two seconds
        },
        concurrency=1,
    )
    private_redis.kill()
    wait_until(lambda: not process.alive, 60, message=lambda: process.log)
    assert process.log.count("Trying again") > 2, process.log


@pytest.mark.parametrize("tries", [1, 2, 14, 15, 16, 100])
def test_it_gives_up_when_celery_would(tries):
    """The time to giving up is that of Celery's own waits for the same number of tries."""
    waits = []

    def fail():
        raise ConnectionError

    def wait(error, intervals, retries):
        waits.append(next(intervals))
        return 0

    with pytest.raises(ConnectionError):
        retry_over_time(fail, (ConnectionError,), errback=wait, max_retries=tries)
    assert len(waits) == tries
    assert reconnecting.patience(tries) == sum(min(each, 30.0) for each in waits)


def test_a_lost_connection_that_cannot_be_closed_in_order_ends_no_worker(private_redis):
    """Two channels that wait, a message that is not acknowledged, and the broker is gone."""
    consumer = SimpleNamespace(ensure_connected=lambda connection: connection)
    reconnecting.look_after(consumer)
    connection = consumer.ensure_connected(kombu.Connection(private_redis.url))
    first, got = connection.default_channel, []
    _listen(first, "one", got)
    connection.SimpleQueue("one").put({"unacknowledged": True})
    connection.drain_events(timeout=5)
    assert len(got) == 1
    _listen(connection.channel(), "two", got)
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
    if not first._in_poll:
        first._brpop_start()
    private_redis.kill()
    with contextlib.suppress(Exception):  # what Celery does when it notices
        connection.collect()
    ignore_errors(connection, connection.close)


def _listen(channel, queue, got):
    kombu.Consumer(
        channel,
        queues=[kombu.Queue(queue, kombu.Exchange(queue), queue)],
        callbacks=[lambda body, message: got.append(message)],
    ).consume()
