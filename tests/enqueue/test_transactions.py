"""An entry is part of the caller's transaction, and published after its commit."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from django.db import transaction

from reliable_tasks import (
    events,
    ledger,
    publish,
)
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests.app.models import Item
from tests.app.tasks import add
from tests.enqueue.calls import (
    entry_of,
    rolled_back,
    transactions,
)


@transactions
def test_without_a_transaction_the_entry_is_there_at_once(broker):
    """In autocommit the entry is committed and its message sent when delay() returns."""
    result = add.delay(1, 2)
    assert entry_of(result).state == State.PENDING
    assert broker.ids() == {result.id}


@transactions
def test_the_message_is_sent_after_the_commit(broker):
    """Nothing is on the broker while the transaction is open; the message is there after it."""
    with transaction.atomic():
        Item.objects.create(name="order")
        result = add.delay(1, 2)
        assert not broker.raw()
    assert broker.ids() == {result.id}
    assert entry_of(result).args == [1, 2]


@transactions
def test_a_rollback_leaves_no_ghost(broker):
    """An entry whose transaction rolls back never existed, and no message wakes it."""
    with rolled_back():
        Item.objects.create(name="order")
        add.delay(1, 2)
        add.enqueue_many([(1, 2), (3, 4)])
    assert not Entry.objects.exists()
    assert not broker.raw()


@transactions
def test_a_rolled_back_savepoint_takes_its_entries_along(broker):
    """What is enqueued in a savepoint that rolls back is gone; the rest commits and is sent."""
    with transaction.atomic():
        before = add.delay(1, 1)
        with rolled_back():
            add.delay(2, 2)
            add.enqueue_many([(3, 3)])
        after = add.delay(4, 4)
    assert set(Entry.objects.values_list("pk", flat=True)) == {UUID(before.id), UUID(after.id)}
    assert broker.ids() == {before.id, after.id}


@transactions
def test_a_nested_block_waits_for_the_outermost_commit(broker):
    """The end of an inner block sends nothing; the outermost commit sends everything."""
    with transaction.atomic():
        with transaction.atomic():
            inner = add.delay(1, 2)
        assert not broker.raw()
    assert broker.ids() == {inner.id}


@transactions
def test_the_outermost_rollback_wins(broker):
    """What an inner block had finished is gone when the outer one rolls back."""
    with rolled_back(), transaction.atomic():
        add.delay(1, 2)
    assert not Entry.objects.exists()
    assert not broker.raw()


def test_an_entry_is_invisible_until_the_commit(second_connection, unsent):
    """No other connection sees an entry before its transaction commits."""
    with transaction.atomic():
        result = add.delay(1, 2)
        assert not second_connection.run(ledger.exists, UUID(result.id))
    assert second_connection.run(ledger.exists, UUID(result.id))


@transactions
@pytest.mark.parametrize("call", [add.delay, add.delay_on_commit])
def test_on_commit_variants_are_the_same(broker, call):
    """Code written for Celery's delay_on_commit() goes on working, and knows the id at once."""
    with transaction.atomic():
        result = call(1, 2)
        assert entry_of(result).args == [1, 2]
    assert broker.ids() == {result.id}


@transactions
def test_a_publish_that_fails_does_not_reach_the_caller(monkeypatch):
    """An error while publishing is not the caller's: the entry is committed and will be swept."""

    class Broken:
        def submit(self, wakeups):
            raise RuntimeError("publisher")

    monkeypatch.setattr("reliable_tasks.task.publisher", lambda app: Broken())
    result = add.delay(1, 2)
    many = add.enqueue_many([(3, 4)])
    assert set(Entry.objects.values_list("pk", flat=True)) == {UUID(result.id), *many.ids}


@transactions
def test_the_background_thread_sends_as_well(broker, settings):
    """By default another thread sends the message, and flush() waits until it has."""
    settings.RELIABLE_TASKS = {}
    result = add.delay(1, 2)
    assert publish.flush(10.0)
    assert broker.ids() == {result.id}


@transactions
def test_an_enqueue_in_a_broken_transaction_is_an_error(unsent):
    """In a transaction that is to be rolled back, enqueueing raises instead of being lost."""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            add.delay(1, 2)
    assert not Entry.objects.exists()
    assert not unsent


@transactions
def test_an_enqueue_is_told_once(unsent):
    """Each new entry is told with task and queue; a repeated one is not."""
    told = []

    def note(event, **kwargs):
        told.append((event.entry, event.task, event.queue))

    events.entry_enqueued.connect(note)
    try:
        wanted = uuid4()
        for _ in range(2):
            add.apply_async((1, 2), task_id=wanted, queue="slow")
        (other,) = add.enqueue_many([(1, 2)]).ids
    finally:
        events.entry_enqueued.disconnect(note)
    assert told == [(wanted, add.name, "slow"), (other, add.name, "celery")]
