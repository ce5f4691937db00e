"""Prepared statements: used where they are safe, done without where they are not."""

from __future__ import annotations

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.ledger.prepared import Statement
from reliable_tasks.states import State
from tests import entries, services
from tests.entries import GRACE, WORKER, new

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh():
    """Begin with a connection that has nothing prepared."""
    connection.close()
    Statement.given_up = False
    yield
    Statement.given_up = False


def live_one_life() -> str:
    """Enqueue, claim and succeed by the database's clock; return the SQL that it took."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        entry = new()
        assert ledger.enqueue(entry, grace=GRACE)
        held = ledger.claim(entry.id, WORKER, lease=60.0)
        assert held is not None
        ledger.succeed(held)
    assert entries.state(entry.id) is State.SUCCEEDED
    return "\n".join(query["sql"] for query in captured)


def only_on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("other databases keep their own cache of statements")
    if services.pooled():
        pytest.skip("which connection of the server a statement comes to is the pooler's choice")


def test_each_statement_is_prepared_once_for_a_connection():
    """From the second entry on, nothing but the prepared statements is sent."""
    only_on_postgresql()
    assert live_one_life().count("PREPARE") == 3
    again = live_one_life()
    assert again.count("EXECUTE") == 3
    assert "PREPARE" not in again
    assert "UPDATE" not in again


def test_a_new_connection_prepares_anew():
    """What another server process had prepared is not taken for granted."""
    only_on_postgresql()
    live_one_life()
    connection.close()
    assert live_one_life().count("PREPARE") == 3


def test_a_pooler_that_forgets_costs_nothing_but_the_gain():
    """When the server does not know a prepared statement, it is sent in full from then on."""
    only_on_postgresql()
    live_one_life()
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    live_one_life()
    assert Statement.given_up
    assert "EXECUTE" not in live_one_life()


def test_a_pooler_that_hands_out_a_used_connection_costs_nothing_either():
    """A statement that another client has prepared under the same name is no error."""
    only_on_postgresql()
    live_one_life()
    delattr(connections["default"], "_reliable_tasks_prepared")
    live_one_life()
    assert Statement.given_up


def test_nothing_is_prepared_inside_a_transaction():
    """Where a failure would spoil the caller's transaction, the statement is sent in full."""
    with transaction.atomic():
        sql = live_one_life()
    assert "EXECUTE" not in sql
    assert "PREPARE" not in sql


def test_a_real_error_is_not_hidden():
    """Only a lost prepared statement is tried again: what the database refuses stays refused."""
    only_on_postgresql()
    with pytest.raises(Exception, match=r"(?i)crash_budget|not.null"):
        ledger.enqueue(new(crash_budget=None), grace=GRACE)
    assert not Statement.given_up


@pytest.mark.skipif(not services.pooled(), reason="needs a pooler: make pgbouncer")
def test_a_real_pooler_changes_nothing_but_the_speed(second_connection):
    """While two processes share a pooler's connections, every entry lives its life, unprepared."""
    for _ in range(20):
        live_one_life()
        second_connection.run(live_one_life)
    assert Statement.given_up
