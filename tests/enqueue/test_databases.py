"""Transactions on another database than the ledger's, and a ledger elsewhere."""

from __future__ import annotations

import warnings

import pytest
from django.db import transaction

from reliable_tasks import (
    TransactionMismatch,
)
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests.app.models import Item
from tests.app.tasks import add
from tests.enqueue.calls import (
    deliver,
    entry_of,
    rolled_back,
    two_databases,
)


@two_databases
@pytest.mark.parametrize(
    "enqueue", [lambda: add.delay(1, 2), lambda: add.enqueue_many([(1, 2)])], ids=["one", "many"]
)
def test_a_transaction_on_another_database_only_is_refused(unsent, enqueue):
    """An entry that another database's rollback would not take along is not enqueued silently."""
    with transaction.atomic(using="other"):
        Item.objects.using("other").create(name="order")
        with pytest.raises(TransactionMismatch, match=r"'other'.*ledger lives on 'default'"):
            enqueue()
    assert not Entry.objects.exists()
    assert not unsent


@two_databases
def test_the_other_database_may_be_used_beside_the_ledgers(broker):
    """With a transaction on the ledger's database too, the entry belongs to that one."""
    with transaction.atomic(using="other"), rolled_back():
        add.delay(1, 2)
    assert not Entry.objects.exists()
    with rolled_back(using="other"), transaction.atomic():
        result = add.delay(3, 4)
    assert broker.ids() == {result.id}


@two_databases
def test_outside_a_transaction_the_other_database_does_not_matter(unsent):
    """A connection to another database, without a transaction, is no reason to refuse."""
    Item.objects.using("other").count()
    assert entry_of(add.delay(1, 2)).args == [1, 2]


@two_databases
@pytest.mark.parametrize(("mode", "warned"), [("warn", 1), ("allow", 0)])
def test_the_weaker_promise_can_be_chosen(settings, unsent, mode, warned):
    """A project that accepts it gets the entry at once, with a warning or without."""
    settings.RELIABLE_TASKS = {"OTHER_TRANSACTION": mode}
    with warnings.catch_warnings(record=True) as caught, rolled_back(using="other"):
        warnings.simplefilter("always")
        result = add.delay(1, 2)
    assert entry_of(result).state == State.PENDING
    assert len(caught) == warned
    for warning in caught:
        assert issubclass(warning.category, RuntimeWarning)
        assert warning.filename == __file__


@two_databases
def test_a_ledger_on_another_database_follows_that_ones_transactions(settings, broker):
    """Where routers put the ledger elsewhere, that database's commit and rollback decide."""
    settings.DATABASE_ROUTERS = ["tests.routers.LedgerElsewhere"]
    with rolled_back(using="other"):
        add.delay(1, 2)
    assert not Entry.objects.exists()
    with transaction.atomic(using="other"):
        result = add.delay(3, 4)
        assert not broker.raw()
    assert broker.ids() == {result.id}
    assert Entry.objects.using("other").get().args == [3, 4]
    assert not Entry.objects.using("default").exists()
    with transaction.atomic(), pytest.raises(TransactionMismatch, match="ledger lives on 'other'"):
        add.delay(5, 6)


@two_databases
def test_a_ledger_on_another_database_runs_entries(settings, unsent):
    """An entry on another database than the default one is claimed, run and finished there."""
    settings.DATABASE_ROUTERS = ["tests.routers.LedgerElsewhere"]
    result = add.delay(3, 4)
    deliver(add, result.id)
    assert Entry.objects.using("other").get().state == State.SUCCEEDED
