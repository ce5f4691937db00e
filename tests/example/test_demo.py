"""What the demo is made of: processes that end, ports that are free, a terminal that is legible."""

import io
import os
import signal
import subprocess
import sys

import psutil
import pytest
import redis

from example_project.demo.brokers import RedisBroker
from example_project.demo.children import Child, DemoError, end_all, wait_until
from example_project.demo.customers import Crowd
from example_project.demo.display import Bar, Display
from example_project.demo.place import find_place
from tests.harness import ROOT
from tests.harness import wait_until as eventually

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
# Starts a child of its own, tells its pid, and pays no heed to a polite request.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""
PARENT = """
import os, sys
from pathlib import Path
from example_project.demo.children import Child
child = Child("c", [sys.executable, "-c", "import time; time.sleep(60)"],
              environment=dict(os.environ), directory=Path("."), log=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
input()
"""


@pytest.fixture
def make_child(tmp_path):
    """Return a function that makes a child running Python code; all end with the test."""
    made = []

    def make(code):
        child = Child(
            f"child{len(made)}",
            [sys.executable, "-c", code],
            environment=dict(os.environ),
            directory=tmp_path,
            log=tmp_path / f"child{len(made)}.log",
        )
        made.append(child)
        return child

    yield make
    for child in made:
        child.kill()


def test_a_killed_child_takes_its_group_along(make_child):
    """SIGKILL reaches the processes that a child has started, too."""
    child = make_child(STUBBORN)
    child.start()
    wait_until(lambda: child.tail() != "", child, 10)
    grandchild = int(child.tail())

    child.kill()

    assert not child.is_alive()
    eventually(lambda: not psutil.pid_exists(grandchild) or is_zombie(grandchild))


def is_zombie(pid):
    """Tell whether a process is dead, though nobody has asked for its end."""
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_frozen_child_stands_still(make_child):
    """A frozen process neither runs nor ends, and goes on when it thaws."""
    child = make_child(SLEEPER)
    child.start()
    wait_until(lambda: child.tail() != "", child, 10)

    child.freeze()
    eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    child.thaw()
    eventually(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)

    assert child.is_alive()


def test_who_does_not_end_when_asked_is_killed(make_child):
    """The polite ones end by themselves, the stubborn ones after the time they were given."""
    children = [make_child(SLEEPER), make_child(STUBBORN)]
    for child in children:
        child.start()
        wait_until(lambda child=child: child.tail() != "", child, 10)

    end_all(children, seconds=0.3)

    assert not any(child.is_alive() for child in children)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a death")
def test_children_die_with_the_demo(tmp_path):
    """Even a demo that is killed with SIGKILL leaves nothing behind."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)

        parent.send_signal(signal.SIGKILL)

    eventually(lambda: not psutil.pid_exists(pid) or is_zombie(pid))


def test_a_child_that_fails_shows_its_log(make_child):
    """A process that ends instead of getting ready is reported with its last words."""
    child = make_child("raise SystemExit('no such port')")
    child.start()

    with pytest.raises(DemoError, match="no such port"):
        wait_until(lambda: False, child, 10)


def test_a_child_that_is_late_is_reported(make_child):
    """A process that does not get ready in time is an error, not a wait for ever."""
    child = make_child(SLEEPER)
    child.start()

    with pytest.raises(DemoError, match="not ready"):
        wait_until(lambda: False, child, 0.1)


@pytest.fixture
def empty_root(tmp_path, monkeypatch):
    """Let demos live in a directory of the test, with no broker or database given."""
    monkeypatch.setattr("example_project.demo.place.ROOT", tmp_path)
    for name in ("CELERY_BROKER_URL", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_two_demos_do_not_meet(empty_root):
    """A second demo finds a directory and ports of its own."""
    first = find_place(18000)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(first.web_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        eventually(lambda: psutil.Process(server.pid).net_connections())
        second = find_place(first.web_port)
        server.kill()
    first.lock.close()
    second.lock.close()

    assert first.directory != second.directory
    assert first.web_port != second.web_port


def test_a_demo_begins_with_nothing(empty_root):
    """What an earlier run has left is gone."""
    first = find_place(18000)
    (first.directory / "shop.sqlite3").touch()
    first.lock.close()

    second = find_place(18000)
    second.lock.close()

    assert second.directory == first.directory
    assert not list(second.directory.iterdir())


def test_a_given_broker_is_used_but_not_owned(empty_root, monkeypatch):
    """On somebody else's broker the demo keeps to a queue of its own."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    place = find_place(18000)
    place.lock.close()

    assert not place.own_broker
    assert place.environment["CELERY_BROKER_URL"] == "redis://127.0.0.1:1/0"
    assert place.environment["SHOP_QUEUE"] != "shop"
    assert place.environment["SHOP_KEY_PREFIX"]


def test_only_the_demo_is_wiped_from_a_given_redis(private_redis):
    """On somebody else's Redis the wipe deletes the demo's keys, counts its wake-ups, no more."""
    broker = RedisBroker(private_redis.url, queue="q", prefix="demo:")
    with redis.Redis(port=private_redis.port) as client:
        client.rpush("demo:q", "wake-up", "wake-up")
        client.set("demo:other", "1")
        client.set("theirs", "1")

        assert broker.wipe() == 2
        assert client.keys() == [b"theirs"]
    broker.leave()


def test_an_own_redis_is_wiped_whole(private_redis):
    """On the demo's own Redis nothing survives the wipe."""
    broker = RedisBroker(private_redis.url, queue="q", prefix="")
    with redis.Redis(port=private_redis.port) as client:
        client.rpush("q", "wake-up")
        client.set("unacked", "1")

        assert broker.wipe() == 1
        assert client.keys() == []
    broker.leave()


def test_customers_report_a_shop_that_is_closed():
    """Orders that cannot be placed are counted as failures; the customers do not hang."""
    crowd = Crowd(port=9, orders=3, seconds=0)
    crowd.start()
    eventually(crowd.finished)

    assert len(crowd.failures) == crowd.total
    assert not crowd.placed


def test_a_pipe_gets_plain_lines():
    """Where there is no terminal nothing is redrawn, and an unchanged panel is not repeated."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    display = Display(stream, began=0)
    display._last_time = float("-inf")
    for _ in range(3):
        display.panel([Bar("placed", 1, 2)], "note")
    display.event("done")

    stream.seek(0)
    text = stream.read()
    assert "\x1b" not in text
    assert text.count("placed 1/2") == 1
    assert text.endswith("done\n")


def test_a_terminal_gets_a_panel(monkeypatch):
    """On a terminal the panel is drawn over, and events stay above it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(stream, "isatty", lambda: True)
    display = Display(stream)
    display.panel([Bar("placed", 1, 2)], "note")
    display.event("worker killed")
    display.panel([Bar("placed", 2, 2)], "note")

    stream.seek(0)
    text = stream.read()
    assert text.index("1/2") < text.index("\x1b[3A\x1b[J") < text.index("worker killed")
    assert text.index("worker killed") < text.index("2/2")
