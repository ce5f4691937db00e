"""The checks of the ledger's database."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from psycopg import IsolationLevel

from reliable_tasks.checks import asking, databases, processes
from tests import services
from tests.checking import GOOD_SQLITE, SQLITE, codes, declare, use_app, use_databases


class LedgerElsewhere:
    """A router that puts the ledger on "jobs"."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "jobs" if model._meta.app_label == "reliable_tasks" else None

    db_for_read = db_for_write


class EntriesElsewhere(LedgerElsewhere):
    """A router that forgets the tables beside the entries."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "jobs" if model.__name__ == "Entry" else None


class NoTables(LedgerElsewhere):
    """A router that lets nothing be migrated outside the default database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


def route(settings: Any, router: type) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.{router.__name__}"]


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        ("postgresql", []),
        ("sqlite", []),
        ("mysql", []),
        ("oracle", ["E003"]),
        ("unknown", ["E003"]),
    ],
)
def test_unknown_databases_are_refused(monkeypatch, vendor, expected):
    """The ledger on a database that its statements are not written for is an error."""
    use_databases(monkeypatch, default={})
    monkeypatch.setattr(databases.ledger_connection(), "vendor", vendor)
    assert codes(databases.check_vendor()) == expected


def test_project_without_a_database_is_refused(monkeypatch):
    """A project that has no database has no ledger: an error."""
    use_databases(monkeypatch, default={"ENGINE": "django.db.backends.dummy"})
    assert codes(databases.check_vendor()) == ["E003"]


@pytest.mark.parametrize(
    ("engine", "zone", "expected"),
    [
        (SQLITE, None, []),
        (SQLITE, "UTC", []),
        (SQLITE, "Etc/UTC", []),
        (SQLITE, "Europe/London", ["E004"]),
        (SQLITE, "Asia/Tokyo", ["E004"]),
        ("django.db.backends.postgresql", "Asia/Tokyo", []),
    ],
)
def test_local_times_in_the_database_are_refused(monkeypatch, engine, zone, expected):
    """Where the database does not know time zones, times that are not UTC are an error."""
    use_databases(monkeypatch, default={"ENGINE": engine, "TIME_ZONE": zone, "OPTIONS": {}})
    assert codes(databases.check_time_zone()) == expected


@pytest.mark.parametrize(("autocommit", "expected"), [(True, []), (False, ["E005"])])
def test_autocommit_is_needed(monkeypatch, autocommit, expected):
    """The ledger without autocommit is an error."""
    use_databases(monkeypatch, default={"AUTOCOMMIT": autocommit})
    assert codes(databases.check_autocommit()) == expected


@pytest.mark.parametrize(
    ("engine", "level", "expected"),
    [
        ("postgresql", None, []),
        ("postgresql", IsolationLevel.READ_COMMITTED, []),
        ("postgresql", IsolationLevel.REPEATABLE_READ, ["W020"]),
        ("postgresql", IsolationLevel.SERIALIZABLE, ["W020"]),
        ("mysql", "read committed", []),
        ("mysql", "Repeatable Read", ["W020"]),
        ("mysql", "serializable", ["W020"]),
    ],
)
def test_strict_isolation_is_named(monkeypatch, engine, level, expected):
    """A level under which long atomic bodies cannot finish is a warning."""
    use_databases(monkeypatch, default={"OPTIONS": {"isolation_level": level}})
    monkeypatch.setattr(databases.ledger_connection(), "vendor", engine)
    assert codes(databases.check_isolation()) == expected


@pytest.mark.parametrize(
    ("router", "aliases", "expected"),
    [
        (LedgerElsewhere, ("default", "jobs"), []),
        (LedgerElsewhere, ("default",), ["E006"]),
        (EntriesElsewhere, ("default", "jobs"), ["E006"]),
        (NoTables, ("default", "jobs"), ["E006"]),
    ],
)
def test_ledger_needs_one_home(monkeypatch, settings, router, aliases, expected):
    """Routers that leave the ledger's tables nowhere, or in two places, are an error."""
    use_databases(monkeypatch, **{alias: {} for alias in aliases})
    route(settings, router)
    assert codes(databases.check_router()) == expected


def test_other_checks_bear_a_ledger_without_home(monkeypatch, settings):
    """When the routers name a database that does not exist, only that is reported."""
    use_databases(monkeypatch, default={"OPTIONS": {}})
    route(settings, LedgerElsewhere)
    for check in (
        databases.check_vendor,
        databases.check_time_zone,
        databases.check_autocommit,
        databases.check_isolation,
        databases.check_atomic_requests,
        databases.check_sqlite,
    ):
        assert check() == []
    assert asking.check_tables(databases=["default"]) == []


@pytest.mark.parametrize(
    ("default", "jobs", "expected"),
    [
        (False, False, []),
        (True, False, ["W005"]),
        (False, True, []),
        (True, True, []),
    ],
)
def test_requests_must_cover_the_ledger(monkeypatch, settings, default, jobs, expected):
    """ATOMIC_REQUESTS on other databases than the ledger's is a warning."""
    use_databases(monkeypatch, default={"ATOMIC_REQUESTS": default}, jobs={"ATOMIC_REQUESTS": jobs})
    route(settings, LedgerElsewhere)
    assert codes(databases.check_atomic_requests()) == expected


