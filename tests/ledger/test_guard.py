"""The guard: one clock, and a clear word where the tables are missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.errors import LedgerNotReady
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import guard
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.entries import FAILURE, GRACE, LEASE, T0, WORKER, new

pytestmark = pytest.mark.django_db

A_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?")
ENTRY = UUID(int=7)
REPORT = ledger.WorkerReport(WORKER, "celery@here", 1, "prefork", 2, ("celery",), {})


def look(sql, params):
    """Ask the database for the value of an expression."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        value = cursor.fetchone()[0]
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@pytest.mark.parametrize("seconds", [0.0, 90.0, 0.5, -90.0, 1e-7, 86_400.0 * 36_600])
def test_a_moment_is_that_far_from_the_databases_now(seconds):
    """A moment is the database's own present plus so many seconds, fractions included."""
    now = look(*guard.moment(connection))
    found = look(*guard.moment(connection, seconds))
    assert timedelta(0) <= found - now - timedelta(seconds=seconds) < timedelta(seconds=2)


@pytest.mark.parametrize("seconds", [0.0, 90.0, -0.5])
def test_a_test_can_fix_the_time(seconds):
    """With a fixed time the clock is not asked."""
    sql, params = guard.moment(connection, seconds, T0)
    assert sql == "%s"
    assert look(sql, params) == T0 + timedelta(seconds=seconds)


def test_no_time_of_this_machine_is_ever_sent():
    """Workers whose clocks disagree do no harm: each verb takes its times from the database."""
    with CaptureQueriesContext(connection) as captured:
        for _ in _all_verbs():
            pass
    assert len(captured) > 20
    sent = {datetime.fromisoformat(t) for q in captured for t in A_TIME.findall(q["sql"])}
    # A crash keeps when its attempt began: that time came from the database.
    kept = Attempt.objects.filter(outcome=Outcome.CRASHED).values_list("started_at", flat=True)
    assert sent == {began.replace(tzinfo=None) for began in kept}


def _all_verbs():
    """Run every verb once, on entries in a state where it does something."""

    def held():
        return entries.running(now=None)

    yield ledger.enqueue_many([new(), new(delay=5.0, expires_in=9.0)], grace=GRACE)
    yield entries.enqueue_alike(2, now=None)
    yield entries.enqueue_alike(2, now=None, delay=5.0, expires_in=9.0)
    yield ledger.succeed(held())
    first = held()
    yield ledger.renew([first.entry], WORKER, lease=LEASE)
    yield ledger.reschedule(first, FAILURE, Outcome.FAILED, delay=5.0, grace=GRACE)
    yield ledger.reschedule(held(), FAILURE, Outcome.FAILED, delay=0.0, grace=GRACE)
    dead = held()
    yield ledger.bury(dead, FAILURE, Outcome.FAILED, reason="x")
    yield ledger.release(held(), why="x")
    yield ledger.replace(held(), new(), grace=GRACE)
    yield ledger.cancel([entries.enqueue(now=None)])
    asked = held()
    yield ledger.cancel([asked.entry])
    yield ledger.stop(asked)
    yield ledger.requeue([dead.entry])
    yield ledger.rescue_lost([held().entry], WORKER)
    entries.running(now=None)
    entries.enqueue(now=None, expires_in=0.0)
    Entry.objects.update(wake_at="1999-01-01T00:00Z")
    connection.queries_log.pop()
    yield ledger.sweep_due(limit=100, recheck=GRACE, longest=600.0)
    yield ledger.take_back([entries.enqueue(now=None)], retry_in=5.0)
    yield ledger.pull_forward("celery", count=9, grace=0.0)
    yield [ledger.waiting_queues(grace=GRACE), ledger.seconds_until_wake()]
    yield ledger.missing_on("celery", 0, grace=GRACE, at_most=9)
    yield ledger.prune(State.SUCCEEDED, timedelta(0))
    yield [ledger.beat(REPORT), ledger.beat(REPORT, draining=True)]
    yield [ledger.fetched(5.0), ledger.first_alive(5.0), ledger.forget_silent(timedelta(days=1))]


