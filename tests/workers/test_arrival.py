"""Whatever arrives: no message loses an entry, and none runs one twice."""

import contextlib
from uuid import uuid4

import pytest
from celery.result import AsyncResult
from django.db import connection

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import NewEntry
from reliable_tasks.link import Link
from reliable_tasks.models import Entry
from reliable_tasks.options import entry_id
from reliable_tasks.wakeup import WakeUp
from tests import services
from tests.app import worker_tasks as tasks
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, attempts_of, entry_of, outcomes, settled, wait_for

REMEMBER = tasks.remember.name

pytestmark = pytest.mark.usefixtures("shared")


@pytest.fixture
def link():
    """Give the test a connection to the broker, to send what it likes."""
    link = Link(app, redeclare=True)
    yield link
    link.close()


def seen(folder):
    file = folder.path / "seen"
    return file.read_text().splitlines() if file.exists() else []


def write(task, args="[]", *, grace=600.0, **changes):
    """Write an entry that nobody publishes, and return its id."""
    entry = NewEntry(id=new_id(), task=task, args=args, queue="celery", crash_budget=3, **changes)
    assert ledger.enqueue(entry, grace=grace)
    return entry.id


def result_of(pk):
    return AsyncResult(str(pk), app=app)


def test_a_message_delivered_five_times_runs_once(link, folder):
    """Copies of a wake-up, before, while and after the entry runs, change nothing."""
    pk = write(tasks.hold.name, f'["{folder}"]')
    copies = [WakeUp(str(pk), tasks.hold.name, "celery")]
    assert link.deliver(copies * 3)
    folder.wait_for_runs(1)
    assert link.deliver(copies)
    folder.go()
    assert result_of(pk).get(timeout=20, interval=0.05) == 1
    assert link.deliver(copies)
    assert add.delay(1, 1).get(timeout=20, interval=0.05) == 2  # all copies were taken before
    assert len(folder.runs()) == 1
    assert entry_of(result_of(pk)).attempt == 1


def test_a_message_sent_by_name_is_adopted(folder):
    """send_task() without this base gets an entry on arrival, with its options, and retries."""
    result = app.send_task(
        tasks.fail_until.name, (2,), {"value": 5}, link=tasks.remember.s(str(folder)), priority=4
    )
    assert result.get(timeout=20, interval=0.05) == 5
    entry = entry_of(result)
    assert (entry.state, entry.attempt, entry.queue) == ("succeeded", 2, "celery")
    assert (entry.args, entry.kwargs) == ([2], {"value": 5})
    assert entry.parent_id is None
    wait_until(lambda: seen(folder) == ["5"])


def test_an_adopted_message_that_comes_again_is_dropped(folder):
    """A message without an entry runs once for each id, however often it is delivered."""
    task_id = str(uuid4())
    for _ in range(3):
        app.send_task(REMEMBER, ("x", str(folder)), task_id=task_id)
    assert AsyncResult(task_id, app=app).get(timeout=20, interval=0.05) == "x"
    assert add.delay(1, 1).get(timeout=20, interval=0.05) == 2
    assert seen(folder) == ["x"]


def test_a_foreign_id_keeps_its_result():
    """A sender whose ids are no UUIDs finds the result under its own id, after retries, too."""
    app.send_task(tasks.fail_until.name, (3,), task_id="order-4711")
    assert AsyncResult("order-4711", app=app).get(timeout=20, interval=0.05) == "done"
    entry = Entry.objects.get(pk=entry_id("order-4711"))
    assert (entry.state, entry.attempt) == ("succeeded", 3)
    app.send_task(tasks.dies.name, task_id="order-4712")
    with pytest.raises(Exception, match="crash budget"):
        AsyncResult("order-4712", app=app).get(timeout=20, interval=0.05)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((b"raw", 1), "argument 'x' is bytes"),
        (({"__type__": "x"}, 1), "'__type__', which is reserv"),
    ],
)
def test_a_message_whose_arguments_cannot_be_kept_is_dead(args, words):
    """What arrives and cannot be kept is not lost: a dead entry shows it, the result says so."""
    result = app.send_task("tests.app.tasks.add", args)
    with pytest.raises(Exception, match=words):
        result.get(timeout=20, interval=0.05)
    entry = wait_for(result, "dead")
    assert entry.reason.startswith("The message's arguments cannot be kept: ")
    assert words in entry.reason
    assert entry.kwargs["unreadable"]["args"] == [repr(arg) for arg in args]
    assert outcomes(result) == ["rejected"]


def test_messages_without_an_entry_may_be_refused(another):
    """With ADOPT off such a message is refused with an error that says what to do."""
    process = another(concurrency=1, queues=["strict"], settings={**FAST, "ADOPT": False})
    result = app.send_task("tests.app.tasks.add", (1, 2), queue="strict")
    with pytest.raises(Exception, match="no entry stands behind"):
        result.get(timeout=20, interval=0.05)
    assert not Entry.objects.filter(pk=result.id).exists()
    assert add.apply_async((1, 2), queue="strict").get(timeout=20, interval=0.05) == 3
    assert process.alive


