"""What the keeper believes of its worker's processes, and what it remembers of Celery's words."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace
from uuid import UUID

import pytest
from celery.worker import state as worker_state
from django.db import OperationalError

from reliable_tasks import ledger
from reliable_tasks.errors import LedgerNotReady
from reliable_tasks.ids import new_id
from reliable_tasks.models import Entry, Key
from reliable_tasks.states import State
from reliable_tasks.worker import children, inbox
from reliable_tasks.worker import keeper as keeper_module
from reliable_tasks.worker.children import Children
from reliable_tasks.worker.keeper import Keeper
from tests import entries
from tests.app.once_tasks import fail_once
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until


class Pool:
    """Stands where Celery's prefork pool does."""

    __module__ = "celery.concurrency.prefork"

    def __init__(self, *processes):
        self._pool = SimpleNamespace(_pool=list(processes))


def worker_of(*processes):
    return SimpleNamespace(app=app, hostname="celery@here", pool=Pool(*processes))


@pytest.fixture
def child():
    """Give the test a process that ends when it is told to."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_killed_child_is_seen_dead_before_anyone_collects_it(child):
    """The keeper sees that a child has died without waiting for Celery to notice."""
    looking = Children(worker_of(child))
    assert looking.living() == {child.pid}
    child.kill()
    wait_until(lambda: looking.living() == set(), 10)
    assert child.wait() == -9  # its exit status was left for whoever collects it


def test_since_when_a_process_is_dead_is_remembered():
    """The first time that a process was seen dead stays, however late Celery tells of it."""
    looking = Children(worker_of())
    first = looking.dead_since(41)
    assert looking.dead_since(41, noticed=first + 5.0) == first
    assert looking.dead_since(42, noticed=first + 5.0) == first + 5.0
    assert looking.dead_since(None, noticed=first + 6.0) == first + 6.0


def test_a_number_that_was_given_again_is_a_new_process(child):
    """A living child with the number of a dead one is not taken for dead since then."""
    looking = Children(worker_of(child))
    long_ago = looking.dead_since(child.pid, noticed=time.monotonic() - 60.0)
    looking.living()
    assert looking.dead_since(child.pid) > long_ago + 59.0


def test_what_is_remembered_of_the_dead_is_bounded():
    """However many children die, the keeper remembers the latest thousand."""
    looking = Children(worker_of())
    for pid in range(3 * children._REMEMBERED):
        looking.dead_since(pid)
    assert len(looking._dead_since) == children._REMEMBERED


@pytest.mark.django_db
def test_a_late_note_leaves_the_next_attempt_alone():
    """A child's entry that runs in another child by now is not taken over by Celery's late note."""
    keeper = Keeper(worker_of())
    dead = 41
    held = entries.running(now=None, worker=keeper._identity)
    found_dead = keeper._children.dead_since(dead)
    keeper._serve(inbox.Lost(held.entry, dead, time.monotonic()))
    assert entries.state(held) is State.RETRYING
    wait_until(lambda: time.monotonic() > found_dead + 0.1, 5)
    again = entries.claim(held.entry, now=None, worker=keeper._identity)
    keeper._serve(inbox.Lost(held.entry, dead, time.monotonic()))
    assert (entries.state(held), again.token) == (State.RUNNING, 2)


@pytest.fixture
def keeper(monkeypatch):
    """Give the test a keeper that does not wait for a child that was told to end."""
    monkeypatch.setattr(keeper_module, "_CHILD_REPORTS_WITHIN", 0.0)
    return Keeper(worker_of())


def exceed(keeper, held, *, ago=0.0):
    """Let the keeper serve the note of a hard limit that was noticed so many seconds ago."""
    keeper._serve_all([inbox.TimedOut(held.entry, 7.0, time.monotonic() - ago)])


@pytest.mark.django_db(transaction=True)
def test_a_time_limit_ends_the_attempt_that_it_was_noticed_for(keeper):
    """A hard limit ends the attempt that ran then, and not the one that has begun since."""
    held = entries.running(now=None, worker=keeper._identity)
    exceed(keeper, held, ago=30.0)
    assert entries.state(held) is State.RUNNING
    exceed(keeper, held)
    assert entries.state(held) is State.RETRYING
    assert entries.row(held).error_message == "The hard time limit of 7 s was exceeded."


@pytest.mark.django_db(transaction=True)
def test_a_time_limit_that_ends_an_entry_frees_its_key(keeper):
    """An entry that dies of a hard limit which its child could not report holds its key no more."""
    result = fail_once.delay(1, "")
    held = entries.claim(UUID(result.id), now=None, worker=keeper._identity)
    assert Key.objects.filter(entry_id=held.entry).exists()
    exceed(keeper, held)
    assert entries.state(held) is State.DEAD
    assert not Key.objects.filter(entry_id=held.entry).exists()


@pytest.mark.django_db(transaction=True)
def test_what_the_ledger_did_not_take_is_served_again(keeper, monkeypatch):
    """A hard limit that could not be written down is written down after the next heartbeat."""
    held = entries.running(now=None, worker=keeper._identity)
    refusals = [OperationalError("the server closed the connection"), LedgerNotReady("no table")]
    bury_or_reschedule = ledger.reschedule

    def refuse(*args, **kwargs):
        if refusals:
            raise refusals.pop()
        bury_or_reschedule(*args, **kwargs)

    monkeypatch.setattr(ledger, "reschedule", refuse)
    keeper._worker.concurrency = 1
    exceed(keeper, held)
    assert entries.state(held) is State.RUNNING
    keeper._beat_and_make_up()
    assert entries.state(held) is State.RUNNING
    keeper._beat_and_make_up()
    assert entries.state(held) is State.RETRYING
    assert keeper._unserved == []


class Request:
    """Stands where Celery's request of a task that runs does."""

    def __init__(self, held, pid):
        self.task, self.id, self.worker_pid = add, str(held.entry), pid
        self.request_dict, self.delivery_info = {}, {}


@pytest.mark.django_db
def test_a_heartbeat_renews_what_living_children_run(child, monkeypatch):
    """The lease of what a living child runs is renewed; what a dead one ran is taken over."""
    keeper = Keeper(worker_of(child))
    keeper._worker.concurrency = 1
    alive, dead = (entries.running(now=None, worker=keeper._identity) for _ in range(2))
    requests = {Request(alive, child.pid), Request(dead, 41)}
    monkeypatch.setattr(worker_state, "active_requests", requests)
    before = entries.row(alive).wake_at
    keeper._beat()
    assert entries.row(alive).wake_at > before
    assert entries.state(alive) is State.RUNNING
    assert entries.state(dead) is State.RETRYING


@pytest.mark.django_db
def test_what_celery_forgets_the_keeper_forgets():
    """Ids that Celery was told to revoke and that are no entries are not kept for ever."""
    keeper = Keeper(worker_of())
    strangers = {str(new_id()) for _ in range(5)}
    try:
        worker_state.revoked.update(strangers)
        keeper._obey_revokes()
        assert keeper._not_entries == strangers
        assert not Entry.objects.exists()
        for stranger in strangers:
            worker_state.revoked.discard(stranger)
        keeper._obey_revokes()
        assert keeper._not_entries == set()
    finally:
        worker_state.revoked.clear()
