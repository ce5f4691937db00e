"""Two connections that settle, fire and pause one schedule at the same time."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from reliable_tasks.ledger import beats, occurrences, schedules
from reliable_tasks.ledger.schedules import LostRace
from reliable_tasks.models import BeatLease, Entry, Occurrence
from reliable_tasks.schedules import operations
from reliable_tasks.schedules.adopting import adopt
from reliable_tasks.schedules.reading import read_one
from reliable_tasks.schedules.settling import settle
from tests.celery_app import app
from tests.schedules.making import MINUTE, T0, crontab, fired, schedule, state

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def adopted(flush_broker):
    """Give the test a schedule of every minute that a beat has seen, and what settles it."""
    task = schedule(crontab("*"), saved_at=T0)
    ((known, _),) = adopt(app, [read_one(task.pk)], T0)

    def settling():
        return settle(app, [known], T0 + MINUTE)

    return task, settling


def test_two_beats_settle_one_due_time(race, adopted):
    """The second beat waits for the first and finds the due time accounted for."""
    task, settling = adopted
    first, second = race.overlap(settling, settling)
    assert (first.fired, second.fired) == (1, 0)
    assert fired(task) == [T0 + MINUTE]
    assert Entry.objects.filter(schedule=task.name).count() == 1


def test_a_beat_that_rolls_back_leaves_it_to_the_other(race, adopted):
    """If the first beat's transaction fails, the second one fires."""
    task, settling = adopted
    _, second = race.overlap(settling, settling, commit=False)
    assert second.fired == 1
    assert fired(task) == [T0 + MINUTE]


def test_many_beats_at_once(race, adopted):
    """Of four beats at the same instant one fires."""
    task, settling = adopted
    answers = race.together(*[settling] * 4)
    assert sum(each.fired for each in answers) == 1
    assert fired(task) == [T0 + MINUTE]
    assert Entry.objects.filter(schedule=task.name).count() == 1


def test_without_the_lock_the_guards_hold(adopted):
    """Where no lock is, the guarded progress and the unique occurrence refuse the second."""
    task, settling = adopted
    settling()
    with pytest.raises(LostRace):
        schedules.advance([schedules.Advance(task.pk, T0, T0 + MINUTE, 1, None)])
    twin = Occurrence.objects.get(schedule=task)
    twin.pk = None
    with pytest.raises(IntegrityError):
        occurrences.record([twin])


def test_disabling_while_a_beat_settles(race, adopted):
    """A schedule is disabled before or after it fires, never half."""
    task, settling = adopted

    def disable():
        return PeriodicTask.objects.filter(pk=task.pk).update(enabled=False)

    _, settled = race.overlap(disable, settling, waits=True)
    assert settled.fired == 0
    assert (fired(task), Entry.objects.count()) == ([], 0)
    assert state(task).handled_until == T0


def test_one_of_many_beats_leads(race):
    """Of four beats that ask at the same instant one leads, also the very first time."""
    BeatLease.objects.all().delete()
    answers = race.together(*[lambda n=n: beats.lead(f"beat {n}", 30) for n in range(4)])
    assert sum(each.mine for each in answers) == 1
    assert {each.holder for each in answers if each.mine} == {BeatLease.objects.get().holder}


def test_what_is_pruned_is_marked(second_connection, flush_broker):
    """Whatever old occurrences somebody holds locked, no other is pruned without a mark of it."""
    tasks = [schedule(crontab("*"), saved_at=T0) for _ in range(3)]
    schedules.begin([(task.pk, {}, T0, 0) for task in tasks])
    rows = [
        Occurrence(schedule=task, due_at=T0, outcome="fired", handled_at=T0 + n * MINUTE)
        for n, task in enumerate(tasks)
    ]
    occurrences.record(rows)

    def prune():
        return occurrences.prune(30 * MINUTE, batch=2, now=T0 + 60 * MINUTE)

    if connection.features.has_select_for_update_skip_locked:
        with second_connection.atomic():
            held = Occurrence.objects.filter(schedule=tasks[0]).select_for_update()
            second_connection.run(lambda: list(held))
            prune()
    prune()
    gone = [task for task in tasks if not Occurrence.objects.filter(schedule=task).exists()]
    assert len(gone) >= 2
    assert [state(task).pruned_until for task in gone] == [T0] * len(gone)


def test_two_people_backfill_one_range(race, flush_broker):
    """Two backfills of one range fire each due time once."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    task = schedule(crontab("*/10"), saved_at=now)
    operations.standing(task)
    schedules.begin([(task.pk, {}, now, 0)])

    def backfill():
        return operations.backfill(task, now - 60 * MINUTE, now)

    first, second = race.overlap(backfill, backfill)
    assert (len(first.fired), len(second.fired), len(second.already)) == (7, 0, 7)
    assert Entry.objects.filter(schedule=task.name).count() == 7


def test_two_beats_take_one_owed_message(race, flush_broker):
    """Of two beats that find the same message owed one sends it."""
    task = schedule(crontab("*"), saved_at=T0, task="no.such")
    row = operations.run_now(task)
    Occurrence.objects.filter(pk=row.pk).update(send_at=T0)
    row.refresh_from_db()
    first, second = race.overlap(
        lambda: occurrences.take(row, 10), lambda: occurrences.take(row, 10)
    )
    assert (first, second) == (True, False)
