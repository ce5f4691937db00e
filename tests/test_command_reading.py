"""`manage.py reliable_tasks status` and `list`, and what all verbs have in common."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from reliable_tasks import ledger, overview
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.states import State
from tests import entries
from tests.commands import reliable_tasks


def beat(identity="celery@here#0a0a0a0a", *, queues=("celery",), ago=0.0, draining=False):
    report = WorkerReport(
        identity=identity,
        hostname=identity.partition("#")[0],
        pid=1,
        pool="prefork",
        concurrency=2,
        queues=list(queues),
        versions={},
    )
    ledger.beat(report, draining=draining, now=overview.now() - timedelta(seconds=ago))


def ago(**length):
    return overview.now() - timedelta(**length)


# ------------------------------------------------------------------------------------------ status
def test_status_counts_by_queue_and_state(db):
    """Each queue has its numbers, waiting split into due and later, with its oldest due entry."""
    for state in State:
        entries.in_state(state, now=ago(seconds=200))
    entries.enqueue(now=ago(seconds=1), delay=3600.0)
    entries.enqueue(now=ago(seconds=2), queue="mail")
    ran = reliable_tasks("status", "--json")
    assert ran.code == 0
    celery, mail = ran.json["queues"]
    numbers = ("due", "later", "running", "dead", "succeeded", "cancelled")
    assert [celery[name] for name in numbers] == [2, 1, 1, 1, 1, 1]
    assert [mail[name] for name in numbers] == [1, 0, 0, 0, 0, 0]
    assert 199 < celery["oldest_due_seconds"] < 230
    assert ran.json["total"]["due"] == 3
    assert ran.json["database"] == {"vendor": connection.vendor, "alias": "default"}


def test_status_looks_back_as_far_as_told(db):
    """Only what succeeded within the window counts; what is dead always does."""
    entries.in_state(State.SUCCEEDED, now=ago(hours=3))
    entries.in_state(State.DEAD, now=ago(days=300))
    (lately,) = reliable_tasks("status", "--json").json["queues"]
    (earlier,) = reliable_tasks("status", "--json", "--since", "4h").json["queues"]
    assert (lately["succeeded"], lately["dead"]) == (0, 1)
    assert earlier["succeeded"] == 1


def test_status_tells_how_workers_stand(db):
    """Workers are alive, draining, or silent once a lease has passed since their last beat."""
    beat("celery@a#1")
    beat("celery@b#2", draining=True)
    beat("celery@c#3", ago=60)
    ran = reliable_tasks("status")
    assert "Workers   1 alive, 1 draining, 1 silent" in ran.out
    assert reliable_tasks("status", "--json").json["workers"] == {
        "alive": 1,
        "draining": 1,
        "silent": 1,
    }


def test_status_says_what_needs_attention(db):
    """Dead entries, a queue without a worker and a long wait are named in one line."""
    entries.in_state(State.DEAD)
    entries.enqueue(now=ago(seconds=300), queue="mail")
    beat()
    (line,) = [line for line in reliable_tasks("status").lines if line.startswith("Attention")]
    assert "1 dead" in line
    assert "1 entry due in 'mail', which no worker consumes" in line
    assert "'mail' has waited 5m" in line


def test_status_of_a_healthy_ledger(db):
    """With a worker and nothing amiss, nothing needs attention."""
    beat()
    entries.in_state(State.SUCCEEDED, now=ago(seconds=5))
    ran = reliable_tasks("status")
    assert ran.code == 0
    assert "Attention nothing needs any" in ran.out
    assert ran.lines[0].split()[:5] == ["QUEUE", "DUE", "LATER", "RUNNING", "DEAD"]


def test_status_reads_little(db, django_assert_max_num_queries):
    """The number of statements does not grow with the ledger."""
    for state in State:
        entries.in_state(state, now=ago(seconds=5))
    with django_assert_max_num_queries(5):
        reliable_tasks("status")


# -------------------------------------------------------------------------------------------- list
def test_list_shows_the_newest_first(db):
    """Entries are listed newest first, up to the limit, and more are told of."""
    ids = [entries.in_state(State.PENDING, now=ago(seconds=9 - n)) for n in range(3)]
    ran = reliable_tasks("list", "--limit", 2)
    assert ran.code == 0
    assert [line.split()[0] for line in ran.lines[1:]] == [str(ids[2]), str(ids[1])]
    assert "there are more" in ran.err


def test_list_as_json_has_stable_keys(db):
    """Programs get whole ids, ISO times in UTC, and the same keys each time."""
    pending = entries.enqueue(now=None)
    (found,) = reliable_tasks("list", "--json").json
    assert found["id"] == str(pending)
    assert found["enqueued_at"].endswith("+00:00")
    assert set(found) == {
        *("id", "task", "state", "queue", "priority", "attempt", "retries", "max_retries"),
        *("crashes", "crash_budget", "publishes", "worker", "error_class", "fingerprint"),
        *("reason", "enqueued_at", "due_at", "wake_at", "expires_at", "cancel_requested_at"),
        *("started_at", "finished_at", "published_at"),
    }


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--state", "dead"], {"dead"}),
        (["--state", "dead", "--state", "RUNNING"], {"dead", "running"}),
        (["--task", "tests.app.tasks.boom"], {"boom"}),
        (["--task", "tests.app.tasks.b*"], {"boom"}),
        (["--task", "tests.app.tasks.b"], set()),
        (["--queue", "mail"], {"mail"}),
        (["--error", "GatewayDown"], {"dead"}),
        (["--error", "app.errors.GatewayDown"], {"dead"}),
        (["--error", "Down"], set()),
        (["--fingerprint", "0123456789ABCDEF"], {"dead"}),
        (["--worker", "celery@there"], {"running"}),
        (["--older", "1h"], {"old"}),
        (["--newer", "1h", "--queue", "celery"], {"dead", "running", "boom"}),
        (["--state", "dead", "--queue", "mail"], set()),
    ],
)
def test_list_filters(db, filters, expected):
    """Each filter chooses what it says, and filters add up."""
    now = overview.now()
    dead = entries.running(now=now)
    entries.bury(dead, now=now)
    made = {
        dead.entry: "dead",
        entries.running(now=now, worker=entries.OTHER_WORKER).entry: "running",
        entries.enqueue(now=now, queue="mail"): "mail",
        entries.enqueue(now=now, task="tests.app.tasks.boom"): "boom",
        entries.enqueue(now=ago(hours=2)): "old",
    }
    ran = reliable_tasks("list", "--json", *filters)
    assert {made[UUID(found["id"])] for found in ran.json} == expected
    assert ran.code == (0 if expected else 1)


def test_list_of_nothing(db):
    """Nothing found is said on stderr, is an empty list to programs, and exits with 1."""
    ran = reliable_tasks("list", "--state", "dead")
    assert (ran.code, ran.out, ran.err) == (1, "", "No entry matches.\n")
    assert reliable_tasks("list", "--json").json == []


def test_list_does_not_read_what_may_be_large(db, django_assert_num_queries):
    """A list takes one statement and the time; arguments and messages stay in the database."""
    entries.enqueue(now=None, args=json.dumps(["x" * 1000]))
    with django_assert_num_queries(2) as queries:
        reliable_tasks("list")
    assert '"args"' not in queries.captured_queries[0]["sql"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--state", "dad"], "there is no state 'dad'. Did you mean 'dead'?"),
        (["list", "--state", "xyzzy"], "There are: cancelled, dead, pending"),
        (["list", "--older", "soon"], "'soon' is no length of time"),
        (["list", "--limit", "0"], "'0' is no whole number greater than zero"),
        (["show", "42"], "'42' is no entry's id"),
        (["shwo"], "invalid choice: 'shwo'"),
        ([], "the following arguments are required: VERB"),
    ],
)
def test_wrong_usage_is_explained(arguments, words):
    """A command line that cannot be meant is explained and exits with 2, without a query."""
    ran = reliable_tasks(*arguments)
    assert ran.code == 2
    assert words in ran.err


# ------------------------------------------------------------------------------------ all of them
def test_a_ledger_that_is_not_migrated_is_explained(db):
    """Without the ledger's tables each verb says what to run, without a traceback."""
    if not connection.features.can_rollback_ddl:
        pytest.skip("this database could not undo it")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reliable_tasks_entry RENAME TO reliable_tasks_away")
    for arguments in (["list"], ["show", new_id()], ["requeue", "--all"], ["prune"], ["status"]):
        with transaction.atomic():
            ran = reliable_tasks(*arguments)
            transaction.set_rollback(True)
        assert ran.code == 1
        assert "manage.py migrate reliable_tasks" in ran.err


def test_djangos_options_may_stand_after_the_verb(db):
    """`--settings`, `--verbosity` and the like are taken before and after the verb."""
    assert reliable_tasks("--verbosity", 0, "list", "--no-color", "--traceback").code == 1
