"""`manage.py reliable_tasks doctor`: what can be wrong is found, explained and put right."""

import logging
from collections import Counter
from datetime import timedelta

import pytest
from celery import Celery
from django.core.checks import Error, Warning  # noqa: A004 - Django's own name
from django.db import connection
from django.db.utils import OperationalError

from reliable_tasks import ledger, overview
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.link import Link
from reliable_tasks.management.diagnosis import PROBLEM, WARNING, examine, surroundings
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from reliable_tasks.wakeup import WakeUp
from tests import entries
from tests.commands import reliable_tasks
from tests.harness import wait_until

RUN_CHECKS, ALL_CHECKS = surroundings.django_checks.run_checks, surroundings.all_checks
BOOM = "tests.app.tasks.boom"


@pytest.fixture(autouse=True)
def no_checks(monkeypatch):
    """Leave the system checks out, but where they are the point."""
    monkeypatch.setattr(surroundings.django_checks, "run_checks", list)
    monkeypatch.setattr(surroundings, "all_checks", list)


@pytest.fixture
def healthy(db, flush_broker):
    """Give the test a ledger in which all is well."""
    report = WorkerReport(
        identity="celery@here#1",
        hostname="celery@here",
        pid=1,
        pool="prefork",
        concurrency=2,
        queues=["celery"],
        versions={},
    )
    ledger.beat(report)


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def found(check, level=PROBLEM):
    return [each for each in examine() if each.check == check and each.level == level]


def the(check, level=PROBLEM):
    (finding,) = found(check, level)
    assert finding.meaning
    assert finding.remedy
    return finding


def test_all_is_well(healthy):
    """A healthy ledger has nothing to say but so, and exits with 0."""
    entries.in_state(State.SUCCEEDED, now=ago(1))
    entries.enqueue(now=ago(1))
    ran = reliable_tasks("doctor")
    assert (ran.code, ran.lines[-1]) == (0, "All is well.")
    assert reliable_tasks("doctor", "--quiet").out == ""
    answer = reliable_tasks("doctor", "--json").json
    assert answer["healthy"]
    assert Counter(each["level"] for each in answer["findings"]) == {"ok": len(answer["findings"])}


def test_problems_are_explained(healthy):
    """Each finding says what it means and what to do, and the exit code is 1."""
    entries.in_state(State.DEAD, now=ago(1))
    ran = reliable_tasks("doctor", "--quiet")
    assert ran.code == 1
    first, meaning, remedy, _, last = ran.lines
    assert first.split()[:3] == ["PROBLEM", "dead", "1"]
    assert meaning.strip() == "They gave up and wait for a person."
    assert remedy.strip().startswith("→ manage.py reliable_tasks list --state dead")
    assert last == "1 problem."


def test_json_has_stable_keys(healthy):
    """Programs get the same keys for each finding."""
    answer = reliable_tasks("doctor", "--json").json
    assert set(answer) == {"healthy", "findings"}
    assert {frozenset(each) for each in answer["findings"]} == {
        frozenset({"check", "level", "summary", "meaning", "remedy", "details"})
    }


# ------------------------------------------------------------------------------------ surroundings
def test_system_checks_are_told(healthy, monkeypatch):
    """Errors of the system checks are problems, warnings are warnings, and each is told once."""
    messages = [
        Error("wrong", hint="right it", obj="here", id="x.E001"),
        Warning("odd", hint="even it", id="x.W001"),
    ]
    monkeypatch.setattr(surroundings.django_checks, "run_checks", lambda: messages)
    monkeypatch.setattr(surroundings, "all_checks", lambda: messages)
    (error,) = found("checks")
    assert (error.summary, error.remedy) == ("x.E001: wrong", "right it")
    (warning,) = found("checks", WARNING)
    assert warning.summary == "x.W001: odd"


def test_all_checks_run(healthy, monkeypatch):
    """Django's checks and this package's own are run, those for deployment too."""
    monkeypatch.setattr(surroundings.django_checks, "run_checks", RUN_CHECKS)
    monkeypatch.setattr(surroundings, "all_checks", ALL_CHECKS)
    app = surroundings.celery_app()
    monkeypatch.setitem(app.conf, "accept_content", ["json", "pickle"])
    found_ids = {each.details.get("id", "").partition(".")[0] for each in examine()}
    assert "reliable_tasks" in found_ids


def test_task_modules_that_cannot_be_imported(healthy, monkeypatch):
    """A broken module of tasks is named before a worker fails on it."""
    app = surroundings.celery_app()

    def broken():
        raise ImportError("no module named shop.tsaks")

    monkeypatch.setattr(app.loader, "import_default_modules", broken)
    assert "no module named shop.tsaks" in the("tasks").summary


def test_a_database_that_does_not_answer(healthy, monkeypatch):
    """Without its database the doctor still looks at the rest, and says what does not answer."""

    def refuse():
        raise OperationalError("connection refused\nis it running?")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "ensure_connection", refuse)
        assert "does not answer: connection refused" in the("database").summary
        assert {each.check for each in examine()} == {"checks", "database", "broker"}


