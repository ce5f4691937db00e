"""The ledger's queries use its indexes, however many entries have ended.

Read from the statements that the functions really send, on both databases.
RELIABLE_TASKS_TEST_ROWS=1000000 fills the ledger with a million entries instead of some thousands,
and prints how long each function took.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from reliable_tasks import bounded, figures, ledger, overview
from reliable_tasks.admin import window
from reliable_tasks.admin.timeline import relatives_of
from reliable_tasks.models import Attempt, Entry, WorkerProcess
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.models import Item
from tests.entries import LEASE, WORKER
from tests.harness import ROOT

FEW = 20_000
ROWS = int(os.environ.get("RELIABLE_TASKS_TEST_ROWS", FEW))
LIVE = DEAD = ROWS // 40
#: So many live entries are due for the sweeper.
DUE = 60
ENTRIES, ATTEMPTS, WORKERS = (model._meta.db_table for model in (Entry, Attempt, WorkerProcess))
# Reads a whole table, whatever it finds in it.
FULL_SCAN = {
    "postgresql": r"Seq Scan on {table}\b",
    "sqlite": r"SCAN {table}$|SCAN {table} USING (?!INDEX reliable)",
}
PRIMARY_KEY = r"reliable_tasks_entry_pkey|sqlite_autoindex_reliable_tasks_entry_1"
ATTEMPT_NUMBER = r"reliable_attempt_number|sqlite_autoindex_reliable_tasks_attempt_1"
# What Django calls the index of WorkerProcess.beat_at ends with a digest of its own.
BEAT_AT = r"reliable_tasks_workerprocess_beat_at_\w+"

pytestmark = pytest.mark.timeout(60 + ROWS / 2000)


# -- a ledger that has grown ----------------------------------------------------------------------
@pytest.fixture(scope="module")
def timings(request):
    """Collect how long each function took, and show it where there are many rows."""
    found: dict[str, tuple[int, float]] = {}
    yield found
    if ROWS > FEW and found:
        show = request.config.pluginmanager.getplugin("terminalreporter").write_line
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            show(f"\n| on {ROWS:,} entries, {connection.vendor} | statements | ms |\n|---|---|---|")
            for name, (statements, seconds) in found.items():
                show(f"| `{name}` | {statements} | {1000 * seconds:.1f} |")


@pytest.fixture(scope="module")
def grown(django_db_setup, django_db_blocker):
    """Fill the ledger, for all tests of this module, as months of work do: nearly all has ended."""
    with django_db_blocker.unblock():
        with transaction.atomic():
            _fill()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
        yield
        with transaction.atomic():
            for model in (Attempt, Entry, WorkerProcess):
                model.objects.all()._raw_delete("default")
        connection.run_on_commit.clear()


def _fill():
    sqlite = connection.vendor == "sqlite"

    def at(seconds):
        if sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%f', 'now', ({seconds}) || ' seconds')"
        return f"now() + ({seconds}) * interval '1 second'"

    numbers = (
        f"WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n < {ROWS - 1}) "
    )
    live = f"n < {LIVE}"
    wake = at(f"CASE WHEN n < {DUE} THEN n - {DUE} ELSE 3600 + n END")
    columns = {
        "id": "printf('%032x', n)" if sqlite else "lpad(to_hex(n), 32, '0')::uuid",
        "task": "'app.t' || (n % 20)",
        "queue": "'q' || (n % 4)",
        "worker": f"'{WORKER}'",
        **dict.fromkeys(("args", "kwargs"), "'[]'"),
        "attempt": "2",
        "publishes": "1",
        **dict.fromkeys(("retries", "crashes"), "0"),
        "crash_budget": "3",
        "subject_type": "CASE n % 50 WHEN 7 THEN 'testapp.item' END",
        "subject_id": "CASE n % 50 WHEN 7 THEN CAST(n / 500 AS VARCHAR(9)) END",
        **dict.fromkeys(("schedule", "error_class", "error_message", "reason"), "''"),
        "fingerprint": f"CASE WHEN {live} THEN '' ELSE 'f' || (n % 9) END",
        "state": f"CASE WHEN n < {LIVE} THEN CASE n % 3 WHEN 0 THEN 'pending' WHEN 1 THEN "
        f"'retrying' ELSE 'running' END WHEN n < {LIVE + DEAD} THEN 'dead' ELSE 'succeeded' END",
        **dict.fromkeys(("enqueued_at", "due_at", "started_at"), at("-60 * n")),
        "wake_at": f"CASE WHEN {live} THEN {wake} END",
        "finished_at": f"CASE WHEN NOT ({live}) THEN {at('-60 * n')} END",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {ENTRIES} ({', '.join(columns)}) {numbers}"
            f"SELECT {', '.join(columns.values())} FROM numbers"
        )
        cursor.execute(
            f"INSERT INTO {ATTEMPTS} (entry_id, number, outcome, error_class, error_message, "
            "traceback, fingerprint, worker, ended_at) SELECT id, 1, "
            f"'{Outcome.FAILED}', '', '', '', '', '', {at('0')} FROM {ENTRIES}"
        )
    at_last = overview.now()
    WorkerProcess.objects.bulk_create(
        WorkerProcess(
            identity=f"w{n}",
            hostname="h",
            pid=n,
            pool="prefork",
            started_at=at_last,
            beat_at=at_last - timedelta(minutes=n),
        )
        for n in range(2000)
    )


@pytest.fixture
def plans(grown, db, timings):
    """Give the test a function that returns the plans of all statements that a function sends."""

    def explained(act, name=""):
        with CaptureQueriesContext(connection) as captured:
            began = time.perf_counter()
            act()
            seconds = time.perf_counter() - began
        sent = [
            query
            for query in captured.captured_queries
            if any(table in query["sql"] for table in (ENTRIES, ATTEMPTS, WORKERS))
        ]
        if name:
            timings[name] = (len(sent), seconds)
        return [_explain(query["sql"]) for query in sent]

    return explained


def _explain(sql):
    how = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{how} {sql}".replace("%", "%%"), [])
        return "\n".join(str(line[-1]) for line in cursor.fetchall())


def scans(plan):
    """Tell whether a plan reads the whole table of entries or attempts."""
    pattern = FULL_SCAN[connection.vendor]
    return any(
        re.search(pattern.format(table=table), plan, re.MULTILINE) for table in (ENTRIES, ATTEMPTS)
    )


def some_ids(state, count=5):
    return list(Entry.objects.filter(state=state).values_list("pk", flat=True)[:count])


# -- the queries ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Query:
    """A function of the ledger, and the index that its first statement reads.

    Attributes:
        act: calls it, with some entries in a state if it names one.
        index: pattern of the index.
        state: the state of the entries that it is called with.
        leading: how many of its statements read the index.
    """

    act: Callable[..., object]
    index: str
    state: State | None = None
    leading: int = 1


def sweep(**changes):
    return ledger.sweep_due(**{"limit": 500, "recheck": 60.0, "longest": 600.0, **changes})


def waiting(name):
    return lambda: getattr(Entry.objects.all(), name)().count()


def newest(state):
    return lambda: list(
        Entry.objects.filter(state=state, finished_at__isnull=False).order_by("-finished_at")[:50]
    )


def steps():
    return bounded.steps(overview.now(), timedelta(minutes=5), 12)


def items(count):
    return [Item(pk=n) for n in range(1, count + 1)]


QUERIES = {
    # The three kinds of what is due, one statement for each.
    "sweep_due": Query(sweep, "reliable_wake", leading=3),
    "sweep_due, broker down": Query(lambda: sweep(publishing=False), "reliable_wake", leading=2),
    "seconds_until_wake": Query(ledger.seconds_until_wake, "reliable_wake"),
    "has_ended_leases": Query(ledger.has_ended_leases, "reliable_wake"),
    "release_left": Query(lambda: ledger.release_left("nobody"), "reliable_wake"),
    "waiting_queues": Query(lambda: ledger.waiting_queues(grace=5.0), "reliable_wake"),
    "missing_on": Query(
        lambda: ledger.missing_on("q1", 3, grace=5.0, at_most=500), "reliable_wake", leading=2
    ),
    "pull_forward": Query(lambda: ledger.pull_forward("q1", count=50, grace=5.0), "reliable_wake"),
    "overview.live_queues": Query(overview.live_queues, "reliable_wake"),
    "overview.count_running": Query(overview.count_running, "reliable_wake"),
    "overview.queues": Query(lambda: overview.queues(timedelta(hours=1)), "reliable_wake"),
    "overview.waiting_by_task": Query(overview.waiting_by_task, "reliable_wake"),
    "Entry.objects.waiting": Query(waiting("waiting"), "reliable_wake"),
    "Entry.objects.running": Query(waiting("running"), "reliable_wake"),
    "Entry.objects.active": Query(waiting("active"), "reliable_wake"),
    "prune": Query(
        lambda: ledger.prune(State.SUCCEEDED, timedelta(hours=9), batch=50), "reliable_ended"
    ),
    "prune of the dead": Query(
        lambda: ledger.prune(State.DEAD, timedelta(hours=9), batch=50), "reliable_ended"
    ),
    "the newest dead": Query(newest(State.DEAD), "reliable_ended"),
    "the newest succeeded": Query(newest(State.SUCCEEDED), "reliable_ended"),
    "overview.dead_groups": Query(lambda: overview.dead_groups(10), "reliable_(ended|dead)"),
    "relatives_of": Query(lambda: relatives_of(Entry(), most=50), "reliable_parent"),
    "dead of one fingerprint": Query(
        lambda: list(
            overview.entries().dead().filter(fingerprint="3").order_by("-finished_at")[:50]
        ),
        "reliable_dead",
    ),
    "Entry.objects.dead": Query(waiting("dead"), "reliable_ended|reliable_dead"),
    "claim": Query(
        lambda ids: ledger.claim(ids[0], WORKER, lease=LEASE), PRIMARY_KEY, State.PENDING
    ),
    "succeed": Query(
        lambda ids: ledger.succeed(entries.claim(ids[0], now=None)), PRIMARY_KEY, State.PENDING
    ),
    "bury": Query(
        lambda ids: entries.bury(entries.claim(ids[0], now=None)), PRIMARY_KEY, State.PENDING
    ),
    "renew": Query(lambda ids: ledger.renew(ids, WORKER, lease=LEASE), PRIMARY_KEY, State.RUNNING),
    "asked_to_stop": Query(
        lambda ids: ledger.asked_to_stop(ids, WORKER), PRIMARY_KEY, State.RUNNING
    ),
    "rescue_lost": Query(lambda ids: ledger.rescue_lost(ids, WORKER), PRIMARY_KEY, State.RUNNING),
    "cancel": Query(ledger.cancel, PRIMARY_KEY, State.PENDING),
    "requeue": Query(ledger.requeue, PRIMARY_KEY, State.DEAD),
    "take_back": Query(lambda ids: ledger.take_back(ids, retry_in=5.0), PRIMARY_KEY, State.PENDING),
    "what an entry enqueued": Query(
        lambda ids: list(overview.entries().filter(parent_id=ids[0])[:50]),
        "reliable_parent",
        State.SUCCEEDED,
    ),
    "the attempts of an entry": Query(
        lambda ids: list(Attempt.objects.filter(entry_id=ids[0])),
        ATTEMPT_NUMBER,
        State.DEAD,
    ),
    "for_object": Query(
        lambda: list(Entry.objects.for_object(Item(pk=7))[:20]), "reliable_subject"
    ),
    "for_objects": Query(lambda: list(Entry.objects.for_objects(items(30))), "reliable_subject"),
    "figures.ended": Query(lambda: figures.ended(State.SUCCEEDED, steps()), "reliable_ended"),
    "figures.attempts": Query(lambda: figures.attempts(steps()), "reliable_attempt_ended"),
    "figures.timings": Query(lambda: figures.timings(steps()), "reliable_ended"),
    "figures.dying": Query(lambda: figures.dying(steps()[0].begin, 10), "reliable_ended"),
    "figures.live_queues": Query(figures.live_queues, "reliable_wake"),
    "overview.running_now": Query(lambda: overview.running_now().count(), "reliable_wake"),
    "overview.soonest": Query(
        lambda: overview.soonest().aggregate(count=Count("pk")), "reliable_wake"
    ),
    "fetched": Query(lambda: ledger.fetched(10.0), BEAT_AT),
    "first_alive": Query(lambda: ledger.first_alive(10.0), BEAT_AT),
    "forget_silent": Query(lambda: ledger.forget_silent(timedelta(days=1)), BEAT_AT),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reads_its_index(plans, name):
    """Each function finds its rows by the index that is there for it, and reads no whole table."""
    query = QUERIES[name]
    given = [] if query.state is None else [some_ids(query.state)]
    found = plans(lambda: query.act(*given), name)
    assert len(found) >= query.leading
    for plan in found[: query.leading]:
        assert re.search(query.index, plan), plan
    assert not [plan for plan in found if scans(plan)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({"subject_type": "testapp.item", "subject_id": "7"}, "reliable_subject"),
        ({"subject_type": "item", "subject_id": "7", "state": "dead"}, "reliable_subject"),
        ({"q": "item:7", "queue": "q1"}, "reliable_subject"),
        ({"until": "2031-01-01", "queue": "q1"}, PRIMARY_KEY),
        ({"since": "1971-01-01", "until": "2031-01-01", "error": "x"}, PRIMARY_KEY),
        ({"until": "2031-01-01", "state": "dead"}, f"{PRIMARY_KEY}|reliable_ended"),
        ({"since": "2021-01-01", "state": "dead"}, "reliable_ended"),
        ({"until": "2031-01-01", "state": "running"}, "reliable_wake"),
    ],
    ids=str,
)
def test_a_list_by_time_or_subject_reads_an_index(plans, admin_client, monkeypatch, query, index):
    """What the list of entries is narrowed down to by a range of time or by a row is indexed."""
    monkeypatch.setattr(window, "WINDOW", 500)
    monkeypatch.setattr(window, "ENDED_WINDOW", 500)
    address = "/admin/reliable_tasks/entry/"
    found = plans(lambda: admin_client.get(address, query), f"list, {query}")
    assert not [plan for plan in found if scans(plan)]
    assert any(re.search(index, plan) for plan in found)


def test_a_full_scan_is_recognised(plans):
    """A query that no index serves is seen as a full scan by these tests."""
    (plan,) = plans(lambda: list(Entry.objects.filter(error_class="x")))
    assert scans(plan)


def test_the_sweeper_finds_what_is_due_and_no_more(plans):
    """A sweep of the grown ledger takes exactly what is due."""
    swept = sweep()
    assert len(swept.rescued) == DUE // 3
    assert swept.touched == DUE


# -- the indexes ----------------------------------------------------------------------------------
def indexes():
    """Return the indexes that the models declare, by name, with the words that declare them."""
    declared = {index.name: f'name="{index.name}"' for index in Entry._meta.indexes}
    for model in (Attempt, WorkerProcess):
        declared |= {index.name: f'name="{index.name}"' for index in model._meta.indexes}
    for constraint in (*Entry._meta.constraints, *Attempt._meta.constraints):
        declared[constraint.name] = f'name="{constraint.name}"'
    declared[BEAT_AT] = 'beat_at = models.DateTimeField(_("last beat"), db_index=True)'
    return declared


@pytest.mark.parametrize("name", sorted(indexes()))
def test_every_index_serves_a_query(name):
    """Each index is there for a query whose plan these tests read, and says in words for which."""
    assert any(name in query.index for query in QUERIES.values())
    lines = (ROOT / "reliable_tasks" / "models.py").read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines) if indexes()[name] in line)
    while not re.match(r"\s+(models\.\w+\(|\w+ = )", lines[number]):  # where its declaration begins
        number -= 1
    assert lines[number - 1].lstrip().startswith("# "), "its comment stands right above it"


def test_no_column_has_an_index_by_accident():
    """Only what the tests above know of is indexed: an index costs every write."""
    by_field = {
        f"{model.__name__}.{field.name}"
        for model in (Entry, Attempt, WorkerProcess)
        for field in model._meta.concrete_fields
        if field.db_index and not field.primary_key
    }
    assert by_field == {"WorkerProcess.beat_at"}


@pytest.mark.django_db
def test_an_attempt_is_in_no_index_twice():
    """Recording an attempt writes no index that begins another one of the table."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, ATTEMPTS)
    columns = [each["columns"] for each in found.values() if each["index"] or each["unique"]]
    assert ["entry_id", "number"] in columns
    assert ["entry_id"] not in columns
