"""Background threads and forks keep out of each other's way, and nobody waits for long."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import OperationalError, connection

from reliable_tasks import ledger, turns
from reliable_tasks.turns import Turns
from tests import entries, services
from tests.harness import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        services.database_vendor() != "sqlite", reason="PostgreSQL's drivers bear forks"
    ),
]


@pytest.fixture
def turn():
    """Give the test a function that takes a turn in a thread of its own, and waits for its end."""
    threads = []

    def take(act):
        done = []
        taking = Turns()
        thread = threading.Thread(target=lambda: done.append(taking.take(act)))
        threads.append((thread, taking))
        thread.start()
        return done

    yield take
    for thread, taking in threads:
        thread.join(30)
        turns._locks[:] = [each for each in turns._locks if each[0] is not taking._lock]
        assert not thread.is_alive()


class Fork:
    """What Python runs around a fork, in the parent."""

    def __enter__(self):
        turns._hold()

    def __exit__(self, *_):
        turns._let_go()


def test_a_fork_waits_for_no_writer(turn, second_connection):
    """A turn that waits for another writer makes way for a fork, and is done after it."""
    held = entries.running(now=None)
    tries = []

    def renew():
        tries.append(connection.connection)
        return ledger.renew([held.entry], held.worker, lease=60.0)

    with second_connection.atomic():
        second_connection.run(ledger.renew, [held.entry], held.worker, lease=30.0)
        done = turn(renew)
        wait_until(lambda: tries)
        began = time.monotonic()
        with Fork():
            assert time.monotonic() - began < 5  # a statement may wait for twenty seconds
            assert len(tries) == 1
        assert not done
    wait_until(lambda: done == [1])
    assert len(tries) > 1


def test_a_turn_whose_refusal_was_swallowed_is_done_again(turn, second_connection):
    """Somebody's code that goes on after a refused statement has not done what it was to do."""
    held = entries.running(now=None)
    tries = []

    def renew():
        tries.append(1)
        try:
            return ledger.renew([held.entry], held.worker, lease=60.0)
        except OperationalError:
            return None

    with second_connection.atomic():
        second_connection.run(ledger.renew, [held.entry], held.worker, lease=30.0)
        done = turn(renew)
        wait_until(lambda: tries)
        with Fork():
            assert len(tries) == 1
    wait_until(lambda: done == [1])


def test_a_turn_waits_for_a_writer_as_long_as_the_database_would(turn, second_connection):
    """Without a fork a turn outwaits another writer, though it looks up meanwhile."""
    held = entries.running(now=None)
    tries = []

    def renew():
        tries.append(1)
        return ledger.renew([held.entry], held.worker, lease=60.0)

    with second_connection.atomic():
        second_connection.run(ledger.renew, [held.entry], held.worker, lease=30.0)
        done = turn(renew)
        time.sleep(1.0)  # longer than it waits at a stretch
        assert not done
    wait_until(lambda: done == [1])
    assert tries == [1]


def test_a_fork_waits_for_a_turn_that_works(turn):
    """As long as a turn has its connection open and is not held up, a fork waits."""
    go_on = threading.Event()
    inside = threading.Event()

    def work():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        inside.set()
        return go_on.wait(20)

    done = turn(work)
    assert inside.wait(20)
    forked = []

    def fork():
        with Fork():
            forked.append(list(done))

    forking = threading.Thread(target=fork)
    forking.start()
    wait_until(lambda: turns._forking)
    go_on.set()
    forking.join(20)
    assert forked == [[True]]


def test_a_fork_does_not_wait_for_a_turn_that_hangs():
    """A turn that may wait for something else than the database is given up after its patience."""
    began, end = threading.Event(), threading.Event()

    def hang():
        began.set()
        end.wait(30)

    patient = Turns(patience=0.2)
    thread = threading.Thread(target=lambda: patient._lock.acquire() and hang(), daemon=True)
    thread.start()
    began.wait(10)
    try:
        since = time.monotonic()
        with Fork():
            assert time.monotonic() - since < 5
            assert patient._lock not in [lock for lock, _ in turns._held.locks]
        with Fork():  # what was not held is not let go of either
            pass
    finally:
        end.set()
        thread.join(10)
        turns._locks[:] = [each for each in turns._locks if each[0] is not patient._lock]
