"""Many schedules that are settled in one transaction, of which one cannot be: two connections."""

from __future__ import annotations

import pytest
from django.db import Error, connection, connections
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from reliable_tasks import ledger
from reliable_tasks.ledger import guard, occurrences, schedules
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules import settling as settling_module
from reliable_tasks.schedules.adopting import adopt
from reliable_tasks.schedules.reading import read_one
from reliable_tasks.schedules.settling import settle
from tests.celery_app import app
from tests.harness import wait_until
from tests.schedules.making import MINUTE, T0, crontab, entries, fired, schedule, state

pytestmark = pytest.mark.django_db(transaction=True)

DUE = T0 + MINUTE


# MariaDB waits as long as its server is told to.
held = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="elsewhere rows are not held like that"
)


@pytest.fixture
def hasty(monkeypatch):
    """Let nobody wait for a locked row for long, nor stand still in a transaction."""
    quick = guard._HURRY.replace("'2s'", "'100ms'").replace("'10s'", "'400ms'")
    monkeypatch.setattr(guard, "_HURRY", quick)


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


@held
def test_a_row_that_somebody_holds(second_connection, five, hasty):
    """A schedule whose own row an open transaction has changed waits alone; the others fire."""
    tasks, settling = five
    with second_connection.atomic():
        rows = PeriodicTask.objects.filter(pk=tasks[2].pk)
        second_connection.run(rows.update, description="an edit that takes its time")
        settled = settling()
        assert (settled.fired, list(settled.errors)) == (4, [tasks[2].pk])
    assert settling().fired == 1
    each_once(tasks)


@held
def test_a_save_that_somebody_holds(second_connection, flush_broker, hasty):
    """An unfinished save of any schedule does not hold up one that fires its last run."""
    task = schedule(crontab("*"), saved_at=T0, one_off=True)
    ((known, _),) = adopt(app, [read_one(task.pk)], T0)
    with second_connection.atomic():
        second_connection.run(PeriodicTasks.update_changed)
        assert settle(app, [known], DUE).finished == {task.pk}
    task.refresh_from_db()
    assert (fired(task), task.enabled) == ([DUE], False)


@held
def test_a_new_schedule_that_somebody_holds(second_connection, flush_broker, hasty):
    """A new schedule that is locked is taken in at a later look, the others at once."""
    tasks = [schedule(crontab("*"), saved_at=T0) for _ in range(3)]
    found = [read_one(task.pk) for task in tasks]
    with second_connection.atomic():
        second_connection.run(PeriodicTask.objects.select_for_update().get, pk=tasks[1].pk)
        assert [each.id for each, _ in adopt(app, found, T0)] == [tasks[0].pk, tasks[2].pk]
    assert [each.id for each, _ in adopt(app, found, T0)] == [task.pk for task in tasks]


@held
def test_a_beat_that_freezes(second_connection, five, hasty):
    """The transaction of a beat that stands still is ended, and another one fires instead."""
    tasks, settling = five
    frozen = ledger.short_transaction()
    second_connection.run(frozen.__enter__)
    second_connection.run(schedules.lock, [task.pk for task in tasks])
    wait_until(lambda: settling().errors == {})
    with pytest.raises(Error):
        second_connection.run(frozen.__exit__, None, None, None)
    second_connection.run(connections.close_all)
    each_once(tasks)


def test_deciding_takes_its_time(five, monkeypatch):
    """What could not be decided on in good time is left to the next transaction."""
    tasks, settling = five
    monkeypatch.setattr(settling_module, "_DECIDING", -1.0)
    settled = settling()
    assert (settled.fired, settled.more) == (0, {task.pk for task in tasks})
    monkeypatch.undo()
    settling()
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
