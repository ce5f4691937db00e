"""The ledger's queries use its indexes, however many entries have ended.

Read from the statements that the functions really send, on both databases.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from reliable_tasks import bounded, figures, ledger, overview
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from tests.app.models import Item
from tests.entries import LEASE, WORKER

ENDED, DEAD, LIVE = 19_000, 500, 500
# Reads a whole table, whatever it finds in it.
FULL_SCAN = {
    "postgresql": r"Seq Scan on {table}\b",
    "sqlite": r"SCAN {table}$|SCAN {table} USING (?!INDEX reliable)",
}
ENTRIES, ATTEMPTS = Entry._meta.db_table, Attempt._meta.db_table


@pytest.fixture(scope="module")
def grown(django_db_setup, django_db_blocker):
    """Fill the ledger, for all tests of this module, as months of work do: nearly all has ended."""
    with django_db_blocker.unblock():
        with transaction.atomic():
            _fill()
        yield
        with transaction.atomic():
            Attempt.objects.all()._raw_delete("default")
            Entry.objects.all()._raw_delete("default")
        connection.run_on_commit.clear()


def _fill():
    now = overview.now()
    live = (State.PENDING, State.RETRYING, State.RUNNING)

    def rows():
        for n in range(ENDED + DEAD + LIVE):
            age = timedelta(seconds=60 * n)
            given = {"task": f"app.t{n % 20}", "queue": f"q{n % 4}", "enqueued_at": now - age}
            if n < LIVE:
                wake = now + timedelta(seconds=n - LIVE / 10)
                yield Entry(state=live[n % 3], wake_at=wake, publishes=1, worker=WORKER, **given)
            else:
                state = State.DEAD if n < LIVE + DEAD else State.SUCCEEDED
                yield Entry(state=state, finished_at=now - age, fingerprint=f"{n % 9}", **given)

    made = Entry.objects.bulk_create(rows(), batch_size=1_000)
    Attempt.objects.bulk_create(
        (Attempt(entry=each, number=1, outcome=Outcome.FAILED) for each in made[: LIVE + DEAD]),
        batch_size=1_000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.fixture
def plans(grown, db):
    """Give the test a function that returns the plans of all statements that a function sends."""

    def explained(act):
        with CaptureQueriesContext(connection) as captured:
            act()
        texts = [query["sql"] for query in captured.captured_queries]
        return [_explain(text) for text in texts if ENTRIES in text or ATTEMPTS in text]

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


def test_a_full_scan_is_recognised(plans):
    """A query that no index serves is seen as a full scan by these tests."""
    (plan,) = plans(lambda: list(Entry.objects.filter(error_class="x")))
    assert scans(plan)


def test_the_sweeper_finds_what_is_due_by_its_index(plans):
    """A sweep reads what is due from the index of timers, never the whole table."""
    found = plans(lambda: ledger.sweep_due(limit=500, recheck=60.0, longest=600.0))
    assert "reliable_wake" in found[0]
    assert not [plan for plan in found if scans(plan)]


def test_while_the_broker_is_down_the_sweeper_uses_its_index(plans):
    """A sweep that cannot publish reads the same index."""
    found = plans(
        lambda: ledger.sweep_due(limit=500, recheck=60.0, longest=600.0, publishing=False)
    )
    assert "reliable_wake" in found[0]


def test_the_next_look_is_the_first_row_of_the_index(plans):
    """How long the sweeper may sleep is read from the first row of its index."""
    (plan,) = plans(ledger.seconds_until_wake)
    assert "reliable_wake" in plan


def test_a_claim_goes_by_the_primary_key(plans):
    """A claim finds its entry by the primary key."""
    (chosen,) = some_ids(State.PENDING, 1)
    (plan,) = plans(lambda: ledger.claim(chosen, WORKER, lease=LEASE))
    assert re.search(r"reliable_tasks_entry_pkey|sqlite_autoindex_reliable_tasks_entry_1", plan)


ON_NAMED = {
    "renew": (State.RUNNING, lambda ids: ledger.renew(ids, WORKER, lease=LEASE)),
    "asked_to_stop": (State.RUNNING, lambda ids: ledger.asked_to_stop(ids, WORKER)),
    "rescue_lost": (State.RUNNING, lambda ids: ledger.rescue_lost(ids, WORKER)),
    "cancel": (State.PENDING, ledger.cancel),
    "requeue": (State.DEAD, ledger.requeue),
    "take_back": (State.PENDING, lambda ids: ledger.take_back(ids, retry_in=5.0)),
}


@pytest.mark.parametrize("verb", ON_NAMED)
def test_acts_on_named_entries_read_no_others(plans, verb):
    """What is done to named entries finds them by the primary key."""
    state, act = ON_NAMED[verb]
    chosen = some_ids(state)
    found = plans(lambda: act(chosen))
    assert found
    assert not [plan for plan in found if scans(plan)]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
def test_prune_finds_the_oldest_by_its_index(plans, state):
    """A prune reads the oldest ended entries from their index, and their attempts from theirs."""
    found = plans(lambda: ledger.prune(state, timedelta(hours=9), batch=50))
    assert "reliable_ended" in found[0]
    assert len(found) == 3
    assert not [plan for plan in found if scans(plan)]


@pytest.mark.parametrize(
    "act",
    [
        lambda: ledger.waiting_queues(grace=5.0),
        lambda: ledger.missing_on("q1", 3, grace=5.0, at_most=500),
        lambda: ledger.pull_forward("q1", count=50, grace=5.0),
    ],
    ids=["waiting_queues", "missing_on", "pull_forward"],
)
def test_counting_what_waits_reads_only_what_is_live(plans, act):
    """Counts of waiting entries read the index of live ones, not the months that have ended."""
    found = plans(act)
    assert "reliable_wake" in found[0]
    assert not [plan for plan in found if scans(plan)]


@pytest.mark.parametrize(
    "act",
    [
        lambda: overview.queues(timedelta(hours=1)),
        overview.waiting_by_task,
        overview.live_queues,
        lambda: overview.dead_groups(10),
    ],
    ids=["queues", "waiting_by_task", "live_queues", "dead_groups"],
)
def test_the_overview_reads_only_what_it_shows(plans, act):
    """The status of the ledger reads indexes, however much has ended."""
    found = plans(act)
    assert found
    assert not [plan for plan in found if scans(plan)]


def _steps():
    return bounded.steps(overview.now(), timedelta(minutes=5), 12)


@pytest.mark.parametrize(
    "act",
    [
        lambda: figures.ended(State.SUCCEEDED, _steps()),
        lambda: figures.attempts(_steps()),
        lambda: figures.timings(_steps()),
        lambda: figures.dying(_steps()[0].begin, 10),
        figures.live_queues,
        lambda: overview.running_now().count(),
        lambda: overview.soonest().aggregate(count=Count("pk")),
    ],
    ids=["ended", "attempts", "timings", "dying", "live_queues", "running_now", "soonest"],
)
def test_the_charts_read_ranges_of_indexes(plans, act):
    """What the page of charts reads is a range of an index, however much there is besides."""
    found = plans(act)
    assert found
    assert not [plan for plan in found if scans(plan)]


@pytest.mark.parametrize("name", ["waiting", "running", "active", "dead"])
def test_named_selections_use_an_index(plans, name):
    """The model's own selections of what is live or dead can be counted cheaply."""
    (plan,) = plans(lambda: getattr(Entry.objects.all(), name)().count())
    assert not scans(plan)


def test_the_attempts_of_an_entry_are_found_by_index(plans):
    """The attempts of one entry are read without a look at the others."""
    (entry_id,) = some_ids(State.DEAD, 1)
    (plan,) = plans(lambda: list(Attempt.objects.filter(entry_id=entry_id)))
    assert not scans(plan)


def test_the_entries_of_an_object_are_found_by_their_index(plans):
    """What is about one row, or about those of a page, is read from the index of subjects."""
    rows = [Item(pk=n) for n in range(1, 31)]
    Entry.objects.filter(pk__in=some_ids(State.SUCCEEDED, 40)).update(
        subject_type="testapp.item", subject_id="7"
    )
    (one,) = plans(lambda: list(Entry.objects.for_object(rows[7])[:20]))
    (page,) = plans(lambda: list(Entry.objects.for_objects(rows)))
    assert "reliable_subject" in one
    assert "reliable_subject" in page
