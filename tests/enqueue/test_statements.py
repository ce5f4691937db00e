"""What a call, a claim and a finish cost in statements."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import (
    events,
)
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests.app.models import Effect, Item
from tests.app.tasks import add, write_effect
from tests.enqueue.calls import (
    deliver,
    entry_of,
    transactions,
)
from tests.statements import TRANSACTION, claiming, verbs


@transactions
@pytest.mark.parametrize("options", [{}, {"countdown": 5, "expires": 60, "headers": {"x": 1}}])
def test_enqueue_is_one_statement(unsent, options):
    """One call costs one statement and no transaction of its own, whatever its options."""
    with CaptureQueriesContext(connection) as captured:
        add.apply_async((1, 2), **options)
    assert verbs(captured) == ["INSERT"]


@transactions
def test_enqueue_adds_one_statement_to_the_callers_transaction(unsent):
    """In the caller's transaction one call adds one statement and nothing else."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        Item.objects.create(name="order")
        add.delay(1, 2)
    assert verbs(captured) == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


@transactions
def test_many_calls_cost_few_statements(unsent):
    """A thousand calls cost one transaction with one statement."""
    with CaptureQueriesContext(connection) as captured:
        add.enqueue_many([(n, n) for n in range(1_000)])
    begin, *inserts, commit = captured.captured_queries
    assert (begin["sql"].split()[0], commit["sql"].split()[0]) == ("BEGIN", "COMMIT")
    assert len(inserts) == 1
    assert Entry.objects.count() == 1_000


@transactions
def test_a_plain_task_costs_three_statements_in_all(unsent):
    """From enqueue to success: one statement to enqueue, one to claim, one to finish."""
    with CaptureQueriesContext(connection) as captured:
        result = add.delay(1, 2)
        deliver(add, result.id)
    ours = [verb for verb in verbs(captured, "reliable_tasks_entry") if verb not in TRANSACTION]
    assert ours == ["INSERT", *claiming(), "UPDATE"]
    assert entry_of(result).state == State.SUCCEEDED


@transactions
def test_an_atomic_task_adds_one_transaction(unsent):
    """An atomic task finishes with one statement inside the transaction of its body."""
    result = write_effect.delay("paid")
    with CaptureQueriesContext(connection) as captured:
        deliver(write_effect, result.id)
    found = verbs(captured, "")
    assert found[: len(claiming()) + 4] == [*claiming(), "BEGIN", "INSERT", "UPDATE", "COMMIT"]
    ours = verbs(captured, "reliable_tasks_entry")
    assert [verb for verb in ours if verb not in TRANSACTION] == [*claiming(), "UPDATE"]
    assert (Effect.objects.count(), entry_of(result).state) == (1, State.SUCCEEDED)


@transactions
def test_a_message_that_wakes_nothing_costs_two_statements(unsent):
    """A second copy of a message costs the failed claim and a look at what is there."""
    result = add.delay(1, 2)
    deliver(add, result.id)
    before = events.counts().get("Dropped:succeeded", 0)
    with CaptureQueriesContext(connection) as captured:
        deliver(add, result.id)
    assert verbs(captured, "reliable_tasks_entry") == ["UPDATE", "SELECT"]
    assert events.counts()["Dropped:succeeded"] == before + 1
