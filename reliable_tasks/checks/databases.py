"""Checks of the settings of the ledger's database. None opens a connection."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core.checks import CheckMessage
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from . import catalogue
from .reading import ledger_alias, ledger_connection, package_settings

_VENDORS: Final = ("postgresql", "sqlite", "mysql")
# A batch of a thousand entries on a slow disk, with several writers in the queue before it.
_SHORTEST_WAIT: Final = 10.0
_WAL: Final = re.compile(r"journal_mode\s*=\s*['\"]?wal\b", re.IGNORECASE)


def check_vendor(**_: object) -> list[CheckMessage]:
    """Look whether the ledger's statements can be written for its database."""
    connection = ledger_connection()
    if connection is None or connection.vendor in _VENDORS:
        return []
    return [
        catalogue.VENDOR.found(
            where(connection),
            f"The ledger's database {connection.alias!r} is of the kind {connection.vendor!r}.",
            "The ledger knows PostgreSQL, SQLite and MariaDB/MySQL. Route the app to such a "
            "database: in a class of DATABASE_ROUTERS, let db_for_read and db_for_write return its "
            'alias where model._meta.app_label == "reliable_tasks".',
        )
    ]


def check_time_zone(**_: object) -> list[CheckMessage]:
    """Look whether Django stores the ledger's times in UTC, as the ledger's own statements do."""
    connection = ledger_connection()
    if connection is None or connection.vendor not in ("sqlite", "mysql"):
        return []  # PostgreSQL stores moments, whatever the connection's time zone
    zone = connection.settings_dict.get("TIME_ZONE")
    if zone is None or _is_utc(connection):
        return []
    return [
        catalogue.TIME_ZONE.found(
            where(connection, "TIME_ZONE"),
            f"Django stores times on {connection.alias!r} in {zone}.",
            "On this kind of database a time is stored without its zone, and the ledger compares "
            "it with the database's clock in UTC: delays, leases and expiry would be wrong by the "
            f"difference. Delete {where(connection, 'TIME_ZONE')} (the default is UTC), or route "
            "the ledger to a database of its own.",
        )
    ]


def _is_utc(connection: BaseDatabaseWrapper) -> bool:
    zone = connection.timezone
    year = datetime.now(UTC).year
    seasons = [datetime(year, month, 1, tzinfo=zone) for month in (1, 4, 7, 10)]
    return zone is None or all(moment.utcoffset() == timedelta(0) for moment in seasons)


def check_autocommit(**_: object) -> list[CheckMessage]:
    """Look whether statements outside a transaction commit by themselves."""
    connection = ledger_connection()
    if connection is None or connection.settings_dict["AUTOCOMMIT"]:
        return []
    return [
        catalogue.AUTOCOMMIT.found(
            where(connection, "AUTOCOMMIT"),
            f"Autocommit is off on {connection.alias!r}.",
            "Outside atomic() an entry could not be published after commit, and a worker's claims "
            f"would never commit. Delete {where(connection, 'AUTOCOMMIT')} (the default is on) "
            "and use atomic() where several statements belong together.",
        )
    ]


def check_isolation(**_: object) -> list[CheckMessage]:
    """Look whether a transaction sees what others have committed since it began."""
    connection = ledger_connection()
    if connection is None or connection.vendor == "sqlite":
        return []
    level = connection.settings_dict["OPTIONS"].get("isolation_level")
    # PostgreSQL's is a number (psycopg's IsolationLevel), MariaDB's and MySQL's a phrase.
    strict = {3: "REPEATABLE READ", 4: "SERIALIZABLE"}
    name = strict.get(level) or str(level or "").upper()
    if name not in strict.values():
        return []
    return [
        catalogue.ISOLATION.found(
            where(connection, "OPTIONS", "isolation_level"),
            f"Transactions on {connection.alias!r} are {name}.",
            "The heartbeat updates an entry's row while its body runs. With atomic=True the finish "
            "of a body that outlasts a heartbeat then fails to serialize, each time, until the "
            "entry is dead. Delete the option (READ COMMITTED is Django's default), or give the "
            "ledger a database alias of its own, and keep the level on the other one.",
        )
    ]


