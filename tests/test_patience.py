"""When a sweeper believes that a lease has ended."""

from __future__ import annotations

import pytest
from django.db import connection

from reliable_tasks import patience
from reliable_tasks.conf import current
from reliable_tasks.patience import Patience
from tests import entries

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch):
    """Give the test the monotonic clock of the sweeper's process."""
    here = [1000.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: here[0])
    return here


@pytest.fixture
def ended_lease():
    """Make an entry whose lease has ended by the database's clock."""
    return entries.claim(entries.enqueue(now=None), now=None, lease=-1.0)


def test_after_an_outage_everybody_may_renew_first(clock, ended_lease):
    """A sweeper that was cut off takes nothing over for one lease's time."""
    waiting = Patience()
    waiting.start_over()
    clock[0] += current().LEASE_SECONDS - 0.1
    assert not waiting.is_over()
    clock[0] += 0.2
    waiting.is_over()  # where one writer shuts out the others, doubts begin here
    clock[0] += current().HEARTBEAT_SECONDS
    assert waiting.is_over()


def test_where_rows_are_locked_an_ended_lease_is_believed_at_once(clock, ended_lease):
    """Only where one writer shuts out all others does a sweeper wait for a heartbeat's time."""
    waiting = Patience()
    locks = connection.features.has_select_for_update_skip_locked
    assert waiting.is_over() == locks
    assert waiting.left() == (None if locks else current().HEARTBEAT_SECONDS)
    clock[0] += current().HEARTBEAT_SECONDS
    assert waiting.is_over()


def test_a_lease_that_was_renewed_meanwhile_ends_the_doubt(clock, ended_lease):
    """After a renewal the next ended lease is doubted afresh."""
    if connection.features.has_select_for_update_skip_locked:
        pytest.skip("here nothing is doubted")
    waiting = Patience()
    assert not waiting.is_over()
    entries.ledger.renew([ended_lease.entry], entries.WORKER, lease=60.0)
    clock[0] += current().HEARTBEAT_SECONDS
    assert not waiting.is_over()
    assert waiting.left() is None
