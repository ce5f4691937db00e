"""Keys: taken with an entry, released in the transaction that ends it.

Note [Who decides]: one row per key, and its primary key is the key. Whoever inserts that row holds
the key; everybody else's insert waits for the first one's commit and then finds it there. A row
that only a window still keeps is as good as gone once its time has come: the next call deletes it
and inserts its own. So nothing has to happen in time for a key to end in time.

Note [Lock order]: an entry's row first, then its key's. A call that finds its key held only reads:
it leaves no lock behind, which would let the attempt that holds the key wait for the caller's
commit. An INSERT of MariaDB or MySQL does leave one on the row that it finds; so in a transaction
one looks there first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q, TextField
from django.db.models.functions import Cast
from django.utils.dateparse import parse_datetime

from .. import options
from ..dedup import FOLLOWS, WAITING_ONLY, Conflict, Hold
from ..errors import CorruptEntry
from ..models import Entry, Key
from ..states import ACTIVE, WAITING, State
from .guard import (
    TABLE,
    database_id,
    explained,
    ledger_connection,
    moment,
    moment_expression,
    unless_there,
    was_written,
    write,
)

KEYS: Final = Key._meta.db_table
COLUMNS: Final = "digest, entry_id, task, text, arguments, holds_dead, held_at, until"
#: Between two statements of a call a key may be freed and taken by others. So often it may happen.
TRIES: Final = 10
_LIVE: Final = ", ".join(f"'{state}'" for state in sorted(ACTIVE))
_SINCE_HELD: Final = {
    "postgresql": "held_at + %s * interval '1 second'",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f', held_at, %s || ' seconds')",
    "mysql": "held_at + INTERVAL %s * 1000000 MICROSECOND",
}
_LATER_OF: Final = {"postgresql": "GREATEST", "sqlite": "MAX", "mysql": "GREATEST"}


def taking(
    connection: BaseDatabaseWrapper, wanted: Sequence[tuple[Hold, str, UUID]], now: datetime | None
) -> tuple[str, list[Any]]:
    """Return the statement that takes keys that nobody holds, and its parameters.

    Args:
        connection: the ledger's connection.
        wanted: for each key itself, the task's name, and the entry that takes it.
        now: a fixed time instead of the database's clock, for tests.
    """
    at, at_params = moment(connection, 0.0, now)
    params: list[Any] = []
    for hold, task, entry in wanted:
        params += [
            database_id(connection, hold.digest),
            database_id(connection, entry),
            task,
            hold.text,
            hold.arguments,
            hold.holds_dead,
            *at_params,
        ]
    rows = ", ".join([f"(%s, %s, %s, %s, %s, %s, {at}, NULL)"] * len(wanted))
    otherwise = unless_there(connection.vendor, "digest", "holds_dead")
    return f"INSERT INTO {KEYS} ({COLUMNS}) VALUES {rows}{otherwise}", params  # noqa: S608 - constants


def taken(
    connection: BaseDatabaseWrapper, hold: Hold, task: str, entry: UUID, now: datetime | None
) -> bool:
    """Take one key unless somebody holds it, and tell whether that was so; see :func:`taking`."""
    with explained(), connection.cursor() as cursor:
        cursor.execute(*taking(connection, [(hold, task, entry)], now))
        return was_written(connection, cursor)


def take(hold: Hold, task: str, entry: UUID, *, now: datetime | None = None) -> Conflict | None:
    """Take a key for an entry that is there already.

    Args:
        hold: the key.
        task: the task's name.
        entry: who takes it.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        None if the entry holds it now (or did already), otherwise who holds it.
    """
    connection = ledger_connection()
    held = None
    for _ in range(TRIES):
        if taken(connection, hold, task, entry, now):
            return None
        held = holder(hold.digest, now=now)
        if held is not None and held.entry == entry:
            # A dead entry that kept it.
            mine = Key.objects.using(connection.alias).filter(pk=hold.digest, entry_id=entry)
            if mine.update(until=None, held_at=moment_expression(0.0, now)):
                return None
        elif held is not None:
            if not held.lapsed:
                return held
            clear(hold.digest, now=now)
    return held


def holder(digest: UUID, *, now: datetime | None = None) -> Conflict | None:
    """Return who holds a key, None if nobody does."""
    # By hand, like the statement before it in a call: refused calls may be many.
    found = _read("k.digest = %s", [database_id(ledger_connection(), digest)], "", now)
    return found[0] if found else None


def holders(which: Q, *, limit: int | None = None, now: datetime | None = None) -> list[Conflict]:
    """Return who holds the keys that a condition chooses, the longest held first.

    Rows that nothing stands behind any more are among them, as ``lapsed``.

    Args:
        which: a condition on rows of ``Key``.
        limit: most to return.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    rows = Key.objects.using(connection.alias).filter(which).order_by("held_at", "digest")
    with explained():
        digests = [database_id(connection, pk) for pk in rows.values_list("pk", flat=True)[:limit]]
    if not digests:
        return []
    places = ", ".join(["%s"] * len(digests))
    return _read(f"k.digest IN ({places})", digests, " ORDER BY k.held_at, k.digest", now)


