"""What every write of the ledger is built from: the connection, its clock, and the guard.

Note [One clock]: all times in the ledger are the database's own, so that workers whose clocks
disagree cannot start an entry early or take over a healthy lease. A test passes ``now`` instead.

Note [Guarded write]: each statement that changes a state repeats its whole precondition (id,
expected state, and the token where there is one) and its row count is checked. A write that touches
no row has lost a race, and its caller is told. Who moves many rows at once (``operate``, ``due``)
locks them first, in the transaction that changes them, and tells of those: there the lock stands
for the count. Where a database has no such lock, that transaction shuts out every other writer.

Note [Held locks]: a process that is frozen within a transaction keeps its locks, and who needs one
of those rows waits as long. So PostgreSQL ends a transaction of the keeper's or the sweeper's that
stands still, and none of them waits for long: a keeper that waited for one row would lose the
leases of all that its worker runs. An application's own transaction may stay open as it likes. What
waits for that is the claim of the very entry that it has changed, which must know what became of
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from ..errors import LedgerNotReady
from ..models import Entry, database_for_ledger

TABLE: Final = Entry._meta.db_table

_HURRY: Final = (
    "SELECT set_config('lock_timeout', '2s', true), "
    "set_config('idle_in_transaction_session_timeout', '10s', true)"
)

_NOW: Final = {
    "postgresql": "statement_timestamp()",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now')",
    "mysql": "UTC_TIMESTAMP(6)",
}
_LATER: Final = {
    "postgresql": "statement_timestamp() + %s * interval '1 second'",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f','now', %s || ' seconds')",
    "mysql": "UTC_TIMESTAMP(6) + INTERVAL %s * 1000000 MICROSECOND",
}


def ledger_connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to the ledger's database."""
    return connections[database_for_ledger()]


def moment(
    connection: BaseDatabaseWrapper, seconds: float = 0.0, now: datetime | None = None
) -> tuple[str, list[Any]]:
    """Return SQL for a time relative to the database's clock. See Note [One clock].

    Args:
        connection: the ledger's connection.
        seconds: how far ahead.
        now: a fixed time instead of the clock, for tests.

    Returns:
        An SQL expression and its parameters.
    """
    if now is not None:
        value = connection.ops.adapt_datetimefield_value(now + timedelta(seconds=seconds))
        return "%s", [value]
    if not seconds:
        return _NOW[connection.vendor], []
    return _LATER[connection.vendor], [float(seconds)]


def moment_expression(seconds: float = 0.0, now: datetime | None = None) -> Combinable:
    """Return the same as :func:`moment` for use in a queryset."""
    if now is not None:
        return Value(now + timedelta(seconds=seconds), output_field=DateTimeField())
    if not seconds:
        return Now()
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def database_id(connection: BaseDatabaseWrapper, value: UUID | None) -> UUID | str | None:
    """Return a UUID as this database's driver takes it in raw SQL."""
    if value is None or connection.features.has_native_uuid_field:
        return value
    return value.hex


def unless_there(vendor: str, key: str, number: str) -> str:
    """Return the end of an INSERT that leaves a row that is there already alone.

    MariaDB's and MySQL's ``INSERT IGNORE`` would also cut and bend values to make them fit, and two
    that wait for one row would share its lock and then deadlock. ``ON DUPLICATE KEY`` counts the
    row that it left alone like one that it wrote, as Django connects: so that one says its word in
    the statement's "insert id".

    Args:
        vendor: the database's kind.
        key: the primary key's column.
        number: any column of numbers.
    """
    if vendor == "mysql":
        return f" ON DUPLICATE KEY UPDATE {number} = {number} + 0 * LAST_INSERT_ID(1)"
    return f" ON CONFLICT ({key}) DO NOTHING"


def was_written(connection: BaseDatabaseWrapper, cursor: CursorWrapper) -> bool:
    """Tell whether the INSERT of one row that ended so wrote it."""
    if connection.vendor == "mysql":
        return not cursor.lastrowid
    return bool(cursor.rowcount == 1)


def write(connection: BaseDatabaseWrapper, sql: str, params: list[Any]) -> int:
    """Run one guarded statement. See Note [Guarded write].

    Args:
        connection: the ledger's connection.
        sql: the statement, with its whole precondition.
        params: its parameters.

    Returns:
        How many rows it touched.

    Raises:
        LedgerNotReady: the ledger's tables are missing or too old.
    """
    with explained(), connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


@contextmanager
def short_transaction() -> Iterator[None]:
    """Open a transaction of a background thread, which must hold up nobody and not be held up.

    See Note [Held locks].

    Raises:
        OperationalError: a row stayed locked by somebody else. Nothing was changed.
    """
    connection = ledger_connection()
    within = connection.in_atomic_block
    with explained(), transaction.atomic(using=connection.alias):
        if connection.vendor == "postgresql" and not within:
            with connection.cursor() as cursor:
                cursor.execute(_HURRY)
        yield


@contextmanager
def explained() -> Iterator[None]:
    """Turn the database's word for a missing table or column into one that says what to do.

    Raises:
        LedgerNotReady: the ledger's tables are missing or too old.
    """
    try:
        yield
    except DatabaseError as error:
        text = str(error)
        if _NOT_MIGRATED.search(text):
            raise LedgerNotReady(
                f"The ledger's tables do not match this code: {text.strip().splitlines()[0]}. "
                "Run `manage.py migrate reliable_tasks` on the ledger's database "
                f"({database_for_ledger()!r})."
            ) from error
        raise


# SQLite, PostgreSQL, MySQL. Not "database … does not exist", which migrate would not mend.
_NOT_MIGRATED: Final = re.compile(
    r"no such (table|column)|has no column named"
    r"|^(relation|column) .*does not exist"
    r"|Table .* doesn't exist|Unknown column"
)
