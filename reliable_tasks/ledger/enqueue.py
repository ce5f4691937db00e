"""Enqueue: write entries in whatever transaction the caller has open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ..dedup import Hold
from ..models import Entry
from ..states import State
from .guard import (
    TABLE,
    database_id,
    explained,
    ledger_connection,
    moment,
    unless_there,
    was_written,
)
from .prepared import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """An entry that is about to be written.

    Attributes:
        id: its id, known before it is written.
        task: the task's name.
        args: JSON text of the positional arguments.
        kwargs: JSON text of the keyword arguments.
        options: JSON text of the options, or None.
        queue: the queue it is published to.
        priority: the broker's priority, or None.
        max_retries: the task's limit, for people to read; None for no limit.
        crash_budget: attempts that may take their process down.
        due_at: not claimed before; None for now.
        delay: seconds from now until it is due, when ``due_at`` is None.
        expires_at: not claimed after; None for never.
        expires_in: seconds from now until it expires, when ``expires_at`` is None.
        root_id: the first entry or task of the workflow.
        parent_id: the entry or task that enqueued it.
        group_id: the group it belongs to.
        schedule: the schedule that enqueued it.
        subject_type: label of the model of the row that it is about; None for none.
        subject_id: primary key of that row, as text.
        hold: the key that it takes, or None; see ``ledger.once``.
    """

    id: UUID
    task: str
    args: str = "[]"
    kwargs: str = "{}"
    options: str | None = None
    queue: str
    priority: int | None = None
    max_retries: int | None = None
    crash_budget: int
    due_at: datetime | None = None
    delay: float = 0.0
    expires_at: datetime | None = None
    expires_in: float | None = None
    root_id: UUID | None = None
    parent_id: UUID | None = None
    group_id: UUID | None = None
    schedule: str = ""
    subject_type: str | None = None
    subject_id: str | None = None
    hold: Hold | None = None


# Columns that a new entry fills from the call, then those that start the same for every entry.
GIVEN: Final = (
    "id, task, args, kwargs, options, queue, priority, max_retries, crash_budget, root_id, "
    "parent_id, group_id, schedule, enqueued_at, due_at, wake_at, publishes, expires_at, "
    "subject_type, subject_id"
)
FIXED: Final[dict[str, str]] = {
    "state": f"'{State.PENDING}'",
    "attempt": "0",
    "retries": "0",
    "crashes": "0",
    "worker": "''",
    "error_class": "''",
    "error_message": "''",
    "fingerprint": "''",
    "reason": "''",
}
#: Reason of an entry that put a workflow in its place.
WORKFLOW: Final = "Replaced by a workflow, whose last step stores the result under this id."
INTO: Final = f"INSERT INTO {TABLE} ({GIVEN}, {', '.join(FIXED)}) "
_HEAD: Final = INTO + "VALUES "
_ARRAYS: Final = "unnest(%s::uuid[], %s::jsonb[], %s::jsonb[]) AS call (id, args, kwargs)"
_ARRAYS_ABOUT: Final = (
    "unnest(%s::uuid[], %s::jsonb[], %s::jsonb[], %s::text[]) AS call (id, args, kwargs, subject)"
)
_NO_SUBJECT: Final = "NULL,NULL"
_SUBJECT: Final = "%s,%s"
_OF_CALL: Final = "%s,call.subject"
# Of an entry that is due at once and never expires, which is nearly every one.
TYPES: Final = (
    *("uuid", "text", "jsonb", "jsonb", "jsonb", "text", "int2", "int4", "int2"),
    *("uuid", "uuid", "uuid", "text", "float8"),
)
_PER_STATEMENT: Final = 1000
_TAIL: Final = ", ".join(FIXED.values())
# An id that is there already means that this very entry was written before (a chain's next step
# written with the finish of the previous one, or a caller that repeats itself): not an error.
AGAIN: Final = {
    vendor: unless_there(vendor, "id", "attempt") for vendor in ("postgresql", "sqlite", "mysql")
}


def enqueue(entry: NewEntry, *, grace: float, now: datetime | None = None) -> bool:
    """Write one entry with one statement.

    Args:
        entry: what to write.
        grace: seconds after it is due until the sweeper publishes it itself.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if an entry of this id exists already; nothing is changed then.

    Raises:
        LedgerNotReady: the ledger's tables are missing or too old.
    """
    connection = ledger_connection()
    row, params = row_of(connection, entry, grace, now)
    statement = _inserting(connection.vendor, row, entry.subject_id is not None)
    with explained(), connection.cursor() as cursor:
        statement.run(connection, cursor, params)
        return was_written(connection, cursor)


# As many as there are ways to give the times.
@lru_cache(maxsize=64)
def _inserting(vendor: str, row: str, about: bool) -> Statement:
    types = (*TYPES, "text", "text") if about else TYPES
    return Statement(_HEAD + row + AGAIN[vendor], types)


def enqueue_alike(
    template: NewEntry,
    calls: Sequence[tuple[UUID, str, str]],
    *,
    grace: float,
    subjects: Sequence[str] | None = None,
    now: datetime | None = None,
) -> None:
    """Write many entries that differ in nothing but their ids, arguments and subjects.

    On PostgreSQL the ids and arguments go as three arrays, which costs a tenth of a placeholder
    for each value of each row.

    Args:
        template: everything that they share; its own id and arguments are not used.
        calls: for each entry its id, and the JSON texts of its args and kwargs.
        grace: as for :func:`enqueue`.
        subjects: for each entry the key of the row that it is about, all of the template's
            ``subject_type``; None if they are about none.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    template = replace(template, subject_id=None if subjects is None else "")
    row, params = row_of(connection, template, grace, now)
    again = AGAIN[connection.vendor]
    columns = [*zip(*calls, strict=True), *([] if subjects is None else [subjects])]
    with explained(), connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            rows = [_with(connection, params, *call) for call in zip(*columns, strict=True)]
            if connection.vendor == "sqlite":
                cursor.executemany(_HEAD + row + again, rows)
                return
            for start in range(0, len(rows), _PER_STATEMENT):
                part = rows[start : start + _PER_STATEMENT]
                cursor.execute(_HEAD + ",".join([row] * len(part)) + again, [*chain(*part)])
            return
        select = row.strip("()").replace("%s,%s,%s,%s,", "call.id,%s,call.args,call.kwargs,", 1)
        arrays, shared = _ARRAYS, [params[1], *params[4:]]
        if subjects is not None:
            select = select.replace(f"{_SUBJECT},{_TAIL}", f"{_OF_CALL},{_TAIL}")
            arrays = _ARRAYS_ABOUT
            shared.pop()
        for start in range(0, len(calls), _PER_STATEMENT):
            some = [list(column[start : start + _PER_STATEMENT]) for column in columns]
            cursor.execute(
                f"{INTO} SELECT {select} FROM {arrays}{again}",  # noqa: S608 - constants
                [*shared, *some],
            )