def test_missing_migrations(healthy):
    """A ledger that is not migrated is told with the command to run."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'reliable_tasks'")
    finding = the("database")
    assert "0001_initial" in finding.summary
    assert finding.summary.endswith(" not applied")
    assert finding.remedy == "manage.py migrate reliable_tasks --database default"
    assert not found("workers")


def test_clocks_that_disagree(healthy, monkeypatch):
    """A host whose clock is off is warned of what that can and cannot harm."""
    theirs = overview.now() + timedelta(seconds=90)
    monkeypatch.setattr(overview, "now", lambda: theirs)
    finding = surroundings.clock()
    assert finding.level == WARNING
    assert "s behind the database's" in finding.summary
    assert 85 < finding.details["database_ahead_seconds"] < 95


def test_a_broker_that_does_not_answer(healthy, caplog):
    """A broker that refuses is told with its address, without its password, and no log line."""
    nowhere = Celery("nowhere", broker="redis://:secret@127.0.0.1:1/0", set_as_current=False)
    with caplog.at_level(logging.DEBUG, "reliable_tasks"):
        finding = surroundings.broker(nowhere, Link(nowhere))
    assert finding.level == PROBLEM
    assert "redis://" in finding.summary
    assert "127.0.0.1:1" in finding.summary
    assert "refused" in finding.summary
    assert "secret" not in finding.summary
    assert not caplog.records


# ------------------------------------------------------------------------------------------- fleet
def test_no_worker(db, flush_broker):
    """Without a living worker nothing runs, and the doctor says so."""
    assert the("workers").summary == "no worker is alive"


def test_silent_workers(healthy):
    """Workers that fell silent are named; that others took over makes it no problem."""
    report = WorkerReport("celery@gone#2", "celery@gone", 1, "solo", 1, ["celery"], {})
    ledger.beat(report, now=ago(60))
    finding = the("workers", WARNING)
    assert "celery@gone#2" in finding.summary
    assert not found("workers")


def test_queues_that_nobody_consumes(healthy):
    """A queue with waiting entries and no worker is named with the command to start one."""
    entries.enqueue(now=ago(1), queue="mail")
    entries.enqueue(now=ago(1), queue="mail", delay=3600.0)
    finding = the("queues")
    assert "queue 'mail' has 2 waiting (due now: 1)" in finding.summary
    assert finding.remedy.endswith("worker -Q mail")


def test_a_draining_worker_consumes_nothing(db, flush_broker):
    """A worker that is told to stop does not count for its queues."""
    report = WorkerReport("celery@here#1", "celery@here", 1, "solo", 1, ["celery"], {})
    ledger.beat(report, draining=True)
    entries.enqueue(now=ago(1))
    assert the("queues").details["queue"] == "celery"


# ----------------------------------------------------------------------------------------- backlog
def test_tasks_that_this_code_does_not_have(healthy):
    """Entries of a renamed task are counted, with the nearest name and the command that helps."""
    entries.enqueue(now=ago(1), task="tests.app.tasks.bom")
    finding = the("tasks")
    assert "1 pending of task 'tests.app.tasks.bom'" in finding.summary
    assert f"Did you mean '{BOOM}'?" in finding.summary
    command = finding.remedy.partition("manage.py reliable_tasks ")[2].replace("NEW.NAME", BOOM)
    assert reliable_tasks(*command.split(), "--yes").code == 0
    assert Entry.objects.get().task == BOOM
    assert not found("tasks")


def test_tasks_that_are_plain_again(healthy):
    """A task that lost its base is told of: it would be called without arguments."""
    app = surroundings.celery_app()

    @app.task(name="tests.plain")
    def plain():
        """Do nothing."""

    try:
        entries.enqueue(now=ago(1), task="tests.plain")
        assert "no reliable task any more" in the("tasks").summary
    finally:
        app.tasks.unregister("tests.plain")


def test_nobody_sweeps(healthy):
    """Leases and publishes that are long overdue say that no sweeper runs."""
    entries.in_state(State.RUNNING, now=ago(60))
    entries.enqueue(now=ago(60))
    finding = the("sweeper")
    assert "overdue: 1 running entry and 1 entry to be published" in finding.summary
    assert "manage.py reliable_tasks sweep" in finding.remedy


def test_a_broker_that_is_down_is_not_the_sweepers_fault(healthy, monkeypatch):
    """What only waits for the broker is not blamed on a sweeper."""
    nowhere = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    monkeypatch.setattr("reliable_tasks.management.diagnosis.celery_app", lambda: nowhere)
    entries.enqueue(now=ago(60))
    assert found("broker")
    assert not found("sweeper")


def test_published_and_never_claimed(healthy):
    """Wake-ups that are published again and again and never claimed are a problem."""
    entries.enqueue(now=ago(90))
    finding = the("publishing")
    assert "1 entry in 'celery' due for more than 60 s, published, not claimed" in finding.summary


def test_a_long_queue_is_no_loss(healthy):
    """Entries whose messages wait in the broker for their turn are no problem, however old."""
    entry = entries.row(entries.enqueue(now=ago(90)))
    link = Link(surroundings.celery_app(), redeclare=True)
    assert link.deliver([WakeUp(str(entry.pk), entry.task, entry.queue)]) == 1
    link.close()
    assert not found("publishing")


def test_attempts_that_do_not_stop(healthy):
    """An attempt that was asked to stop long ago is told of."""
    running = entries.in_state(State.RUNNING, now=ago(100))
    ledger.renew([running], entries.WORKER, lease=30.0)
    ledger.cancel([running], now=ago(60))
    assert "1 attempt asked to stop" in the("cancels", WARNING).summary


def test_dead_entries_by_what_they_died_of(healthy):
    """Dead letters are grouped by fingerprint, and the remedy's filters choose that group."""
    for _ in range(2):
        entries.in_state(State.DEAD, now=ago(1))
    finding = the("dead")
    assert "2 dead: tests.app.tasks.add, GatewayDown" in finding.summary
    command = finding.remedy.partition("manage.py reliable_tasks ")[2].partition(",")[0]
    assert len(reliable_tasks(*command.split(), "--json").json) == 2


def test_with_a_real_worker(worker, transactional_db):
    """With a real worker on a real broker the doctor finds its queue consumed and all well."""
    worker(pool="solo", concurrency=1)
    wait_until(lambda: not found("workers"))
    entries.enqueue(now=ago(1))
    assert not found("queues")
    assert not found("broker")
