"""A broker that lost its messages is filled again, at a bounded pace, without anyone acting."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from reliable_tasks import overview
from reliable_tasks import sweeper as sweeper_module
from reliable_tasks.link import Link
from reliable_tasks.models import Entry
from reliable_tasks.sweeper import Sweeper
from reliable_tasks.sweeping import Reconciled, SweepReport, reconcile
from tests import entries
from tests.celery_app import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def link(flush_broker):
    """Look into the empty broker."""
    looking = Link(app, redeclare=True)
    yield looking
    looking.close()


@pytest.fixture
def small_batches(settings):
    """Sweep ten entries at a time, and suspect a message at once."""
    settings.RELIABLE_TASKS = {"SWEEP_BATCH": 10, "PUBLISH_GRACE": 0.0}


def lose(count: int) -> None:
    """Write entries that count as published, with no message for them anywhere."""
    entries.enqueue_alike(count, now=None, grace=60.0)


def test_each_turn_publishes_a_batch_until_all_messages_are_back(link, small_batches):
    """Lost messages come back a batch a turn, one turn after they were found missing."""
    lose(45)
    sweeper = Sweeper(app)
    depths = []
    for _ in range(7):
        sweeper._sweep_and_look_ahead()
        depths.append(link.depth("celery"))
    assert depths == [0, 10, 20, 30, 40, 45, 45]


def test_a_recovery_sends_no_copies(link, small_batches):
    """While nobody runs them, lost messages come back once each, whatever the entries' ages."""
    for _ in range(35):
        lose(1)
    sweeper = Sweeper(app)
    for _ in range(8):
        sweeper._sweep_and_look_ahead()
    assert link.depth("celery") == 35
    assert set(Entry.objects.values_list("publishes", flat=True)) == {2}


def test_a_full_batch_of_publishes_is_followed_by_a_pause(link, small_batches):
    """The pace of a recovery is one batch in SWEEP_SECONDS."""
    lose(45)
    sweeper = Sweeper(app)
    assert sweeper._sweep_and_look_ahead() == 0.0
    assert 0.5 < sweeper._sweep_and_look_ahead() <= 1.0


def test_a_backlog_with_its_messages_is_left_alone(link, small_batches):
    """Where the broker holds a message for every entry, nothing is published again."""
    lose(5)
    assert reconcile(link).pulled == 5
    Sweeper(app)._sweep_and_look_ahead()
    assert link.depth("celery") == 5
    assert reconcile(link).pulled == 0


def test_messages_of_others_are_noticed(link, small_batches):
    """More messages than entries mean that the queue is shared, and its count tells nothing."""
    lose(2)
    for number in range(5):
        app.send_task("plain.task", args=[number])
    found = reconcile(link)
    assert found.pulled == 0
    assert found.shared == {"celery"}


@pytest.fixture
def sweeper():
    """Give the test a sweeper that counts nothing yet."""
    made = Sweeper(app)
    made._next_reconcile = made._next_prune = float("inf")
    entries.enqueue_alike(1, now=overview.now() - timedelta(hours=1))
    return made


@pytest.mark.parametrize(
    ("report", "least"),
    [({"put_off": 10, "full": True}, 0.1), ({"rescued": 10, "full": True}, 0.0)],
)
def test_a_pass_that_only_looked_is_followed_by_a_rest(sweeper, monkeypatch, report, least):
    """What a long backlog costs the database is bounded; what is urgent goes on at once."""

    def slow(*args, **kwargs):
        time.sleep(0.05)
        return SweepReport(**report)

    monkeypatch.setattr(sweeper_module, "sweep", slow)
    pause = sweeper._sweep_and_look_ahead()
    assert least <= pause <= (sweeper_module._LONGEST_REST if least else 0.0)


def test_counting_takes_a_share_of_the_time_at_most(sweeper, monkeypatch, settings):
    """However short the grace, a count that takes long is seldom."""
    settings.RELIABLE_TASKS = {"PUBLISH_GRACE": 0.0}

    def slow(link):
        time.sleep(0.05)
        return Reconciled()

    monkeypatch.setattr(sweeper_module, "reconcile", slow)
    sweeper._next_reconcile = 0.0
    began = time.monotonic()
    sweeper._sweep_and_look_ahead()
    assert sweeper._next_reconcile - began >= 0.5
