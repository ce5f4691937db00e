"""The publisher's thread: bounded, alive after a fork, and done before its process ends."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
import threading

import pytest
import redis
from django.db import connections

from reliable_tasks.ids import new_id
from reliable_tasks.publish import Publisher
from reliable_tasks.wakeup import WakeUp
from tests.celery_app import app
from tests.harness import ROOT, python

pytestmark = pytest.mark.usefixtures("flush_broker")


def wakeups(count: int) -> list[WakeUp]:
    return [WakeUp(str(new_id()), "tests.app.tasks.add", "celery") for _ in range(count)]


def sent(redis_url: str) -> list[str]:
    """Return the entries whose messages the broker holds."""
    with redis.Redis.from_url(redis_url) as client:
        found = [json.loads(message) for message in client.lrange("celery", 0, -1)]
    return sorted(message["headers"]["id"] for message in found)


@pytest.fixture
def held(monkeypatch):
    """Give the test a publisher whose broker takes nothing until it is told to."""
    publisher = Publisher(app)
    begun, go, delivered = threading.Event(), threading.Event(), []

    def deliver(some):
        begun.set()
        assert go.wait(10)
        delivered.extend(some)
        return len(some)

    monkeypatch.setattr(publisher._link, "deliver", deliver)
    yield publisher, begun, go, delivered
    go.set()
    assert publisher.flush(10)


def test_what_waits_is_bounded(held, settings):
    """While the broker is slow, the buffer grows to its limit and no further; nobody waits."""
    settings.RELIABLE_TASKS = {"PUBLISH_BUFFER": 5}
    publisher, begun, go, delivered = held
    publisher.submit(wakeups(1))
    assert begun.wait(10)
    for _ in range(20):
        publisher.submit(wakeups(1))
    go.set()
    assert publisher.flush(10)
    assert len(delivered) == 1 + 5


def test_a_batch_larger_than_the_buffer_is_taken_once(held, settings):
    """What waits already counts against the limit, not what comes."""
    settings.RELIABLE_TASKS = {"PUBLISH_BUFFER": 5}
    publisher, begun, go, delivered = held
    publisher.submit(wakeups(1))
    assert begun.wait(10)
    publisher.submit(wakeups(30))
    publisher.submit(wakeups(30))
    go.set()
    assert publisher.flush(10)
    assert len(delivered) == 1 + 30


@pytest.mark.django_db(transaction=True)
def test_a_receivers_connection_ends_with_its_batch(monkeypatch):
    """What a receiver opens in the publisher's thread is neither left open nor kept when broken."""
    publisher, opened = Publisher(app), []

    def deliver(some):
        mine = connections["default"]
        mine.ensure_connection()
        opened.append((mine, mine.connection))

    monkeypatch.setattr(publisher._link, "deliver", deliver)
    publisher.submit(wakeups(1))
    assert publisher.flush(10)
    publisher.submit(wakeups(1))
    assert publisher.flush(10)
    (thread, first), (_, second) = opened
    assert first is not second
    assert thread.connection is None


def test_a_receiver_that_raises_does_not_end_the_thread(monkeypatch):
    """Whatever goes wrong with one batch, the next one is delivered."""
    publisher, delivered = Publisher(app), []

    def deliver(some):
        if not delivered:
            delivered.append("failed")
            raise KeyError("a receiver")
        delivered.extend(some)

    monkeypatch.setattr(publisher._link, "deliver", deliver)
    publisher.submit(wakeups(1))
    assert publisher.flush(10)
    publisher.submit(wakeups(2))
    assert publisher.flush(10)
    assert len(delivered) == 3


CHILD = """
    import os, sys, django
    django.setup()
    from django.conf import settings
    settings.RELIABLE_TASKS = {"PUBLISH_TIMEOUT": 10.0}  # on a busy machine, too
    from reliable_tasks.ids import new_id
    from reliable_tasks.publish import flush, publisher
    from reliable_tasks.wakeup import WakeUp
    from tests.celery_app import app

    def submit(name):
        entry = str(new_id())
        publisher(app).submit([WakeUp(entry, "tests.app.tasks.add", "celery")])
        print(entry, flush=True)
"""


def run(code: str, redis_url: str) -> list[str]:
    """Run code in a process of its own, and return the entries that it printed."""
    done = subprocess.run(
        python("-c", textwrap.dedent(CHILD) + textwrap.dedent(code)),
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "CELERY_BROKER_URL": redis_url,
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def test_a_process_delivers_before_it_ends(redis_url):
    """What was submitted last of all is not lost when the interpreter ends at once."""
    said = run("submit('last')", redis_url)
    assert sent(redis_url) == said
    assert len(said) == 1


def test_a_fork_publishes_for_itself(redis_url):
    """A child neither sends what its parent was sending, nor waits for the parent's thread."""
    code = """
    submit("parent")
    child = os.fork()
    if child == 0:
        submit("child")
        assert flush(10)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    submit("parent again")
    sys.exit(os.waitstatus_to_exitcode(status))
    """
    said = run(code, redis_url)
    assert sent(redis_url) == said
    assert len(said) == 3


def test_a_fork_during_the_first_delivery_waits_for_its_imports(redis_url):
    """A child never inherits half a module: not the transport, not a codec that it needs."""
    code = """
    import encodings
    find = encodings.search_function

    def dawdle(name):
        if name == "idna":
            importing.set()
            time.sleep(0.3)
        return find(name)

    import codecs, threading, time
    importing = threading.Event()
    codecs.unregister(find)
    codecs.register(dawdle)
    submit("parent")
    assert importing.wait(10)
    assert "encodings.idna" not in sys.modules
    child = os.fork()
    if child == 0:
        assert "encodings.idna" in sys.modules
        submit("child")
        assert flush(10)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
    """
    said = run(code, redis_url)
    assert sent(redis_url) == said
    assert len(said) == 2


def test_a_fork_while_the_publisher_is_at_work(redis_url):
    """Locks that the parent's threads hold at the fork hold up nobody in the child."""
    code = """
    publisher(app)._link._lock.acquire()
    publisher(app)._changed.acquire()
    child = os.fork()
    if child == 0:
        submit("child")
        assert flush(10)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    publisher(app)._changed.release()
    publisher(app)._link._lock.release()
    sys.exit(os.waitstatus_to_exitcode(status))
    """
    said = run(code, redis_url)
    assert sent(redis_url) == said
    assert len(said) == 1
