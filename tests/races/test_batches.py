"""Many schedules that are settled in one transaction, of which one cannot be: two connections."""

from __future__ import annotations

import pytest
from django.db import connection

from reliable_tasks import ledger
from reliable_tasks.ledger import occurrences, schedules
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules.adopting import adopt
from reliable_tasks.schedules.reading import read_one
from reliable_tasks.schedules.settling import settle
from tests.celery_app import app
from tests.schedules.making import MINUTE, T0, crontab, entries, fired, schedule, state

pytestmark = pytest.mark.django_db(transaction=True)

DUE = T0 + MINUTE


@pytest.fixture
def five(flush_broker):
    """Give the test five schedules of every minute that a beat has seen, and what settles some."""
    tasks = [schedule(crontab("*"), saved_at=T0) for _ in range(5)]
    known = [each for each, _ in adopt(app, [read_one(task.pk) for task in tasks], T0)]

    def settling(*which):
        chosen = [known[n] for n in which] or known
        return settle(app, chosen, DUE)

    return tasks, settling


def each_once(tasks):
    """Check that each schedule has fired its due time once, with one entry, and knows it."""
    assert [fired(task) for task in tasks] == [[DUE]] * len(tasks)
    assert [len(entries(task)) for task in tasks] == [1] * len(tasks)
    assert {state(task).handled_until for task in tasks} == {DUE}
    ids = Occurrence.objects.values_list("entry_id", flat=True)
    assert set(ids) == set(Entry.objects.values_list("pk", flat=True))


def test_another_beat_fires_one_of_a_batch(race, five):
    """A batch in which another beat has one at the same time waits, and fires the others."""
    tasks, settling = five
    first, second = race.overlap(lambda: settling(2), settling)
    assert (first.fired, second.fired) == (1, 4)
    each_once(tasks)


def test_the_batch_comes_first(race, five):
    """A beat that comes to one schedule while a batch has it finds it accounted for."""
    tasks, settling = five
    first, second = race.overlap(settling, lambda: settling(3))
    assert (first.fired, second.fired) == (5, 0)
    each_once(tasks)


def test_two_batches_overlap(race, five):
    """Two batches that share schedules fire each due time once."""
    tasks, settling = five
    race.together(lambda: settling(4, 3, 2), lambda: settling(0, 1, 2), lambda: settling(2, 3))
    settling()
    each_once(tasks)


def test_a_due_time_in_the_middle_has_an_occurrence(race, five):
    """One row that is there already makes the batch go one by one; nothing fires twice."""
    tasks, settling = five

    def record():
        # As somebody who backfills a due time that no beat has come to yet.
        row = Occurrence(schedule=tasks[2], due_at=DUE, outcome="fired", handled_at=DUE)
        occurrences.record([row])

    race.elsewhere(record)
    settled = settling()
    assert (settled.fired, settled.errors) == (4, {})
    assert [len(entries(task)) for task in tasks] == [1, 1, 0, 1, 1]
    assert [fired(task) for task in tasks] == [[DUE]] * 5
    assert {state(task).handled_until for task in tasks} == {DUE}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="one writer at a time needs no row lock")
def test_without_the_lock_one_has_moved(race, five, monkeypatch):
    """Where a lock does not hold, the guards find the one that another beat fired in between."""
    tasks, settling = five
    lock, left = schedules.lock, [lambda: race.elsewhere(lambda: settling(2))]

    def no_lock(chosen):
        found = schedules.progress(list(chosen))
        if left:
            left.pop()()
        return found

    monkeypatch.setattr(schedules, "lock", no_lock)
    settled = settling()
    monkeypatch.setattr(schedules, "lock", lock)
    assert settled.fired == 4
    each_once(tasks)


def test_a_statement_that_fails_for_whatever_reason(five, monkeypatch):
    """If the entries of a batch cannot be written together, each is written by itself."""
    tasks, settling = five

    def fail(*_, **__):
        raise ValueError("The driver takes no such text.")

    monkeypatch.setattr(ledger, "enqueue_many", fail)
    assert settling().fired == 5
    each_once(tasks)


def test_a_batch_costs_as_many_statements_as_one(five, django_assert_max_num_queries):
    """Five schedules are settled with no more statements than one needs on this database."""
    tasks, settling = five
    one_by_one = 4 if connection.vendor != "postgresql" else 0  # an UPDATE for each, see advance
    with django_assert_max_num_queries(8 + one_by_one):
        settling()
    each_once(tasks)
