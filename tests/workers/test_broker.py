"""The broker may lose everything, refuse, or not answer: no entry is lost, and no caller waits."""

import os
import signal
import socket
import time
from datetime import timedelta

import pytest
import redis
from django.db import transaction

from reliable_tasks import ledger, publish
from reliable_tasks.models import Entry
from tests import services
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, Folder, attempts_of, entry_of, wait_for


@pytest.fixture
def use_broker(monkeypatch, transactional_db, settings):
    """Give the test a function that makes this process publish to another broker."""
    mine = {}
    monkeypatch.setattr(publish, "_publishers", mine)

    def use(url, **changes):
        settings.RELIABLE_TASKS = changes
        monkeypatch.setenv("CELERY_BROKER_URL", url)  # goes before the setting

    yield use
    for each in mine.values():
        each.flush(5)
        each._link.close()


@pytest.fixture
def black_hole():
    """Give the test a listener that takes connections and never answers; it can be closed."""
    listener = socket.create_server(("127.0.0.1", services.free_port()), backlog=100)
    yield listener
    listener.close()


def url_of(listener):
    return f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def start_worker(worker, url, **options):
    return worker(settings=FAST, celery={"CELERY_BROKER_URL": url}, **options)


def all_succeeded(count, seconds):
    return wait_until(
        lambda: Entry.objects.filter(state="succeeded").count() == count,
        seconds,
        message=lambda: str(list(Entry.objects.exclude(state="succeeded").values())),
    )


def timed(call, *args, **kwargs):
    began = time.monotonic()
    result = call(*args, **kwargs)
    return result, time.monotonic() - began


def test_a_wiped_broker_loses_nothing(worker, private_redis, use_broker, folder):
    """After FLUSHALL all entries that wait run, though nobody acts."""
    use_broker(private_redis.url)
    process = start_worker(worker, private_redis.url, concurrency=1)
    tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    tasks.write_names.enqueue_many([(f"name {n}",) for n in range(30)])
    client = redis.Redis.from_url(private_redis.url)
    wait_until(lambda: client.llen("celery") > 10)
    client.flushall()
    client.close()
    folder.go()
    all_succeeded(31, 30)
    assert Effect.objects.count() == 31
    assert process.alive


def test_a_broker_that_restarts_empty_loses_nothing(worker, private_redis, use_broker, folder):
    """Killed and started again without its data, the broker costs time and nothing else."""
    use_broker(private_redis.url)
    process = start_worker(worker, private_redis.url, concurrency=1)
    tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    tasks.write_names.enqueue_many([(f"before {n}",) for n in range(20)])
    private_redis.kill()
    _, seconds = timed(tasks.write_names.delay, "meanwhile")
    assert seconds < 1
    folder.go()
    private_redis.start()
    tasks.write_names.delay("after")
    all_succeeded(23, 40)
    assert Effect.objects.count() == 23
    assert process.alive


def lose(server, process):
    """Restart the broker empty, and return when the worker listens again."""
    times = process.log.count("Connected to redis")
    server.kill()
    server.start()
    wait_until(
        lambda: process.log.count("Connected to redis") > times, 60, message=lambda: process.log
    )


def test_what_stands_behind_a_long_body_is_looked_after(
    worker, private_redis, use_broker, folder, tmp_path
):
    """An attempt whose message waited in a busy child when the broker was lost keeps its lease."""
    use_broker(private_redis.url)
    process = worker(
        settings={**FAST, "RECONNECT_SECONDS": 0.5},
        celery={"CELERY_BROKER_URL": private_redis.url},
        concurrency=1,
    )
    behind = Folder(tmp_path / "behind")
    first = tasks.hold.delay(str(folder))
    folder.wait_for_runs()
    lose(private_redis, process)  # after this, Celery up to 5.6 takes that child for free
    second = tasks.hold.delay(str(behind))
    wait_until(lambda: ledger.fetched(60)["celery"] == 1, 30, message=lambda: process.log)
    lose(private_redis, process)
    folder.go()
    behind.wait_for_runs()
    began = entry_of(second).started_at
    renewed = timedelta(seconds=2 * FAST["LEASE_SECONDS"])
    wait_until(
        lambda: entry_of(second).wake_at > began + renewed,
        30,
        message=lambda: f"{attempts_of(second)}\n{process.log}",
    )
    behind.go()
    assert wait_for(second, "succeeded").attempt == 1
    assert wait_for(first, "succeeded").attempt == 1


@pytest.mark.parametrize("mode", ["background", "inline"])
def test_a_broker_that_refuses_costs_the_caller_little(worker, use_broker, mode):
    """Where nobody listens, delay() returns in far less than a second, and the entry runs later."""
    server = services.RedisServer()
    use_broker(server.url, PUBLISH=mode)
    results = []
    for limit in (1.0, 0.2, 0.2):
        with transaction.atomic():
            results.append(add.delay(1, 2))
            began = time.monotonic()
        assert time.monotonic() - began < limit
    server.start()
    try:
        start_worker(worker, server.url, concurrency=1)
        for result in results:
            assert wait_for(result, "succeeded").attempt == 1
    finally:
        server.stop()


@pytest.mark.parametrize(("mode", "first"), [("background", 0.5), ("inline", 1.0)])
def test_a_broker_that_never_answers_costs_the_caller_little(
    worker, use_broker, black_hole, mode, first
):
    """A black hole costs less than a second once, then nothing while the breaker is open."""
    use_broker(url_of(black_hole), PUBLISH=mode)
    result, seconds = timed(add.delay, 1, 2)
    assert seconds < first
    if mode == "background":
        wait_until(lambda: publish.publisher(app)._link.breaker.is_open, 3)
    # The quickest of them tells whether each waits; a busy machine may delay any one.
    assert min(timed(add.delay, 1, 2)[1] for _ in range(5)) < 0.1
    server = services.RedisServer()
    server.port = black_hole.getsockname()[1]
    black_hole.close()
    server.start()
    try:
        start_worker(worker, server.url, concurrency=1)
        assert wait_for(result, "succeeded", timeout=30).attempt == 1
        all_succeeded(6, 30)
    finally:
        server.stop()


def test_a_worker_outlives_a_broker_that_hangs(worker, private_redis, use_broker):
    """A worker whose broker stops answering for a while goes on when it answers again."""
    use_broker(private_redis.url)
    process = start_worker(worker, private_redis.url, concurrency=1)
    assert wait_for(add.delay(1, 2), "succeeded")
    os.kill(private_redis.pid, signal.SIGSTOP)
    result, seconds = timed(add.delay, 1, 2)
    assert seconds < 1
    time.sleep(2)
    os.kill(private_redis.pid, signal.SIGCONT)
    assert wait_for(result, "succeeded", timeout=30)
    assert process.alive
