"""What keeper, sweeper and beat must not wait for is told by another thread."""

from __future__ import annotations

import logging
import sys
import threading
import time

import pytest
from celery import current_app
from django.db import OperationalError

from reliable_tasks import errands as errands_module
from reliable_tasks import events, results
from reliable_tasks.errands import Errands, rely_on, tell
from reliable_tasks.ids import new_id
from tests.app import once_tasks
from tests.schedules.making import HOUR, T0, Clock, beat, crontab, fired, run, schedule

WAIT = 10.0


@pytest.fixture
def stuck():
    """Give the test an errand that does not end before the test does, and says when it began."""
    began, end = threading.Event(), threading.Event()

    def errand():
        began.set()
        end.wait(WAIT)

    errand.began, errand.end = began, end
    yield errand
    end.set()


def in_a_hurry(errands, act):
    """Do something in a thread that relies on errands; return whether that came to its end."""

    def run():
        rely_on(errands)
        act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT / 2)
    return not thread.is_alive()


def by_itself(errand):
    errand()


def test_whoever_may_wait_tells_by_itself():
    """A thread that relies on nobody has told when it goes on."""
    told = []
    tell(lambda: told.append(threading.get_ident()))
    assert told == [threading.get_ident()]


def test_errands_are_done_in_their_order_elsewhere():
    """What is left to another thread is done there, first come first."""
    errands, told = Errands(by_itself), []

    def act():
        for number in range(100):
            tell(lambda number=number: told.append((number, threading.current_thread().name)))

    assert in_a_hurry(errands, act)
    assert errands.flush(WAIT)
    assert told == [(number, "reliable-tasks-errands") for number in range(100)]


def test_a_receiver_that_hangs_holds_up_nobody_in_a_hurry(stuck):
    """An event is out of the way of a thread that keeps leases, whatever its receivers do."""
    errands = Errands(by_itself)

    def receiver(**_):
        stuck()

    events.entry_expired.connect(receiver)
    try:
        assert in_a_hurry(errands, lambda: events.emit(events.Expired(entry=new_id(), task="t")))
        assert stuck.began.wait(WAIT)
        assert not errands.flush(0.0)
    finally:
        events.entry_expired.disconnect(receiver)


def test_one_that_fails_does_not_stop_the_next():
    """Whatever an errand raises is logged, and what waits behind it is done."""
    errands, told = Errands(by_itself), []
    errands.leave(lambda: 1 // 0)
    errands.leave(lambda: told.append("next"))
    assert errands.flush(WAIT)
    assert told == ["next"]


def test_what_waits_is_bounded(stuck, monkeypatch, caplog):
    """Behind one that hangs no more waits than a limit, and that is said once."""
    monkeypatch.setattr(errands_module, "_MOST", 3)
    errands, told = Errands(by_itself), []
    errands.leave(stuck)
    assert stuck.began.wait(WAIT)
    with caplog.at_level(logging.ERROR, "reliable_tasks.worker"):
        for number in range(6):
            errands.leave(lambda number=number: told.append(number))
    assert len(errands._waiting) == 3
    assert len(caplog.records) == 1


def test_an_errand_that_ends_its_thread_stops_no_other():
    """A receiver that calls sys.exit() keeps nobody from being told after it."""
    errands, told = Errands(by_itself), []
    errands.leave(lambda: sys.exit(3))
    errands.leave(lambda: told.append("next"))
    assert errands.flush(WAIT)
    assert told == ["next"]


@pytest.mark.django_db(transaction=True)
def test_a_beat_waits_for_no_result_backend(flush_broker, stuck, monkeypatch):
    """A beat that ends an expired holder of a key goes on; another thread tells the backend."""
    told = []
    backend = type(once_tasks.square.backend)  # each thread has one of its own

    def mark(_, entry, *args, **kwargs):
        stuck()
        told.append(entry)

    monkeypatch.setattr(backend, "mark_as_revoked", mark)
    expired = once_tasks.square.apply_async((3,), expires=0.01)
    clock, task = Clock(), schedule(crontab("0"), task=once_tasks.square.name, args="[3]")
    one = beat(clock)
    time.sleep(0.1)
    began = time.monotonic()
    run(clock, T0 + HOUR, HOUR, one)
    assert time.monotonic() - began < WAIT / 2
    assert fired(task) == [T0 + HOUR]
    assert stuck.began.wait(WAIT)
    assert told == []
    stuck.end.set()
    one.stop()
    assert told == [expired.id]


@pytest.mark.django_db
def test_who_tells_of_a_cancel_survives_a_broken_database(monkeypatch, caplog):
    """An attempt whose end is written goes on when what Celery needs to know cannot be read."""

    def break_down(_):
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(results, "_kept", break_down)
    app = current_app._get_current_object()
    results.store_cancels(app, {new_id(): "tests.app.tasks.add"}, "because")
    assert "is not told of 1 ends" in caplog.text
