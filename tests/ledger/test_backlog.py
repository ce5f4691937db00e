"""Whether there is a message for every entry that waits, and which entries lack theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import ledger
from reliable_tasks.ledger.backlog import FUTILE
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.entries import GRACE, T0, enqueue, later, row

pytestmark = pytest.mark.django_db


def missing(messages, *, queue="celery", seconds=GRACE, at_most=100):
    return ledger.missing_on(queue, messages, grace=GRACE, at_most=at_most, now=later(seconds))


def test_every_waiting_entry_needs_a_message():
    """A queue lacks as many messages as more published entries wait than messages exist.

    More messages than entries, as where plain tasks share the queue, count below zero.
    """
    for _ in range(5):
        enqueue()
    enqueue(queue="other")
    assert [missing(held) for held in (0, 3, 5, 9)] == [5, 2, 0, -4]
    assert missing(0, queue="other") == 1
    assert missing(0, queue="no such queue") == 0


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
def test_only_published_entries_that_wait_need_one(state):
    """An entry that runs, has ended, or that nobody has published yet needs no message."""
    entries.in_state(state)
    enqueue(delay=1.0)
    assert missing(0) == 0


def test_an_entry_that_is_due_later_needs_none_yet():
    """A retry that was published at once and fails again is not missed before it is due."""
    held = entries.running()
    entries.reschedule(held, due_at=later(3600))
    assert missing(0) == 0


def test_a_young_entry_may_still_be_on_its_way():
    """An entry younger than the grace is never called missing, but takes a message's place."""
    enqueue(now=T0)
    for n in (1, 2, 3):
        enqueue(now=later(GRACE - n / 10))
    assert missing(0, seconds=GRACE) == 1
    assert missing(3, seconds=GRACE) == 1
    assert missing(4, seconds=GRACE) == 0


def test_counting_is_bounded():
    """A long backlog is counted no further than needed."""
    for _ in range(7):
        enqueue()
    assert missing(0, at_most=3) == 3
    assert missing(5, at_most=3) == 2


@given(
    old=st.integers(0, 6), young=st.integers(0, 6), held=st.integers(0, 14), cap=st.integers(1, 9)
)
def test_what_is_missing_is_never_overstated(db, old, young, held, cap):
    """No more is called missing than waits without a message, than is old enough, than asked."""
    Entry.objects.all().delete()
    entries.enqueue_alike(old, now=T0)
    entries.enqueue_alike(young, now=later(GRACE))
    surplus = old + young - held
    found = missing(held, seconds=GRACE, at_most=cap)
    assert found == (min(surplus, old, cap) if surplus > 0 else surplus)


def test_queues_with_old_entries_are_looked_at():
    """Each queue on which a published entry has waited for longer than the grace is named once."""
    for queue in ("a", "a", "b"):
        enqueue(queue=queue)
    enqueue(queue="young", now=later(1))
    enqueue(queue="never published", delay=0.5)
    entries.running(queue="running")
    assert sorted(ledger.waiting_queues(grace=GRACE, now=later(GRACE))) == ["a", "b"]


def test_the_oldest_are_published_again():
    """As many as are missing of the oldest entries are published by the next sweep."""
    waiting = [enqueue(now=later(n / 10)) for n in range(6)]
    enqueue(queue="other")
    pulled = ledger.pull_forward("celery", count=4, grace=GRACE, now=later(GRACE + 1))
    swept = entries.sweep(now=later(GRACE + 1))
    assert pulled == 4
    assert {wakeup.entry for wakeup in swept.wakeups} == {str(each) for each in waiting[:4]}
    assert row(waiting[0]).publishes == 2


def test_what_was_published_in_vain_is_left_out():
    """An entry that was published a few times and never claimed has another problem."""
    entry_id = enqueue()
    for n in range(1, FUTILE):
        at = GRACE + n
        assert missing(0, seconds=at) == 1
        ledger.pull_forward("celery", count=1, grace=GRACE, now=later(at))
        entries.sweep(now=later(at))
    assert row(entry_id).publishes == FUTILE
    assert missing(0, seconds=2 * GRACE) == 0
    assert ledger.pull_forward("celery", count=1, grace=GRACE, now=later(2 * GRACE)) == 0


def test_the_young_are_left_alone():
    """Entries younger than the grace are not published again, however many are missing."""
    young = enqueue(now=later(1))
    before = entries.snapshot(young)
    assert ledger.pull_forward("celery", count=5, grace=GRACE, now=later(GRACE)) == 0
    assert entries.snapshot(young) == before


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
def test_nothing_else_is_pulled(state):
    """Neither a lease nor an unpublished retry nor an end is touched by a lost message."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.pull_forward("celery", count=5, grace=0.0, now=later(1)) == 0
    assert entries.snapshot(entry_id) == before
