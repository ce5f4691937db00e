"""Checks that ask the ledger's database. They do nothing unless its alias is among those given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from django.core.checks import CheckMessage
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from . import catalogue
from .databases import where
from .reading import ledger_connection

# What says whether a commit waits for the disk: how to ask, the values with which it does not, and
# the value that mends it.
_DURABILITY: Final = {
    "postgresql": ("synchronous_commit", "SHOW synchronous_commit", {"off"}, "on"),
    "mysql": (
        "innodb_flush_log_at_trx_commit",
        "SELECT @@innodb_flush_log_at_trx_commit",
        {"0", "2"},
        "1",
    ),
}


def check_tables(databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Look whether the ledger's database answers and its tables are those of this code.

    Args:
        databases: the aliases that may be asked; nothing is done for any other.
    """
    connection = ledger_connection()
    if connection is None or connection.alias not in (databases or ()) or _is_migrating():
        return []
    try:
        missing = _unapplied(connection)
    except Error as error:
        return [_no_answer(connection, error)]
    if not missing:
        return []
    return [
        catalogue.NOT_MIGRATED.found(
            where(connection),
            f"The ledger's tables on {connection.alias!r} lack {', '.join(missing)}.",
            "Enqueuing raises LedgerNotReady and workers cannot claim until they are there. Run "
            f"`manage.py migrate reliable_tasks --database {connection.alias}`.",
        )
    ]


def _is_migrating() -> bool:
    # `manage.py migrate` runs the database checks first, and is about to do what is asked for here.
    return sys.argv[1:2] == ["migrate"]


def _unapplied(connection: BaseDatabaseWrapper) -> list[str]:
    from django.apps import apps
    from django.db.migrations.loader import MigrationLoader

    label = "reliable_tasks"
    loader = MigrationLoader(connection)
    if label in loader.migrated_apps:
        on_disk = {key for key in loader.disk_migrations if key[0] == label}
        return [f"migration {name}" for _, name in sorted(on_disk - set(loader.applied_migrations))]
    there = set(connection.introspection.table_names())
    tables = [model._meta.db_table for model in apps.get_app_config(label).get_models()]
    return [f"table {name}" for name in tables if name not in there]


def _no_answer(connection: BaseDatabaseWrapper, error: Error) -> CheckMessage:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return catalogue.UNREACHABLE.found(
        where(connection),
        f"The ledger's database {connection.alias!r} does not answer: {first_line}",
        "No task can be enqueued or run without it. Check the server, and HOST, PORT, USER and "
        f"NAME in {where(connection)}; `manage.py dbshell --database {connection.alias}` tries "
        "the same.",
    )


def check_durability(databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Look whether what is committed survives a crash of the database server.

    Args:
        databases: the aliases that may be asked; nothing is done for any other.
    """
    connection = ledger_connection()
    if connection is None or connection.alias not in (databases or ()):
        return []
    if connection.vendor not in _DURABILITY:
        return []
    name, question, lax, strict = _DURABILITY[connection.vendor]
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            value = str(cursor.fetchone()[0])
    except Error:
        return []  # check_tables says that it does not answer
    if value not in lax:
        return []
    return [
        catalogue.DURABILITY.found(
            where(connection),
            f"{name} is {value} on {connection.alias!r}: a commit does not wait for the disk.",
            "A server that crashes may take back the last commits: tasks that were enqueued, and "
            "claims, whose tokens are then given out again, so that an attempt that still runs is "
            f"not fenced. Set it to {strict} for the role that web processes and workers use; "
            "other roles may keep it.",
        )
    ]
