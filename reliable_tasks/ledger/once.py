"""Enqueue with a key: the entry is written only if its key is free.

On PostgreSQL key and entry are one statement. Elsewhere they are two in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q, Value
from django.db.models.functions import Least

from ..dedup import KEPT_AS, Conflict, Hold
from ..models import Entry, Key
from ..states import WAITING
from .enqueue import AGAIN, FIXED, GIVEN, TYPES, NewEntry, row_of
from .expire import is_expired
from .guard import TABLE, explained, ledger_connection, moment_expression, was_written
from .keys import TRIES, clear, holder, holders, taking
from .prepared import Statement

# KEY is a word of MariaDB and MySQL, which quote otherwise than all others.
_INTO: Final = {
    vendor: f"INSERT INTO {TABLE} ({GIVEN}, {', '.join(FIXED)}, {key}) "
    for vendor, key in (("postgresql", "key"), ("sqlite", "key"), ("mysql", "`key`"))
}
_KEY_TYPES: Final = ("uuid", "uuid", "text", "text", "text", "bool")
_PER_STATEMENT: Final = 500


def enqueue_once(entry: NewEntry, *, grace: float, now: datetime | None = None) -> Conflict | bool:
    """Write an entry and take its key, both or neither.

    A call of the same key that has not committed yet is waited for (PostgreSQL, MySQL; SQLite has
    one writer at a time anyway); what became of it decides.

    Args:
        entry: what to write; it has a ``hold``.
        grace: as for :func:`enqueue`.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        True if it was written; False if an entry of this id exists already; otherwise who holds
        the key. Nothing is changed then.
    """
    hold = _hold(entry)
    held: Conflict | None = None
    looks_first = _locks_what_it_finds(ledger_connection())
    for _ in range(TRIES):
        held = holder(hold.digest, now=now) if looks_first else None
        if held is None:
            if _write(entry, hold, grace, now):
                return True
            held = holder(hold.digest, now=now)
        if held is None:
            continue  # freed in between
        if held.entry == entry.id:
            # Written before, or the id of an entry that has ended: then the key is no one's.
            if held.lapsed:
                clear(hold.digest, now=now)
            return False
        if not held.lapsed:
            return held
        clear(hold.digest, now=now)
    assert held is not None
    return held


def _locks_what_it_finds(connection: BaseDatabaseWrapper) -> bool:
    # See Note [Lock order].
    return connection.vendor == "mysql" and connection.in_atomic_block


def enqueue_follower(entry: NewEntry, *, grace: float, now: datetime | None = None) -> bool:
    """Write an entry that knows its key and does not take it: another entry does its work.

    Args:
        entry: what to write; it has a ``hold``.
        grace: as for :func:`enqueue`.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if an entry of this id exists already; nothing is changed then.
    """
    connection = ledger_connection()
    row, params = row_of(connection, entry, grace, now)
    sql = _insert(connection.vendor, f"({row[1:-1]}, %s)")
    with explained(), connection.cursor() as cursor:
        cursor.execute(sql, [*params, _hold(entry).text])
        return was_written(connection, cursor)


def _insert(vendor: str, rows: str) -> str:
    return f"{_INTO[vendor]} VALUES {rows}{AGAIN[vendor]}"


def _hold(entry: NewEntry) -> Hold:
    assert entry.hold is not None, "an entry with a key is meant"
    return entry.hold


def _write(entry: NewEntry, hold: Hold, grace: float, now: datetime | None) -> bool:
    connection = ledger_connection()
    taken, key_params = taking(connection, [(hold, entry.task, entry.id)], now)
    row, params = row_of(connection, entry, grace, now)
    if connection.vendor == "postgresql":
        again = AGAIN[connection.vendor]
        select = f"{_INTO[connection.vendor]} SELECT {row[1:-1]}, %s FROM taken{again}"  # noqa: S608 - constants
        sql = f"WITH taken AS ({taken} RETURNING digest) {select}"
        statement = _statement(sql, about=entry.subject_id is not None)
        with explained(), connection.cursor() as cursor:
            statement.run(connection, cursor, [*key_params, *params, hold.text])
            return bool(cursor.rowcount == 1)
    with explained(), transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(taken, key_params)
        if not was_written(connection, cursor):
            return False
        cursor.execute(_insert(connection.vendor, f"({row[1:-1]}, %s)"), [*params, hold.text])
        return was_written(connection, cursor)


_statements: dict[str, Statement] = {}


def _statement(sql: str, *, about: bool) -> Statement:
    # As many as there are ways to give the times.
    if sql not in _statements:
        if len(_statements) > 64:
            _statements.clear()
        subject = ("text", "text") if about else ()
        _statements[sql] = Statement(sql, (*_KEY_TYPES, *TYPES, *subject, "text"))
    return _statements[sql]


def enqueue_many_once(
    entries: Sequence[NewEntry], *, grace: float, now: datetime | None = None
) -> dict[int, Conflict]:
    """Write many entries with keys, in one transaction; leave out those whose key is held.

    Keys are taken in the order of their digests, so that two such calls cannot deadlock. Of two
    entries with one key the first is written.

    Args:
        entries: what to write; each has a ``hold``.
        grace: as for :func:`enqueue`.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        For each entry that was not written, by its place, who holds its key.
    """
    conflicts: dict[int, Conflict] = {}
    connection = ledger_connection()
    in_order = sorted(enumerate(entries), key=lambda each: _hold(each[1]).digest)
    with explained(), transaction.atomic(using=connection.alias):
        for start in range(0, len(entries), _PER_STATEMENT):
            part = in_order[start : start + _PER_STATEMENT]
            conflicts |= _write_part(connection, part, grace, now)
    return dict(sorted(conflicts.items()))


def _write_part(
    connection: BaseDatabaseWrapper,
    part: Sequence[tuple[int, NewEntry]],
    grace: float,
    now: datetime | None,
) -> dict[int, Conflict]:
    first: dict[UUID, NewEntry] = {}
    for _, entry in part:
        first.setdefault(_hold(entry).digest, entry)
    wanted = first
    others: dict[UUID, Conflict] = {}
    if _locks_what_it_finds(connection):
        held_now = {each.digest: each for each in holders(_of(first), now=now)}
        others = {d: each for d, each in held_now.items() if not each.lapsed}
        wanted = {digest: entry for digest, entry in first.items() if digest not in others}
    for _ in range(TRIES):
        _take_many(connection, wanted, now)
        found = {each.digest: each for each in holders(_of(wanted), now=now)}
        # Ours look as if nothing stood behind them: their entries follow.
        others |= {d: found[d] for d in found if found[d].entry != first[d].id}
        again = {d: first[d] for d in wanted if d not in found or (d in others and found[d].lapsed)}
        for digest in again:
            clear(digest, now=now)
            others.pop(digest, None)
        if not again:
            break
        wanted = again
    mine = {digest: entry for digest, entry in first.items() if digest not in others}
    _insert_rows(connection, list(mine.values()), grace, now)
    if len(mine) == len(part):
        return {}
    # The others as they were when they were met: one that has ended since has no key any more.
    held = others | {each.digest: each for each in holders(_of(mine), now=now)}
    return {
        place: held[_hold(entry).digest]
        for place, entry in part
        if held[_hold(entry).digest].entry != entry.id
    }


def _of(digests: dict[UUID, NewEntry]) -> Q:
    return Q(digest__in=list(digests))


def _take_many(
    connection: BaseDatabaseWrapper, wanted: dict[UUID, NewEntry], now: datetime | None
) -> None:
    chosen = [(_hold(wanted[d]), wanted[d].task, wanted[d].id) for d in sorted(wanted)]
    size = _rows_at_once(connection, 7)
    with connection.cursor() as cursor:
        for start in range(0, len(chosen), size):
            cursor.execute(*taking(connection, chosen[start : start + size], now))


def _rows_at_once(connection: BaseDatabaseWrapper, places: int) -> int:
    limit = connection.features.max_query_params
    return _PER_STATEMENT if limit is None else max(1, min(_PER_STATEMENT, limit // places))


def _insert_rows(
    connection: BaseDatabaseWrapper, entries: Sequence[NewEntry], grace: float, now: datetime | None
) -> None:
    size = _rows_at_once(connection, 21)
    with connection.cursor() as cursor:
        for start in range(0, len(entries), size):
            rows: list[str] = []
            params: list[Any] = []
            for entry in entries[start : start + size]:
                row, values = row_of(connection, entry, grace, now)
                rows.append(f"({row[1:-1]}, %s)")
                params += [*values, _hold(entry).text]
            cursor.execute(_insert(connection.vendor, ",".join(rows)), params)


def change_waiting(
    entry: UUID,
    *,
    args: str,
    kwargs: str,
    arguments: str,
    task: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
    due_at: datetime | None = None,
    delay: float | None = None,
    longest: float | None = None,
    now: datetime | None = None,
) -> bool:
    """Give an entry that waits other arguments, and put it off.

    Args:
        entry: the entry.
        args: JSON of its new positional arguments.
        kwargs: JSON of its new keyword arguments.
        arguments: digest of the new arguments, for its key.
        task: whose arguments they are; the entry may be another task's by now.
        subject_type: with ``subject_id``, what it is about from now on; None for nothing.
        subject_id: see ``subject_type``.
        due_at: when it is due; None for ``delay``.
        delay: seconds from now until it is due; None for both leaves its time as it is.
        longest: seconds after its enqueue beyond which it is not put off.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if the entry does not wait any more, has expired or is another task's; nothing is
        changed then.
    """
    connection = ledger_connection()
    changes: dict[str, Any] = {"args": json.loads(args), "kwargs": json.loads(kwargs)}
    changes |= {"subject_type": subject_type, "subject_id": subject_id}
    if due_at is not None or delay is not None:
        due: Any = moment_expression(delay or 0.0, now) if due_at is None else Value(due_at)
        if longest is not None:
            due = Least(due, F("enqueued_at") + timedelta(seconds=longest))
        changes |= {"due_at": due, "wake_at": due, "publishes": 0}
    with explained(), transaction.atomic(using=connection.alias):
        waiting = Entry.objects.using(connection.alias).filter(
            pk=entry, state__in=WAITING, cancel_requested_at__isnull=True
        )
        waiting = waiting.exclude(is_expired(now)).filter(**({"task": task} if task else {}))
        if not waiting.update(**changes):
            return False
        _change_key(connection, entry, arguments)
        return True


def _change_key(connection: BaseDatabaseWrapper, entry: UUID, arguments: str) -> None:
    """Note of which arguments the key is. The entry's row is locked by the caller."""
    keys = Key.objects.using(connection.alias).filter(entry_id=entry)
    keys.update(arguments=arguments)
    # A retry may take the key again, with what the options keep of it.
    rows = Entry.objects.using(connection.alias).filter(pk=entry)
    kept = rows.values_list("options", flat=True).get()
    if isinstance(kept, dict) and isinstance(kept.get(KEPT_AS), dict):
        kept[KEPT_AS]["arguments"] = arguments
        rows.update(options=kept)