def check_router(**_: object) -> list[CheckMessage]:
    """Look whether the routers give all of the ledger's tables one existing home."""
    from ..models import Attempt, Entry, WorkerProcess

    alias = ledger_alias()
    homes = {model.__name__: router.db_for_write(model) for model in (Attempt, WorkerProcess)}
    strays = [f"{name} on {home!r}" for name, home in homes.items() if home != alias]
    if alias not in connections.settings:
        wrong = f"The routers put the ledger on {alias!r}, which is not in DATABASES."
    elif strays:
        wrong = f"The routers put Entry on {alias!r}, but {' and '.join(strays)}."
    elif not router.allow_migrate_model(alias, Entry):
        wrong = (
            f"The routers put the ledger on {alias!r}, but do not let `migrate` make tables there."
        )
    else:
        return []
    return [
        catalogue.ROUTER.found(
            "DATABASE_ROUTERS",
            wrong,
            "An attempt and its entry are written in one transaction, so all tables of the app "
            "must be in one database. In the router, treat the whole app alike: where app_label is "
            '"reliable_tasks", let db_for_read and db_for_write return the same alias, and let '
            "allow_migrate return whether it is asked about that alias.",
        )
    ]


def check_atomic_requests(**_: object) -> list[CheckMessage]:
    """Look whether a request's transaction is one on the ledger's database."""
    ledger, settings = ledger_connection(), package_settings()
    covered = [alias for alias in connections if connections.settings[alias]["ATOMIC_REQUESTS"]]
    if ledger is None or settings is None or not covered or ledger.alias in covered:
        return []
    if settings.OTHER_TRANSACTION == "error":
        effect = "Enqueuing in a view raises TransactionMismatch"
    else:
        effect = "What a view enqueues runs even if the view's transaction rolls back"
    return [
        catalogue.ATOMIC_REQUESTS.found(
            where(ledger, "ATOMIC_REQUESTS"),
            f"ATOMIC_REQUESTS is on for {', '.join(map(repr, covered))}, but the ledger lives on "
            f"{ledger.alias!r}.",
            f"{effect}: two databases do not commit together. Best, route the app reliable_tasks "
            f"to {covered[0]!r}, where your data is. Or set "
            f"DATABASES[{ledger.alias!r}]['ATOMIC_REQUESTS'] = True; then a crash between the two "
            "commits can still keep one without the other.",
        )
    ]


# -- SQLite -----------------------------------------------------------------------------------


def check_sqlite(**_: object) -> list[CheckMessage]:
    """Look whether several processes can write to an SQLite ledger without failing."""
    connection = ledger_connection()
    if connection is None or connection.vendor != "sqlite":
        return []
    if connection.is_in_memory_db():  # type: ignore[attr-defined]
        return []  # a test's: no second process can open it
    options: dict[str, Any] = connection.settings_dict["OPTIONS"]
    place = where(connection, "OPTIONS")
    found = []
    mode = str(options.get("transaction_mode") or "DEFERRED").upper()
    if mode not in ("IMMEDIATE", "EXCLUSIVE"):
        found.append(_late_lock(place, mode))
    wait = float(options.get("timeout", 5.0))
    if wait < _SHORTEST_WAIT:
        found.append(_short_wait(place, wait))
    if not _WAL.search(str(options.get("init_command") or "")):
        found.append(_no_wal(place))
    return found


def _late_lock(place: str, mode: str) -> CheckMessage:
    return catalogue.SQLITE_MODE.found(
        place,
        f"Transactions begin in SQLite's mode {mode}.",
        "A transaction that has read and then wants to write fails at once with 'database is "
        "locked' if another process wrote meanwhile, however long the timeout is. Set "
        f'{place}["transaction_mode"] = "IMMEDIATE": then it waits for its turn at the start.',
    )


def _short_wait(place: str, wait: float) -> CheckMessage:
    return catalogue.SQLITE_TIMEOUT.found(
        place,
        f"SQLite waits {wait:g} s for its turn to write, then fails with 'database is locked'.",
        "Web processes and workers write to one file in turn, and one batch may take seconds. "
        f'Set {place}["timeout"] = 20 (seconds).',
    )


def _no_wal(place: str) -> CheckMessage:
    return catalogue.SQLITE_WAL.found(
        place,
        "No init_command asks for SQLite's write-ahead log (WAL).",
        "Without it every reader holds up the writer, and the sweeper and the workers read all "
        f'the time. Set {place}["init_command"] = '
        '"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;". '
        "(The file remembers WAL: if you switched it on by hand, silence this check.)",
    )


def where(connection: BaseDatabaseWrapper, *path: str) -> str:
    """Return the name of a database's setting, as one would write it."""
    return "DATABASES" + "".join(f"[{name!r}]" for name in (connection.alias, *path))
