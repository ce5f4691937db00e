"""Many entries that may differ in everything, as those of the schedules that are due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from .enqueue import AGAIN, INTO, NewEntry, row_of
from .guard import explained, ledger_connection

_PER_STATEMENT: Final = 1000
# A row has this many parameters at most.
_PARAMETERS: Final = 24


def enqueue_many(entries: Sequence[NewEntry], *, grace: float, now: datetime | None = None) -> None:
    """Write many entries, in as few statements as the database allows, in the open transaction.

    Args:
        entries: what to write.
        grace: seconds after each is due until the sweeper publishes it itself.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    again = AGAIN[connection.vendor]
    limit = connection.features.max_query_params
    most = _PER_STATEMENT if limit is None else max(1, min(_PER_STATEMENT, limit // _PARAMETERS))
    with explained(), connection.cursor() as cursor:
        for start in range(0, len(entries), most):
            rows = []
            params: list[Any] = []
            for entry in entries[start : start + most]:
                row, values = row_of(connection, entry, grace, now)
                rows.append(row)
                params += values
            cursor.execute(f"{INTO} VALUES {','.join(rows)}{again}", params)
