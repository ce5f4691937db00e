"""Rows that are gone, not there yet, or out of reach: three outcomes, told apart."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from celery import chain, chord
from django.db import connection, connections, transaction
from django.utils import timezone

from reliable_tasks import Load, faults, ledger, operations
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.worker.connections import tidy
from tests import services
from tests.app.models import Item
from tests.app.tasks import add
from tests.celery_app import app
from tests.enqueue.calls import deliver, rolled_back, two_databases


@pytest.fixture
def ship(make_task, got):
    """Give the test a function that makes a task with an item, which notes that its body ran."""

    def make(annotation=Item, **options):
        def body(order):
            got.append(order)

        body.__annotations__ = {"order": annotation}
        return make_task(body, **options)

    return make


@pytest.fixture
def gone(transactional_db):
    """Give the test an instance whose row is deleted behind its back."""
    row = Item.objects.create(name="gone")
    Item.objects.filter(pk=row.pk).delete()
    return row


@pytest.mark.parametrize("atomic", [True, False])
def test_by_default_the_entry_is_dead_with_a_clear_reason(run, ship, got, gone, atomic):
    """The body is not run, and the reason names model, key, argument and database."""
    entry = run(ship(atomic=atomic), gone)
    assert (entry.state, got, entry.retries, entry.crashes) == ("dead", [], 0, 0)
    assert entry.reason == (
        f"Not run: Item {gone.pk} (argument 'order') is gone from the database 'default'."
    )
    assert entry.error_class == "reliable_tasks.errors.MissingObject"
    assert Attempt.objects.get().outcome == "rejected"


def test_dead_is_requeued_once_the_row_is_back(run, ship, got, gone):
    """An entry that died of a missing row runs after the row was restored and it was requeued."""
    task = ship()
    entry = run(task, gone)
    Item.objects.create(pk=gone.pk, name="restored")
    assert operations.requeue([entry.pk], by="ann").requeued == [entry.pk]
    deliver(task, entry.pk)
    assert [each.name for each in got] == ["restored"]


@pytest.mark.parametrize("atomic", [True, False])
def test_discard_ends_the_entry_as_cancelled(run, ship, got, gone, atomic):
    """With "discard" the entry is cancelled, says why, and its result is revoked."""
    task = ship(on_missing="discard", atomic=atomic)
    entry = run(task, gone)
    assert (entry.state, got, entry.crashes) == ("cancelled", [], 0)
    assert entry.reason.startswith(f"Not run: Item {gone.pk} (argument 'order') is gone")
    assert entry.finished_at is not None
    assert task.AsyncResult(str(entry.pk)).state == "REVOKED"
    assert Attempt.objects.get().outcome == "rejected"


def test_retry_waits_for_the_row(run, ship, got, gone):
    """With "retry" the entry is tried again, whatever autoretry_for says, until it finds it."""
    task = ship(on_missing="retry", autoretry_for=(KeyError,), max_retries=5)
    entry = run(task, gone)
    assert (entry.state, entry.retries) == ("retrying", 1)
    Item.objects.create(pk=gone.pk, name="there")
    run_again(task, entry)
    assert [each.name for each in got] == ["there"]


def run_again(task, entry):
    Entry.objects.filter(pk=entry.pk).update(due_at=timezone.now() - timedelta(days=1))
    deliver(task, entry.pk)
    entry.refresh_from_db()


def test_retry_ends_with_the_tasks_limit(run, ship, gone):
    """With "retry" and no retries left the entry is dead."""
    entry = run(ship(on_missing="retry", max_retries=0), gone)
    assert entry.state == "dead"
    assert "is gone from the database" in entry.reason


def test_a_parameters_own_policy_comes_first(run, ship, gone):
    """Load(on_missing=…) overrides the task's."""
    task = ship(Annotated[Item, Load(on_missing="discard")], on_missing="retry")
    assert run(task, gone).state == "cancelled"


def test_all_that_is_missing_of_a_list_is_named(run, ship, item):
    """One row of a list that is gone stops the body, and the reason names all that are."""
    keys = [item.pk + n for n in range(30)]
    entry = run(ship(list[Item]), keys)
    first = ", ".join(str(item.pk + n) for n in range(1, 11))
    assert entry.reason == (
        f"Not run: Item {first} and 19 more (argument 'order') are gone from the database "
        "'default'."
    )


