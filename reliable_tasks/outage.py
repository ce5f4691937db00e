"""Tells a database that is out of reach from one that is there and has refused a statement.

The class of the exception does not: SQLite calls a missing table an ``OperationalError``, MySQL a
missing column, and PostgreSQL a deadlock, a lock that was waited for too long and a statement that
took too long. All of those leave the connection open, so the connection is asked. Not by Django's
``is_usable()`` alone: it sends a statement, which PostgreSQL refuses within a transaction that has
failed, and SQLite is always usable.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

# What PostgreSQL, and MariaDB and MySQL, say that let nobody write: a replica, the former primary.
_READ_ONLY: Final = "25006"
_READ_ONLY_NUMBERS: Final = frozenset({1290, 1792, 1836})


def out_of_reach(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Tell whether a database could not be asked, or went away meanwhile.

    Args:
        connection: the connection on which a statement has just failed.
        error: as what Django raised that.

    Returns:
        False if the database has answered, and refuses the statement: a failure like any other.
    """
    if connection.connection is None:  # it could not be opened, or is closed by now
        return True
    gone = _GONE.get(connection.vendor)
    return not connection.is_usable() if gone is None else gone(connection.connection, error)


def is_read_only(error: Exception) -> bool:
    """Tell whether a server refused a statement because it lets nobody write.

    After a failover that is the former primary, or a replica to which an old address still led. The
    connection to it works, and would be kept; only another one may lead to where writes are taken.

    Args:
        error: as what Django raised that.
    """
    known = bool(error.args) and error.args[0] in _READ_ONLY_NUMBERS
    return known or _sqlstate(error) == _READ_ONLY


def _left_postgresql(driver: Any, error: Exception) -> bool:
    # The server says goodbye before it hangs up: a connection that failed, a shutdown, an idle
    # session that is ended.
    return bool(driver.closed) or _sqlstate(error).startswith(("08", "57P"))


def _sqlstate(error: Exception) -> str:
    cause = error.__cause__
    return str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")


def _left_sqlite(driver: Any, error: Exception) -> bool:
    # The lower byte of its codes is the kind.
    kind = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return kind in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}


_GONE: Final[dict[str, Callable[[Any, Exception], bool]]] = {
    "postgresql": _left_postgresql,
    "sqlite": _left_sqlite,
}
