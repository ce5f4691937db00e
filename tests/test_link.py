"""The connection to the broker: bounded, forgiving, and never stopped by one bad queue."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest
from celery import Celery

from reliable_tasks import link as link_module
from reliable_tasks.ids import new_id
from reliable_tasks.link import Link
from reliable_tasks.wakeup import WakeUp


@pytest.fixture
def silent():
    """Listen, accept and never say a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def deaf():
    """Listen with a full queue: the system answers nobody who knocks, as a firewall does."""
    with socket.socket() as listener, ExitStack() as knocking:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(10):
            one = knocking.enter_context(socket.socket())
            one.settimeout(0.3)
            try:
                one.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("this system's queues take whoever knocks")
        yield listener.getsockname()[1]


@pytest.fixture
def link_to():
    """Give a function that links to a broker by its URL, with a broker's settings."""
    links = []

    def link(url: str, **conf) -> Link:
        app = Celery("linked", broker=url, set_as_current=False)
        app.conf.update(conf)
        links.append(Link(app))
        return links[-1]

    yield link
    for each in links:
        each.close()


def wakeup(queue: str = "celery") -> WakeUp:
    return WakeUp(str(new_id()), "tests.app.tasks.add", queue)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("hole", ["silent", "deaf"])
def test_a_black_hole_costs_less_than_a_second_once(request, link_to, hole, scheme):
    """A broker that never answers, or drops who connects, is given up on, and then left alone."""
    link = link_to(f"{scheme}://127.0.0.1:{request.getfixturevalue(hole)}/")
    began = time.monotonic()
    assert link.deliver([wakeup()]) == 0
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    assert link.deliver([wakeup()]) == 0
    assert time.monotonic() - began < 0.2
    assert link.breaker.is_open


def test_a_silent_broker_costs_one_of_many_threads(link_to):
    """Threads that wait for each other's publish do not each try a broker that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        link = link_to(f"redis://127.0.0.1:{listener.getsockname()[1]}/")
        together = threading.Barrier(6)

        def publish():
            together.wait()
            link.deliver([wakeup()])

        threads = [threading.Thread(target=publish) for _ in range(together.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nobody else has knocked
            listener.accept()


def test_a_broker_that_refuses_is_left_alone_for_a_while(link_to):
    """A refused connection opens the breaker, and nothing is tried while it is open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        link = link_to(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        assert link.deliver([wakeup()]) == 0
    assert not link.is_up()


def test_what_somebody_does_with_a_link_may_fail_for_reasons_of_its_own(link_to, redis_url):
    """Whoever borrows the connection is told what failed; the broker is left alone only if gone."""
    link = link_to(redis_url)

    def fail(producer):
        raise ValueError("no such queue")

    with pytest.raises(ValueError, match="no such queue"):
        link.lend(fail, "tests.app.tasks.add")
    assert link.lend(lambda producer: None, "tests.app.tasks.add")

    def break_off(producer):
        raise ConnectionResetError("gone")

    assert not link.lend(break_off, "tests.app.tasks.add")
    assert link.breaker.is_open


def test_the_second_host_of_a_failover_url_is_used(link_to, redis_url):
    """Where the first broker of the URL is down, publishing goes to the next."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        link = link_to(f"{dead};{redis_url}")
        assert link.deliver([wakeup("failover")]) == 1


def test_one_unknown_queue_does_not_stop_the_others(link_to, redis_url, monkeypatch):
    """An entry for a queue that the configuration lacks is left out; the rest is published."""
    said = []
    monkeypatch.setattr(link_module.logger, "error", lambda words, *args: said.append(words % args))
    link = link_to(redis_url, task_queues={"good": {}}, task_create_missing_queues=False)
    before = link.depth("good")
    link.deliver([wakeup("gone"), wakeup("good")])
    assert link.depth("good") == before + 1
    assert link.depth("gone") is None
    assert not link.breaker.is_open
    assert "'gone'" in said[0]