def test_the_caller_that_rolls_back_leaves_neither(unsent, transactional_db, ship):
    """An entry for a row of the same transaction is gone with it, so a row cannot be too late."""
    with rolled_back():
        ship().delay(Item.objects.create(name="never"))
    assert not Entry.objects.exists()


def test_a_chain_stops_at_a_discard(run, ship, gone, got):
    """What follows a discarded step in a chain does not run."""
    task = ship(on_missing="discard")
    result = chain(task.si(gone.pk), add.si(1, 2)).apply_async()
    first = Entry.objects.get()
    deliver(task, first.pk)
    assert [entry.task for entry in Entry.objects.all()] == [task.name]
    assert result.state == "PENDING"


def test_a_chord_learns_of_a_discard(run, ship, gone):
    """A chord with a discarded header task fails instead of waiting for ever."""
    task = ship(on_missing="discard")
    result = chord([task.si(gone.pk), add.si(1, 2)])(add.si(3, 4))
    for entry in Entry.objects.order_by("task"):
        deliver(app.tasks[entry.task], entry.pk)
    assert Entry.objects.get(task=task.name).state == "cancelled"
    assert result.state == "FAILURE"


@pytest.mark.parametrize("policy", ["dead", "discard", "retry"])
def test_an_eager_call_ends_likewise(transactional_db, ship, gone, policy):
    """Eager calls meet a missing row as a worker does, without waiting."""
    ship(on_missing=policy, max_retries=2).apply((gone.pk,))
    entry = Entry.objects.get()
    assert entry.state == {"dead": "dead", "discard": "cancelled", "retry": "dead"}[policy]
    assert entry.attempt == {"dead": 1, "discard": 1, "retry": 3}[policy]


def test_an_entry_whose_lease_ended_is_not_discarded(db, gone):
    """A discard is fenced like every other end."""
    from tests import entries

    held = entries.running()
    entries.sweep(now=entries.later(60))
    with pytest.raises(ledger_error()):
        ledger.discard(held, entries.FAILURE, reason="x", now=entries.later(61))
    assert entries.state(held) == "retrying"


def ledger_error():
    from reliable_tasks.errors import Fenced

    return Fenced


# -- out of reach ---------------------------------------------------------------------------------


ON_A_SERVER = pytest.mark.skipif(
    services.database_vendor() == "sqlite", reason="SQLite has no server that could go away"
)


class Away:
    """The database under test under another name, with a connection of its own, to be cut off.

    Args:
        nowhere: a path that does not exist.
    """

    alias = "away"

    def __init__(self, nowhere: Path) -> None:
        self._right = dict(connections["default"].settings_dict)
        on_sqlite = connections["default"].vendor == "sqlite"
        self._wrong = {"NAME": str(nowhere)} if on_sqlite else {"PORT": str(services.free_port())}
        connections.databases[self.alias] = dict(self._right)
        # In a test Django lets nobody connect to what was not named when the test began.
        connections[self.alias].ensure_connection = self._connect

    def _connect(self) -> None:
        connection = connections[self.alias]
        if connection.connection is None:
            with connection.wrap_database_errors:
                connection.connect()

    @property
    def _settings(self) -> dict[str, Any]:
        return connections[self.alias].settings_dict

    def cut_off(self) -> None:
        """Let nobody connect from here on."""
        connections[self.alias].close()
        self._settings.update(self._wrong)

    def bring_back(self) -> None:
        """Let connections be made again."""
        self._settings.update(self._right)

    def remove(self) -> None:
        """Forget the name."""
        connections[self.alias].close()
        del connections[self.alias]
        del connections.databases[self.alias]


@pytest.fixture
def away(transactional_db, tmp_path):
    """Give the test the database under another name, which nobody can reach as yet."""
    database = Away(tmp_path / "there is no such folder" / "x.sqlite3")
    database.cut_off()
    yield database
    database.remove()


