"""What an operator does to entries, with everything that follows from it."""

import time
from datetime import timedelta

import pytest
from celery.result import AsyncResult
from django.db import transaction

from reliable_tasks import events, forgetting, ledger, operations, overview
from reliable_tasks.ids import new_id
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import ENDED, State
from tests import entries
from tests.harness import wait_until

ADD = "tests.app.tasks.add"


@pytest.fixture
def told():
    """Collect the events of cancelled and requeued entries."""
    found = []

    def note(event, **_):
        found.append(event)

    for signal in (events.entry_cancelled, events.entry_requeued):
        signal.connect(note)
    yield found
    for signal in (events.entry_cancelled, events.entry_requeued):
        signal.disconnect(note)


def test_cancel_ends_what_waits_and_asks_what_runs(transactional_db, told):
    """Waiting entries are cancelled, running ones asked, ended ones left; each is told of once."""
    pending, running, dead = (
        entries.in_state(state) for state in (State.PENDING, State.RUNNING, State.DEAD)
    )
    result = operations.cancel([pending, running, dead, pending], "not needed", by="ann")
    assert (result.cancelled, result.asked, result.skipped) == ([pending], [running], [dead])
    assert entries.state(pending) is State.CANCELLED
    assert entries.row(pending).reason == "Cancelled by ann: not needed"
    assert entries.row(running).cancel_requested_at is not None
    assert [(type(event), event.entry, event.task) for event in told] == [
        (events.Cancelled, pending, ADD)
    ]


def test_cancel_ends_the_wait_of_whoever_asked_for_the_result(transactional_db):
    """The result of a cancelled entry is Celery's REVOKED."""
    pending = entries.in_state(State.PENDING)
    operations.cancel([pending])
    assert AsyncResult(str(pending)).state == "REVOKED"


def test_requeue_puts_back_what_is_dead_or_cancelled(transactional_db, told):
    """Dead and cancelled entries are pending again with fresh budgets; others are left alone."""
    dead, cancelled, done = (
        entries.in_state(state) for state in (State.DEAD, State.CANCELLED, State.SUCCEEDED)
    )
    missing = new_id()
    result = operations.requeue([dead, cancelled, done, missing], "fixed", by="ann")
    assert result.requeued == [dead, cancelled]
    assert result.skipped == [done, missing]
    row = entries.row(dead)
    assert (row.state, row.retries, row.crashes) == (State.PENDING, 0, 0)
    assert row.reason == "Requeued by ann: fixed"
    assert [type(event) for event in told] == [events.Requeued, events.Requeued]


def test_requeue_forgets_the_stored_end(transactional_db):
    """After a requeue, whoever asks for the result waits for the new end."""
    pending = entries.in_state(State.PENDING)
    operations.cancel([pending])
    operations.requeue([pending])
    assert AsyncResult(str(pending)).state == "PENDING"


def test_requeue_forgets_the_end_of_a_foreign_id(transactional_db):
    """An adopted message's result is forgotten under the id that its sender gave it."""
    adopted = entries.enqueue(now=None, options='{"task_id": "order-7"}')
    operations.cancel([adopted])
    operations.celery_app().tasks[ADD].backend.mark_as_revoked("order-7")
    assert AsyncResult("order-7").state == "REVOKED"
    operations.requeue([adopted])
    assert AsyncResult("order-7").state == "PENDING"


def test_acts_follow_the_callers_transaction(transactional_db, told):
    """An act that is rolled back changes nothing, tells nothing and stores no result."""
    pending = entries.in_state(State.PENDING)
    with transaction.atomic():
        operations.cancel([pending])
        transaction.set_rollback(True)
    assert entries.state(pending) is State.PENDING
    assert not told
    assert AsyncResult(str(pending)).state == "PENDING"


def test_acts_go_through_any_number_in_batches(transactional_db, monkeypatch, told):
    """Each batch is a transaction of bounded size, and nobody is left out."""
    monkeypatch.setattr(operations, "batched", lambda ids: _pairs(list(ids)))
    ids = [entries.in_state(State.PENDING) for _ in range(5)]
    assert operations.cancel(ids).cancelled == ids
    assert operations.requeue(ids).requeued == ids
    assert len(told) == 10


def _pairs(ids):
    return [ids[n : n + 2] for n in range(0, len(ids), 2)]


def test_batches_hold_each_id_once():
    """Ids are cut into bounded lists and repeated ones are dropped."""
    ids = [new_id() for _ in range(5)]
    assert list(operations.batched([*ids, ids[0]], 2)) == [ids[:2], ids[2:4], ids[4:]]


