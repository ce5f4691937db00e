"""Prepared statements for the three that run once for every entry: enqueue, claim, succeed.

Parsing and planning them anew costs PostgreSQL more than carrying them out. They are prepared once
on each connection, under a name made from their text.

A pooler that hands out another server connection for each transaction does not know of them. So
they are used only outside of transactions, where a failure spoils nothing: the same statement is
then sent in full, and preparing is given up for the process.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from typing import Any, Final

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

logger = logging.getLogger("reliable_tasks.ledger")

_ON_CONNECTION: Final = "_reliable_tasks_prepared"
# The server does not have it; has it already; or a migration changed what it returns.
_LOST: Final = frozenset({"26000", "42P05", "0A000"})


class Statement:
    """One statement with its parameters' types.

    Args:
        sql: the statement, with ``%s`` for each parameter.
        types: the parameters' types in PostgreSQL's words.
    """

    given_up = False

    def __init__(self, sql: str, types: tuple[str, ...]) -> None:
        self.sql = sql
        # With a fixed time in place of the clock, as in tests, there are other parameters.
        self._fits = sql.count("%s") == len(types)
        digest = hashlib.sha256(sql.encode()).hexdigest()[:12]
        self._name = f"reliable_tasks_{digest}"
        numbers = itertools.count(1)
        parts = sql.split("%s")
        text = "".join(f"{part}${next(numbers)}" for part in parts[:-1]) + parts[-1]
        self._prepare = f"PREPARE {self._name} ({', '.join(types)}) AS {text}"
        self._execute = f"EXECUTE {self._name} ({', '.join(['%s'] * len(types))})"

    def run(
        self, connection: BaseDatabaseWrapper, cursor: CursorWrapper, params: list[Any]
    ) -> None:
        """Run the statement on a cursor, prepared where that is possible.

        Args:
            connection: the cursor's connection.
            cursor: has the rows and the row count afterwards.
            params: the parameters.
        """
        if self._may_prepare(connection):
            try:
                self._run_prepared(connection, cursor, params)
            except DatabaseError as error:
                if sqlstate(error) not in _LOST:
                    raise
                Statement.given_up = True
                logger.info("Prepared statements are not used any more: %s", error)
            else:
                return
        cursor.execute(self.sql, params)

    def _may_prepare(self, connection: BaseDatabaseWrapper) -> bool:
        return (
            connection.vendor == "postgresql"
            and self._fits
            # EXECUTE takes no parameters of the protocol, only literals.
            and not connection.settings_dict["OPTIONS"].get("server_side_binding")
            and not Statement.given_up
            and not connection.in_atomic_block
            and connection.get_autocommit()
        )

    def _run_prepared(
        self, connection: BaseDatabaseWrapper, cursor: CursorWrapper, params: list[Any]
    ) -> None:
        # Kept with the driver's connection that has them: Django may replace it behind its wrapper.
        driver, names = vars(connection).get(_ON_CONNECTION, (None, None))
        if driver is not connection.connection:
            names = set()
            setattr(connection, _ON_CONNECTION, (connection.connection, names))
        if self._name not in names:
            cursor.execute(self._prepare)
            names.add(self._name)
        cursor.execute(self._execute, params)


def sqlstate(error: DatabaseError) -> str:
    """Return the SQLSTATE of a database error, empty if the driver told none."""
    cause = error.__cause__
    return str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