AWAY = Annotated[Item, Load(using=Away.alias)]


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("on_missing", ["dead", "discard"])
def test_a_database_that_is_down_says_nothing_of_the_row(
    run, ship, got, item, away, atomic, on_missing
):
    """While its database cannot be reached a row is not gone: the entry waits, uncharged."""
    how = {"atomic": atomic, "max_retries": 0, "autoretry_for": (KeyError,)}
    task = ship(AWAY, on_missing=on_missing, **how)
    entry = run(task, item.pk)
    assert (entry.state, entry.retries, got) == ("retrying", 0, [])
    assert entry.error_class == "reliable_tasks.errors.ObjectsUnavailable"
    assert "the database 'away' does not answer: " in entry.error_message
    run_again(task, entry)
    assert (entry.state, entry.retries, entry.attempt) == ("retrying", 0, 2)
    assert entry.due_at > entry.started_at + timedelta(seconds=1)
    away.bring_back()
    run_again(task, entry)
    assert (entry.state, entry.error_class) == ("succeeded", entry.error_class)
    assert got == [item]


def test_an_eager_call_does_not_wait_for_a_database(ship, item, away):
    """An eager call that cannot read its row ends by the task's own limit of retries."""
    ship(AWAY, max_retries=1).apply((item.pk,))
    assert (Entry.objects.get().state, Entry.objects.get().attempt) == ("dead", 2)


def hang_up(alias, second):
    """Let the server end a connection, as an administrator, a restart or a proxy does."""
    driver = connections[alias].connection
    if connections[alias].vendor == "postgresql":
        pid, end = driver.info.backend_pid, "SELECT pg_terminate_backend(%s, 5000)"
    else:
        pid, end = driver.thread_id(), "KILL %s"

    def act():
        with connection.cursor() as cursor:
            cursor.execute(end, [pid])

    second.run(act)


@ON_A_SERVER
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_connection_that_is_lost_says_nothing_of_the_row(
    run, ship, got, item, away, second_connection, atomic, elsewhere
):
    """If the connection is lost before or while rows are read, the entry waits, uncharged."""
    if connection.vendor == "mysql" and atomic and not elsewhere:
        pytest.skip("the begin of its transaction is a statement, which fails before rows are read")
    away.bring_back()
    alias = away.alias if elsewhere else "default"
    task = ship(AWAY if elsewhere else Item, atomic=atomic, max_retries=0)
    connections[alias].ensure_connection()
    faults.arm(lambda point: point == "load.begin" and hang_up(alias, second_connection))
    try:
        entry = run(task, item.pk)
    finally:
        faults.arm(None)
    assert (entry.state, entry.retries, got) == ("retrying", 0, [])
    assert entry.error_class == "reliable_tasks.errors.ObjectsUnavailable"
    tidy()  # as a worker does after each task
    run_again(task, entry)
    assert (entry.state, got) == ("succeeded", [item])


# -- refused: the database is there ---------------------------------------------------------------


@pytest.fixture
def not_migrated(transactional_db):
    """Rename a column that the model has, for the time of the test."""

    def rename(old, new):
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE testapp_item RENAME COLUMN {old} TO {new}")

    rename("name", "other_name")
    yield
    rename("other_name", "name")


@pytest.mark.parametrize("atomic", [True, False])
def test_a_column_that_is_missing_is_a_failure(run, ship, got, not_migrated, atomic):
    """A database that answers is not out of reach: the task's retries are counted, and end."""
    entry = run(ship(atomic=atomic, max_retries=1), 5)
    assert (entry.state, entry.retries, got) == ("retrying", 1, [])
    assert entry.error_class.startswith("django.db.utils.")
    entry = run(ship(atomic=atomic, max_retries=0), 5)
    assert (entry.state, entry.retries) == ("dead", 0)
    assert entry.reason.startswith("Failed once, the limit is 0 retries.")


IMPATIENT = {
    "postgresql": ["SET lock_timeout = '500ms'", "SET statement_timeout = '500ms'"],
    "mysql": ["SET innodb_lock_wait_timeout = 1"],
}