@pytest.mark.parametrize(
    ("mode", "effect"), [("error", "TransactionMismatch"), ("allow", "even if the view's")]
)
def test_uncovered_requests_say_what_happens(monkeypatch, settings, mode, effect):
    """The hint tells what enqueuing in a view comes to under the setting in force."""
    use_databases(monkeypatch, default={"ATOMIC_REQUESTS": True}, jobs={})
    route(settings, LedgerElsewhere)
    settings.RELIABLE_TASKS = {"OTHER_TRANSACTION": mode}
    [message] = databases.check_atomic_requests()
    assert effect in message.hint


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"transaction_mode": None}, ["W002"]),
        ({"transaction_mode": "DEFERRED"}, ["W002"]),
        ({"transaction_mode": "exclusive"}, []),
        ({"timeout": 5}, ["W003"]),
        ({"timeout": 60.0}, []),
        ({"init_command": ""}, ["W004"]),
        ({"init_command": "PRAGMA synchronous=NORMAL"}, ["W004"]),
        ({"init_command": "pragma JOURNAL_MODE = 'wal'"}, []),
    ],
)
def test_sqlite_is_set_up_for_several_processes(monkeypatch, change, expected):
    """Each option that an SQLite ledger needs for several writers is asked for."""
    use_databases(monkeypatch, default={"OPTIONS": {**GOOD_SQLITE, **change}})
    assert codes(databases.check_sqlite()) == expected


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ({"OPTIONS": {}}, ["W002", "W003", "W004"]),
        ({"OPTIONS": {}, "NAME": ":memory:"}, []),
        ({"OPTIONS": {}, "ENGINE": "django.db.backends.postgresql"}, []),
    ],
)
def test_only_sqlite_files_are_asked_for_options(monkeypatch, database, expected):
    """SQLite as Django sets it up is warned of; in memory, or another database, it is not."""
    use_databases(monkeypatch, default=database)
    assert codes(databases.check_sqlite()) == expected


@pytest.mark.django_db
def test_migrated_tables_pass():
    """A database with the ledger's tables is not reported, nor is one that may not be asked."""
    assert asking.check_tables(databases=["default"]) == []
    assert asking.check_tables(databases=["other"]) == []
    assert asking.check_tables(databases=None) == []


@pytest.mark.django_db
@pytest.mark.skipif(services.database_vendor() != "postgres", reason="PostgreSQL's setting")
@pytest.mark.parametrize(("value", "expected"), [("off", ["W021"]), ("local", []), ("on", [])])
def test_commits_that_do_not_wait_for_the_disk_are_named(value, expected):
    """A server that may forget a claim, and give out its token again, is a warning."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('synchronous_commit', %s, true)", [value])
    assert codes(asking.check_durability(databases=["default"])) == expected
    assert asking.check_durability(databases=["other"]) == []


@pytest.mark.django_db
def test_missing_tables_are_reported(monkeypatch, tmp_path):
    """A database without the ledger's tables is a warning that names the first migration."""
    use_databases(monkeypatch, default={"NAME": str(tmp_path / "empty.sqlite3")})
    [message] = asking.check_tables(databases=["default"])
    databases.ledger_connection().close()
    assert codes([message]) == ["W001"]
    assert "0001_initial" in message.msg


@pytest.mark.django_db
def test_missing_tables_are_reported_without_migrations(monkeypatch, settings, tmp_path):
    """Where migrations are switched off, the tables themselves are looked for."""
    settings.MIGRATION_MODULES = {"reliable_tasks": None}
    assert asking.check_tables(databases=["default"]) == []
    use_databases(monkeypatch, default={"NAME": str(tmp_path / "empty.sqlite3")})
    [message] = asking.check_tables(databases=["default"])
    databases.ledger_connection().close()
    assert codes([message]) == ["W001"]
    assert "reliable_tasks_entry" in message.msg


@pytest.mark.django_db
def test_missing_tables_are_no_news_to_migrate(monkeypatch, tmp_path):
    """`manage.py migrate` is not told to run `manage.py migrate`."""
    use_databases(monkeypatch, default={"NAME": str(tmp_path / "empty.sqlite3")})
    monkeypatch.setattr("sys.argv", ["manage.py", "migrate"])
    assert asking.check_tables(databases=["default"]) == []


@pytest.mark.django_db
def test_silent_database_is_an_error(monkeypatch, tmp_path):
    """A ledger's database that cannot be opened is an error, not a traceback."""
    use_databases(monkeypatch, default={"NAME": str(tmp_path / "nowhere" / "db.sqlite3")})
    assert codes(asking.check_tables(databases=["default"])) == ["E010"]


@pytest.mark.parametrize(
    ("age", "reuse", "plain", "expected"),
    [
        (60, None, True, ["I002"]),
        (None, None, True, ["I002"]),
        (0, None, True, []),
        (60, 100, True, []),
        (60, None, False, []),
    ],
)
def test_plain_tasks_do_not_keep_connections(monkeypatch, age, reuse, plain, expected):
    """Where connections are meant to persist, plain tasks are said not to keep theirs."""
    app = use_app(monkeypatch)
    app.conf["CELERY_DB_REUSE_MAX"] = reuse
    use_databases(monkeypatch, default={"CONN_MAX_AGE": age})
    if plain:
        declare(app, "shop.plain")
    assert codes(processes.check_connections()) == expected
