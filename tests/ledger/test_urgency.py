"""What is due goes by its urgency: a long backlog keeps nothing else waiting."""

from __future__ import annotations

import pytest

from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.entries import LEASE, enqueue, later, running, state

pytestmark = pytest.mark.django_db

LATE = 3600.0


def test_a_lost_attempt_does_not_wait_behind_a_backlog():
    """A lease that ends after hundreds of looks were due is rescued by the very next sweep."""
    held = running(now=later(LATE - LEASE))
    entries.enqueue_alike(30, now=later(0))
    swept = entries.sweep(now=later(LATE), limit=10)
    assert [taken.id for taken in swept.rescued] == [held.entry]


def test_what_must_be_published_goes_before_mere_looks():
    """A countdown that has come is published before entries that only wait their turn."""
    entries.enqueue_alike(30, now=later(0))
    due = enqueue(now=later(LATE - 10), delay=9.0)
    swept = entries.sweep(now=later(LATE), limit=10)
    assert [wakeup.entry for wakeup in swept.wakeups] == [str(due)]
    assert swept.put_off == 9


def test_a_backlog_is_looked_at_in_the_end():
    """Sweep after sweep every entry is looked at, and none twice."""
    entries.enqueue_alike(25, now=later(0))
    looks = [entries.sweep(now=later(LATE), limit=10).put_off for _ in range(4)]
    assert looks == [10, 10, 5, 0]
    assert set(Entry.objects.values_list("state", flat=True)) == {State.PENDING}


def test_looks_are_many_where_nothing_is_urgent():
    """A pass that only looks takes more entries than one that publishes; it publishes no more."""
    entries.enqueue_alike(25, now=later(0))
    assert entries.sweep(now=later(LATE), limit=4, looks=20).put_off == 20
    due = enqueue(now=later(LATE - 10), delay=9.0)
    urgent = entries.sweep(now=later(LATE), limit=4, looks=20)
    assert ([wakeup.entry for wakeup in urgent.wakeups], urgent.put_off) == ([str(due)], 3)


def test_a_pass_publishes_no_more_than_its_limit():
    """Where looks find that messages must be sent, the rest of them stays due."""
    entries.enqueue_alike(25, now=later(0))
    sent = [
        len(entries.sweep(now=later(LATE), limit=10, looks=100, counted=False).wakeups)
        for _ in range(4)
    ]
    assert sent == [10, 10, 5, 0]


def test_while_the_broker_is_down_only_endings_are_carried_out():
    """Without a broker a lost attempt is rescued and an expired entry ends; the rest is left."""
    held = running(now=later(LATE - LEASE))
    expiring = enqueue(now=later(0), expires_in=5.0)
    waiting = enqueue(now=later(0), delay=5.0)
    swept = entries.sweep(now=later(LATE), publishing=False)
    assert [taken.id for taken in swept.rescued] == [held.entry]
    assert state(expiring) is State.CANCELLED
    assert state(waiting) is State.PENDING
    assert not swept.wakeups