def test_requeue_at_a_later_time(db):
    """An entry that is requeued for later is not due before."""
    dead = entries.in_state(State.DEAD)
    due = overview.now() + timedelta(minutes=5)
    operations.requeue([dead], due_at=due)
    assert abs(entries.row(dead).due_at - due) < timedelta(milliseconds=2)
    assert ledger.claim(dead, entries.WORKER, lease=10) is None


def test_renamed_task_takes_waiting_entries_along(db):
    """With another task's name, waiting entries move too, and keep the time they are due."""
    later = overview.now() + timedelta(hours=1)
    waiting = entries.enqueue(now=None, task="old.name")
    timed = entries.enqueue(now=None, task="old.name", due_at=later)
    dead = entries.in_state(State.DEAD)
    result = operations.requeue([waiting, timed, dead], task=ADD)
    assert set(result.requeued) == {waiting, timed, dead}
    rows = {row.pk: row for row in Entry.objects.all()}
    assert {row.task for row in rows.values()} == {ADD}
    assert {row.state for row in rows.values()} == {State.PENDING}
    assert abs(rows[timed].due_at - later) < timedelta(milliseconds=2)
    assert rows[waiting].due_at <= overview.now()


def test_renamed_task_leaves_running_and_stopping_entries(db):
    """What runs, succeeded or is being cancelled keeps its task."""
    kept = [entries.in_state(State.RUNNING), entries.in_state(State.SUCCEEDED)]
    asked = entries.in_state(State.RETRYING)
    Entry.objects.filter(pk=asked).update(cancel_requested_at=entries.T0)
    before = [entries.snapshot(pk) for pk in (*kept, asked)]
    assert operations.requeue([*kept, asked], task="tests.app.tasks.boom").requeued == []
    assert [entries.snapshot(pk) for pk in (*kept, asked)] == before


@pytest.mark.parametrize("state", sorted(ENDED))
def test_prune_deletes_old_ended_entries(db, settings, state):
    """Prune deletes ended entries of one state and age, with their attempts, batch by batch."""
    settings.RELIABLE_TASKS = {"PRUNE_BATCH": 2}
    now = overview.now()
    old = [entries.in_state(state, now=now - timedelta(days=2)) for _ in range(3)]
    young = entries.in_state(state, now=now)
    other = entries.in_state(
        State.DEAD if state is not State.DEAD else State.SUCCEEDED, now=now - timedelta(days=2)
    )
    assert list(operations.prune(state, timedelta(days=1))) == [2, 1]
    assert set(Entry.objects.values_list("pk", flat=True)) == {young, other}
    assert not Attempt.objects.filter(entry_id__in=old).exists()


def test_a_broken_result_backend_does_not_undo_an_act(transactional_db, monkeypatch, caplog):
    """The ledger has the truth: an act succeeds when the result backend is down."""
    backend = operations.celery_app().tasks[ADD].backend

    def refuse(*_, **__):
        raise ConnectionError("no backend")

    monkeypatch.setattr(type(backend), "TaskModel", property(refuse))
    dead = entries.in_state(State.DEAD)
    assert operations.requeue([dead]).requeued == [dead]
    assert "no backend" in caplog.text


@pytest.mark.parametrize(
    ("act", "state", "call"),
    [
        (operations.requeue, State.DEAD, "forget"),
        (operations.cancel, State.PENDING, "mark_as_revoked"),
    ],
)
def test_a_slow_result_backend_is_waited_for_once(
    transactional_db, monkeypatch, caplog, act, state, call
):
    """An act on many entries does not wait for a result backend once for each of them."""
    backend, asked = operations.celery_app().tasks[ADD].backend, []

    def dawdle(*_, **__):
        asked.append(call)
        time.sleep(0.05)

    monkeypatch.setattr(type(backend), call, dawdle)
    monkeypatch.setattr(forgetting, "_PATIENCE", 0.01)
    monkeypatch.setattr(forgetting, "_is", lambda *_: False)  # one that forgets one at a time
    chosen = [entries.in_state(state) for _ in range(4)]
    act(chosen)
    assert asked == [call]
    assert "not told of 3 more entries" in caplog.text
    assert not Entry.objects.filter(state=state).exists()


def test_requeued_under_a_new_name_it_runs(worker, transactional_db):
    """A waiting entry of a renamed task succeeds in a real worker after its requeue."""
    lost = entries.enqueue(now=None, task="old.name", args="[2, 3]")
    worker(pool="solo", concurrency=1)
    operations.requeue([lost], task=ADD)
    wait_until(lambda: entries.state(lost) is State.SUCCEEDED)
    assert AsyncResult(str(lost)).get(timeout=5) == 5