def _read(where: str, params: list[Any], order: str, now: datetime | None) -> list[Conflict]:
    connection = ledger_connection()
    at, at_params = moment(connection, 0.0, now)
    sql = (
        "SELECT k.digest, k.entry_id, k.task, k.text, k.arguments, k.holds_dead, k.held_at, "  # noqa: S608 - constants
        f"k.until, e.state, e.expires_at, {at} "
        f"FROM {KEYS} k LEFT JOIN {TABLE} e ON e.id = k.entry_id WHERE {where}{order}"
    )
    with explained(), connection.cursor() as cursor:
        cursor.execute(sql, [*at_params, *params])
        return [_conflict(row) for row in cursor.fetchall()]


def _conflict(row: Sequence[Any]) -> Conflict:
    digest, entry, task, text, arguments, holds_dead, held_at, until, state, *times = row
    held_at, until, expires_at, at = map(_time, (held_at, until, *times))
    frees_in = None if until is None else (until - at).total_seconds()
    if frees_in is None:
        lapsed = state not in ACTIVE and not (state == State.DEAD and holds_dead)
    else:
        lapsed = frees_in <= 0
    return Conflict(
        digest=digest if isinstance(digest, UUID) else UUID(digest),
        text=text,
        entry=entry if isinstance(entry, UUID) else UUID(entry),
        task=task,
        state=state,
        arguments=arguments,
        held_at=held_at,
        age=max(0.0, (at - held_at).total_seconds()),
        frees_in=frees_in,
        lapsed=lapsed,
        expired=state in WAITING and expires_at is not None and expires_at <= at,
    )


def _time(value: Any) -> Any:
    """Return a time as the driver gives it, aware; SQLite gives text, MySQL no zone."""
    moment = parse_datetime(value) if isinstance(value, str) else value
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)


def clear(digest: UUID, *, now: datetime | None = None) -> bool:
    """Delete a key's row if nothing stands behind it any more; see Note [Who decides].

    That is when its window has ended, or when its entry was ended or deleted by other hands than
    the ledger's.

    Args:
        digest: the key.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        True if the key is to be had.
    """
    connection = ledger_connection()
    at, at_params = moment(connection, 0.0, now)
    kept = (
        f"SELECT 1 FROM {TABLE} e WHERE e.id = {KEYS}.entry_id AND (e.state IN ({_LIVE}) "  # noqa: S608 - constants
        f"OR (e.state = '{State.DEAD}' AND {KEYS}.holds_dead))"
    )
    gone = write(
        connection,
        f"DELETE FROM {KEYS} WHERE digest = %s AND (until <= {at} "  # noqa: S608 - constants
        f"OR (until IS NULL AND NOT EXISTS ({kept})))",
        [database_id(connection, digest), *at_params],
    )
    return gone == 1


def after_success(
    connection: BaseDatabaseWrapper, hold: Hold | None, now: datetime | None
) -> tuple[str, list[Any]]:
    """Return the statement that ends a key, or begins its window, when its entry succeeds.

    Args:
        connection: the ledger's connection.
        hold: the key; None if what the entry keeps of it cannot be read.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        The statement up to "WHERE entry_id", and its parameters.
    """
    if hold is None or not hold.lingers:
        return f"DELETE FROM {KEYS} WHERE entry_id", []  # noqa: S608 - constants
    parts: list[str] = []
    params: list[Any] = []
    if hold.window is not None:
        sql, more = moment(connection, hold.window, now)
        parts.append(sql)
        params += more
    if hold.period is not None:
        parts.append(_SINCE_HELD[connection.vendor])
        params.append(hold.period)
    until = parts[0] if len(parts) == 1 else f"{_LATER_OF[connection.vendor]}({', '.join(parts)})"
    return f"UPDATE {KEYS} SET until = {until} WHERE entry_id", params  # noqa: S608 - constants


def release(entry_ids: Collection[UUID], *, died: bool = False) -> int:
    """Release the keys of entries that have ended without success, in the caller's transaction.

    Args:
        entry_ids: entries that took a key.
        died: they are dead: what ``after_death`` says holds.

    Returns:
        How many were released.
    """
    if not entry_ids:
        return 0
    keys = Key.objects.using(ledger_connection().alias).filter(entry_id__in=entry_ids)
    if died:
        keys = keys.filter(holds_dead=False)
    return int(keys._raw_delete(keys.db))


def take_again(entries: Iterable[tuple[UUID, str, Hold | None]], now: datetime | None) -> None:
    """Let entries that wait again block again, where nobody has taken their key meanwhile.

    Args:
        entries: id, task and key of each.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    for entry, task, hold in entries:
        if hold is not None and hold.blocks == WAITING_ONLY:
            taken(connection, hold, task, entry, now)


def holds_of(rows: Sequence[Entry], *, following: bool = True) -> dict[UUID, Hold]:
    """Return the keys of those entries that took one. For rows that know their ``key``.

    Args:
        rows: the entries.
        following: also of those that follow another entry, which know a key and do not hold it.
    """
    keyed = {row.pk: row.key for row in rows if row.key is not None}
    if not keyed:
        return {}
    alias = ledger_connection().alias
    found = {}
    # As text: what is no JSON must not end the whole sweep.
    kept_text = Cast("options", TextField())
    for pk, kept in Entry.objects.using(alias).filter(pk__in=keyed).values_list("pk", kept_text):
        try:
            known = options.loads(kept)
            hold = Hold.of(known, keyed[pk])
        except CorruptEntry:
            continue
        if hold is not None and (following or FOLLOWS not in known):
            found[pk] = hold
    return found