def test_uuids_reach_the_driver_as_it_takes_them():
    """An id in a raw statement finds the row that Django wrote, and none stays none."""
    entry_id = entries.enqueue()
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM {guard.TABLE} WHERE id = %s",
            [guard.database_id(connection, entry_id)],
        )
        assert cursor.fetchone() == (1,)
    assert guard.database_id(connection, None) is None


def test_a_write_tells_how_many_rows_it_touched():
    """A write that touches nothing says so, and its caller can tell that it lost."""
    entry_id = entries.enqueue()
    sql = f"UPDATE {guard.TABLE} SET attempt = attempt WHERE id = %s"
    assert guard.write(connection, sql, [guard.database_id(connection, entry_id)]) == 1
    assert guard.write(connection, sql, [guard.database_id(connection, new_id())]) == 0


# ------------------------------------------------------------------------------ missing migrations
VERBS = {
    "enqueue": lambda held: ledger.enqueue(new(), grace=GRACE),
    "enqueue_many": lambda held: ledger.enqueue_many([new(), new()], grace=GRACE),
    "enqueue_alike": lambda held: entries.enqueue_alike(2, now=None),
    "claim": lambda held: ledger.claim(ENTRY, WORKER, lease=LEASE),
    "renew": lambda held: ledger.renew([ENTRY], WORKER, lease=LEASE),
    "succeed": ledger.succeed,
    "reschedule": entries.reschedule,
    "bury": entries.bury,
    "release": lambda held: ledger.release(held, why="x"),
    "rescue_lost": lambda held: ledger.rescue_lost([ENTRY], WORKER),
    "sweep_due": lambda held: entries.sweep(),
    "seconds_until_wake": lambda held: ledger.seconds_until_wake(),
    "cancel": lambda held: ledger.cancel([ENTRY]),
    "requeue": lambda held: ledger.requeue([ENTRY]),
    "prune": lambda held: ledger.prune(State.DEAD, timedelta(0)),
    "beat": lambda held: ledger.beat(REPORT),
}


def alter(sql):
    if not connection.features.can_rollback_ddl:
        pytest.skip("this database could not undo it")
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_table_says_what_to_do(verb):
    """Without the ledger's tables each verb names the command that makes them, and the database."""
    held = entries.running()
    alter(f"ALTER TABLE {guard.TABLE} RENAME TO elsewhere")
    alter("ALTER TABLE reliable_tasks_workerprocess RENAME TO elsewhere_too")
    with pytest.raises(LedgerNotReady, match=r"migrate reliable_tasks.*'default'") as caught:
        _in_savepoint(VERBS[verb], held)
    assert isinstance(caught.value.__cause__, DatabaseError)


@pytest.mark.parametrize("verb", ["enqueue", "enqueue_alike", "claim", "renew", "succeed"])
@pytest.mark.parametrize("column", ["wake_at", "schedule"])
def test_a_missing_column_says_what_to_do(verb, column):
    """With tables of an older release each verb that needs a new column names the command."""
    held = entries.running()
    alter(f"ALTER TABLE {guard.TABLE} RENAME COLUMN {column} TO of_another_release")
    if column == "schedule" and verb in {"renew", "succeed"}:
        _in_savepoint(VERBS[verb], held)
    else:
        with pytest.raises(LedgerNotReady, match="migrate reliable_tasks"):
            _in_savepoint(VERBS[verb], held)


def _in_savepoint(act, held):
    with transaction.atomic():
        act(held)


def test_other_errors_pass_as_they_are():
    """An error that migrations cannot mend is not disguised as one that they can."""
    with pytest.raises(DatabaseError) as caught, guard.explained():
        raise OperationalError('connection failed: FATAL: database "shop" does not exist')
    assert not isinstance(caught.value, LedgerNotReady)


def test_the_ledger_is_where_djangos_routers_say(settings):
    """The ledger's database is the one that the project's routers choose for its entries."""
    assert ledger.ledger_connection() is connections["default"]
    settings.DATABASE_ROUTERS = ["tests.routers.LedgerElsewhere"]
    assert ledger.ledger_connection() is connections["other"]