def _with(
    connection: BaseDatabaseWrapper,
    params: list[Any],
    entry_id: UUID,
    args: str,
    kwargs: str,
    *subject: str,
) -> list[Any]:
    shared = params[4:-1] if subject else params[4:]
    return [database_id(connection, entry_id), params[1], args, kwargs, *shared, *subject]


def row_of(
    connection: BaseDatabaseWrapper, entry: NewEntry, grace: float, now: datetime | None
) -> tuple[str, list[Any]]:
    """Return the values of an entry's row in the order of ``INTO``, and their parameters."""
    now_sql, now_params = moment(connection, 0.0, now)
    due_sql, due_params = _time(connection, entry.due_at, entry.delay, now)
    wake_sql, wake_params = _wake(connection, entry, grace, now)
    expires_sql: str = "NULL"
    expires_params: list[Any] = []
    if entry.expires_at is not None or entry.expires_in is not None:
        expires_sql, expires_params = _time(
            connection, entry.expires_at, entry.expires_in or 0.0, now
        )
        # The sweeper must look when it expires, if that comes first.
        wake_sql = f"CASE WHEN {expires_sql} < {wake_sql} THEN {expires_sql} ELSE {wake_sql} END"
        wake_params = [*expires_params, *wake_params, *expires_params, *wake_params]
    params: list[Any] = [
        database_id(connection, entry.id),
        entry.task,
        entry.args,
        entry.kwargs,
        entry.options,
        entry.queue,
        entry.priority,
        entry.max_retries,
        entry.crash_budget,
        database_id(connection, entry.root_id),
        database_id(connection, entry.parent_id),
        database_id(connection, entry.group_id),
        entry.schedule,
        *now_params,
        *due_params,
        *wake_params,
        *expires_params,
    ]
    subject = _NO_SUBJECT
    if entry.subject_id is not None:
        subject = _SUBJECT
        params += [entry.subject_type, entry.subject_id]
    places = "%s," * 13
    # The caller's own publish is counted in advance; what is due later nobody has published.
    publishes = 0 if _due_later(entry) else 1
    times = f"{now_sql},{due_sql},{wake_sql},{publishes},{expires_sql}"
    return f"({places}{times},{subject},{_TAIL})", params


def _time(
    connection: BaseDatabaseWrapper, at: datetime | None, seconds: float, now: datetime | None
) -> tuple[str, list[Any]]:
    if at is None:
        return moment(connection, seconds, now)
    return "%s", [connection.ops.adapt_datetimefield_value(at)]


def _wake(
    connection: BaseDatabaseWrapper, entry: NewEntry, grace: float, now: datetime | None
) -> tuple[str, list[Any]]:
    # Due now: the caller publishes after commit, the sweeper looks only a grace later.
    # Due later: nobody publishes before, so the sweeper must look at that very time.
    if _due_later(entry):
        return _time(connection, entry.due_at, entry.delay, now)
    return moment(connection, grace, now)


def _due_later(entry: NewEntry) -> bool:
    return entry.due_at is not None or entry.delay > 0


def exists(entry_id: UUID) -> bool:
    """Tell whether the ledger has an entry of this id."""
    return Entry.objects.using(ledger_connection().alias).filter(pk=entry_id).exists()


def was_replaced(entry_id: UUID) -> bool:
    """Tell whether an entry has ended by putting a workflow in its place."""
    alias = ledger_connection().alias
    ended = Entry.objects.using(alias).filter(pk=entry_id, state=State.SUCCEEDED)
    return ended.filter(reason=WORKFLOW).exists()