@ON_A_SERVER
@pytest.mark.parametrize("which", [0, 1])
def test_a_row_that_is_locked_for_long_is_a_failure(run, ship, got, item, second_connection, which):
    """A lock or a statement that took too long is charged like any failure of the body."""
    settings = IMPATIENT[connection.vendor]
    if which >= len(settings):
        pytest.skip("it has one such setting")
    task = ship(Annotated[Item, Load(for_update=True)], atomic=True, max_retries=1)

    def lock():
        list(Item.objects.select_for_update().filter(pk=item.pk))

    result = task.delay(item.pk)
    with second_connection.atomic():
        second_connection.run(lock)
        with connection.cursor() as cursor:
            cursor.execute(settings[which])
        deliver(task, result.id)
    connection.close()  # and with it the setting
    entry = Entry.objects.get()
    assert (entry.state, entry.retries, got) == ("retrying", 1, [])
    assert entry.error_class == "django.db.utils.OperationalError"
    run_again(task, entry)
    assert (entry.state, got) == ("succeeded", [item])


# -- not there yet --------------------------------------------------------------------------------

ELSEWHERE = Annotated[Item, Load(using="other")]


@two_databases
@pytest.mark.parametrize("on_missing", ["dead", "discard", "retry"])
def test_a_row_that_commits_later_elsewhere_is_waited_for(unsent, ship, got, on_missing):
    """With its row on another database the entry may come first; it waits, uncharged."""
    task = ship(ELSEWHERE, on_missing=on_missing, max_retries=0)
    with transaction.atomic(using="other"), transaction.atomic():
        row = Item.objects.using("other").create(name="late")
        result = task.delay(row)
    Item.objects.using("other").all().delete()
    deliver(task, result.id)
    entry = Entry.objects.get()
    assert (entry.state, entry.retries, got) == ("retrying", 0, [])
    assert entry.error_class == "reliable_tasks.errors.NotVisibleYet"
    Item.objects.using("other").create(pk=row.pk, name="late")
    run_again(task, entry)
    assert (entry.state, [each.name for each in got]) == ("succeeded", ["late"])


@two_databases
def test_a_row_elsewhere_that_never_comes_is_gone(settings, unsent, ship, got):
    """After VISIBLE_WITHIN a row on another database counts as gone."""
    task = ship(ELSEWHERE)
    result = task.delay(12345)
    Entry.objects.update(enqueued_at=timezone.now() - timedelta(seconds=61))
    deliver(task, result.id)
    assert (Entry.objects.get().state, got) == ("dead", [])
    settings.RELIABLE_TASKS = {"VISIBLE_WITHIN": 0}
    result = task.delay(12345)
    deliver(task, result.id)
    assert Entry.objects.get(pk=result.id).state == "dead"


@two_databases
def test_an_eager_call_does_not_wait_for_a_row(unsent, ship):
    """In an eager call nobody else commits meanwhile: a missing row is gone at once."""
    ship(ELSEWHERE).apply((12345,))
    assert Entry.objects.get().state == "dead"


# -- what an entry keeps --------------------------------------------------------------------------


def test_keys_of_an_older_version_that_fit_no_more_are_corrupt(run, ship, got):
    """An entry whose text is no key of the model, written before the annotation, is dead."""
    task = ship()
    result = task.delay(1)
    Entry.objects.update(args=["no number"])
    deliver(task, result.id)
    entry = Entry.objects.get()
    assert (entry.state, got) == ("dead", [])
    assert "The argument 'order' of the entry is a str that is no key of it" in entry.reason


def test_a_message_without_an_entry_is_adopted_with_its_keys(transactional_db, ship, got, item):
    """A message that another service sends holds a key, and the body gets the row."""
    from celery.app.trace import build_tracer

    task = ship()
    request = {"id": "6f7ff3a5-0c41-4b55-a6f8-5d3c1b6f2c11", "task": task.name, "is_eager": False}
    request |= {"called_directly": False, "hostname": "a@b", "delivery_info": {}}
    tracer = build_tracer(task.name, app.tasks[task.name], app=app, hostname="a@b")
    tracer(request["id"], [item.pk], {}, request)
    assert got == [item]
    other = {**request, "id": "6f7ff3a5-0c41-4b55-a6f8-5d3c1b6f2c12"}
    tracer(other["id"], ["x"], {}, other)
    entry = Entry.objects.get(pk=other["id"])
    assert (entry.state, len(got)) == ("dead", 1)
    assert "argument 'order' is a str that is no key of it" in entry.reason