def test_an_unknown_task_waits_for_a_worker_that_knows_it(another, shared):
    """Workers of an older release lose nothing: the entry runs once a newer one is there."""
    pk = write("tests.latecomer", "[7]", grace=0.1)
    settled(shared, "Received unregistered task of type 'tests.latecomer'")
    assert entry_of(result_of(pk)).state == "pending"
    assert result_of(pk).state == "PENDING"
    another(
        concurrency=1,
        settings=FAST,
        env={"RELIABLE_TASKS_TEST_LATECOMER": "1"},
        queues=["celery"],
    )
    entry = wait_for(result_of(pk), "succeeded", timeout=60)
    assert entry.attempt == 1
    wait_until(lambda: result_of(pk).state == "SUCCESS")


def test_an_unknown_plain_task_fails_as_ever(shared):
    """A message that is no entry's is Celery's own affair."""
    result = app.send_task("tests.nobody.knows")
    settled(shared, "Received unregistered task of type 'tests.nobody.knows'")
    wait_until(lambda: result.state == "FAILURE")


def test_a_message_under_an_older_name_runs_nothing(link, folder):
    """A late message of a task that was renamed or replaced does not run the old body."""
    pk = write("tests.app.tasks.add", f'["now another task\'s", "{folder}"]')
    assert link.deliver([WakeUp(str(pk), REMEMBER, "celery")])
    assert add.delay(1, 1).get(timeout=20, interval=0.05) == 2
    assert seen(folder) == []
    assert entry_of(result_of(pk)).state == "pending"


def test_a_message_before_its_time_starts_nothing(link):
    """A copy of a wake-up does not start an entry before it is due."""
    pk = write("tests.app.tasks.add", "[1, 2]", delay=600.0)
    assert link.deliver([WakeUp(str(pk), "tests.app.tasks.add", "celery")])
    assert add.delay(1, 1).get(timeout=20, interval=0.05) == 2
    assert entry_of(result_of(pk)).attempt == 0


@pytest.mark.parametrize(
    ("column", "content", "words"),
    [
        ("args", {"x": 1}, "args must be a JSON list"),
        ("kwargs", [1], "kwargs a JSON object"),
        ("args", [{"__type__": "uuid", "value": "no uuid"}], "cannot be read"),
        ("args", [{"__type__": "what", "value": 1}, 2], "cannot be read"),
        ("options", [1], "options of the entry are no JSON object"),
    ],
)
def test_a_corrupt_row_is_dead_with_a_reason(column, content, words):
    """An entry that somebody broke by hand ends dead, says why, and holds nobody up."""
    pk = write("tests.app.tasks.add", "[1, 2]", grace=1.0)
    Entry.objects.filter(pk=pk).update(**{column: content})
    result = result_of(pk)
    entry = wait_for(result, "dead")
    assert words in entry.reason
    assert entry.reason.startswith("Not run: ")
    assert getattr(entry, column) == content
    assert len(attempts_of(result)) >= 1
    late = add.apply_async((1, 2), countdown=0.1)  # only a sweeper publishes this one
    assert late.get(timeout=20, interval=0.05) == 3


@pytest.mark.skipif(services.database_vendor() != "sqlite", reason="only SQLite keeps any text")
@pytest.mark.parametrize("column", ["args", "kwargs", "options"])
def test_text_that_is_no_json_holds_nobody_up(column):
    """On SQLite, which can be made to keep anything, such a row is dead and the rest goes on."""
    pk = write("tests.app.tasks.add", "[1, 2]", grace=1.0)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        sql = f"UPDATE reliable_tasks_entry SET {column} = %s WHERE id = %s"
        cursor.execute(sql, ["{broken", pk.hex])
        cursor.execute("PRAGMA ignore_check_constraints = OFF")
    late = add.apply_async((1, 2), countdown=0.1)
    assert late.get(timeout=20, interval=0.05) == 3
    rows = Entry.objects.filter(pk=pk).values_list("state", "reason")
    wait_until(lambda: rows.get()[0] == "dead", message=lambda: str(rows.get()))
    assert "cannot be read" in rows.get()[1]
    Entry.objects.filter(pk=pk).delete()


def test_a_worker_without_the_ledgers_tables_says_so(another, tmp_path):
    """Where migrate was forgotten, the worker's log says what to do, and the worker lives."""
    empty = {"sqlite": str(tmp_path / "empty.sqlite3"), "postgres": "postgres"}
    process = another(
        concurrency=1,
        queues=["unmigrated"],
        settings=FAST,
        env={"RELIABLE_TASKS_TEST_DB": empty[services.database_vendor()]},
        celery={"CELERY_RESULT_BACKEND": services.redis_url()},
    )
    settled(process, "Run `manage.py migrate reliable_tasks`")
    app.send_task("tests.app.tasks.add", (1, 2), queue="unmigrated")
    settled(process, "raised unexpected: LedgerNotReady")
    assert process.alive
    told = process.log.count("Traceback (most recent call last)")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: process.log.count("Traceback (most recent call last)") > told, 3)
    assert process.log.count("Traceback (most recent call last)") == told
