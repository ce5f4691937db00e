"""How many messages a queue ought to have, and which entries are looked at first."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.states import State
from tests import entries
from tests.entries import GRACE, T0, enqueue, later, row

pytestmark = pytest.mark.django_db


def test_only_due_entries_that_wait_are_counted():
    """An entry that runs, has ended or is due later needs no message in the broker."""
    for state in State:
        entries.in_state(state)
    enqueue(delay=60.0)
    enqueue(queue="other")
    assert ledger.waiting_on("celery", at_most=100, now=later(1)) == 2
    assert ledger.waiting_on("other", at_most=100, now=later(1)) == 1
    assert ledger.waiting_on("celery", at_most=100, now=later(61)) == 3


def test_counting_is_bounded():
    """A long backlog is counted no further than needed."""
    for _ in range(5):
        enqueue()
    assert ledger.waiting_on("celery", at_most=3, now=later(1)) == 3


def test_queues_with_due_entries_are_known():
    """Each queue on which a due entry waits is named once."""
    for queue in ("a", "a", "b"):
        enqueue(queue=queue)
    enqueue(queue="later", delay=60.0)
    entries.running(queue="running")
    assert sorted(ledger.waiting_queues(now=later(1))) == ["a", "b"]


def test_only_queues_with_something_to_look_at_are_asked_about():
    """The broker is asked only about queues with published entries whose next look has come."""
    enqueue(queue="young")
    enqueue(queue="old", now=later(-60))
    enqueue(queue="never published", delay=0.5)
    assert ledger.queues_to_look_at(now=later(1)) == ["old"]


def test_the_oldest_are_pulled_forward():
    """When messages were lost the sweeper is made to look at the oldest waiting entries now."""
    waiting = [enqueue(now=later(n / 10)) for n in range(6)]
    enqueue(queue="other")
    assert ledger.pull_forward("celery", count=4, now=later(2)) == 4
    assert [row(each).wake_at == later(2) for each in waiting] == [True] * 4 + [False] * 2


def test_what_is_looked_at_already_is_not_pulled():
    """Entries whose look has come are not counted as pulled forward."""
    enqueue()
    assert ledger.pull_forward("celery", count=5, now=later(GRACE)) == 0


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
def test_nothing_else_is_pulled(state):
    """Neither a lease nor a retry that is not due nor an end is touched by a lost message."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.pull_forward("celery", count=5, now=T0) == 0
    assert entries.snapshot(entry_id) == before
