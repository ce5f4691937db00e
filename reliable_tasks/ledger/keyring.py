"""What an operator, the sweeper, and the start of an attempt do with keys."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..dedup import FOLLOWS, LIVE, REFUSED, Conflict
from ..models import Entry, Key
from ..states import ACTIVE, State
from .guard import TABLE, database_id, explained, ledger_connection, moment_expression, write
from .keys import KEYS, holder, holders, holds_of, release


def free_at_start(entry: UUID, token: int) -> None:
    """Release the key of an entry that blocks only while it waits: its attempt begins.

    Args:
        entry: the entry.
        token: the attempt. One that has lost its entry meanwhile releases nothing: the entry may
            wait again, and block.
    """
    connection = ledger_connection()
    running = f"id = %s AND state = '{State.RUNNING}' AND attempt = %s"
    params = [database_id(connection, entry), token]
    # The entry first, and locked: see Note [Lock order].
    if connection.vendor == "mysql":  # which says little of the order within one statement
        with transaction.atomic(using=connection.alias):
            rows = _rows().filter(pk=entry, state=State.RUNNING, attempt=token)
            if list(rows.select_for_update().values_list("pk")):
                release([entry])
        return
    lock = " FOR NO KEY UPDATE" if connection.vendor == "postgresql" else ""
    write(
        connection,
        f"DELETE FROM {KEYS} WHERE entry_id IN (SELECT id FROM {TABLE} WHERE {running}{lock})",  # noqa: S608 - constants
        params,
    )


def free_started(entry: UUID) -> bool:
    """Release the key of an entry whose attempt has begun without doing so yet.

    Args:
        entry: the entry.

    Returns:
        Whether it runs, and its key blocks only while it waits: the key is to be had then.
    """
    with explained(), transaction.atomic(using=ledger_connection().alias):
        rows = _rows().filter(pk=entry, state=State.RUNNING, key__isnull=False)
        hold = holds_of(list(rows.select_for_update().only("pk", "key"))).get(entry)
        if hold is None or hold.blocks == LIVE:
            return False
        release([entry])
        return True


def forget_lapsed(*, batch: int, now: datetime | None = None) -> int:
    """Delete rows of keys whose window has ended; nobody waits for that.

    Args:
        batch: most rows to delete.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many were deleted.
    """
    connection = ledger_connection()
    lapsed = Key.objects.using(connection.alias).filter(
        until__isnull=False, until__lte=moment_expression(0.0, now)
    )
    chosen = lapsed.order_by("until")
    if connection.features.has_select_for_update_skip_locked:
        chosen = chosen.select_for_update(skip_locked=True)
    with explained(), transaction.atomic(using=connection.alias):
        digests = list(chosen.values_list("pk", flat=True)[:batch])
        return int(lapsed.filter(pk__in=digests)._raw_delete(connection.alias)) if digests else 0


def held_by_others(entry_ids: Collection[UUID]) -> dict[UUID, Conflict]:
    """Return for entries that took a key once, and do not hold it now, who does.

    Args:
        entry_ids: the entries.
    """
    alias = ledger_connection().alias
    rows = Entry.objects.using(alias).filter(pk__in=entry_ids, key__isnull=False)
    holds = holds_of(list(rows.only("pk", "key")))
    which = Q(digest__in=[hold.digest for hold in holds.values()])
    held = {each.digest: each for each in holders(which)} if holds else {}
    return {
        pk: held[hold.digest]
        for pk, hold in holds.items()
        if hold.digest in held and held[hold.digest].entry != pk and not held[hold.digest].lapsed
    }


def release_key(
    digest: UUID, *, reason: str, entry: UUID | None = None, as_of: datetime | None = None
) -> Conflict | None:
    """Release a key; its entry goes on without it.

    Args:
        digest: the key.
        reason: why, in words; kept on the entry, unless that has ended, and a reason of its own.
        entry: only if this entry holds it; None for whoever does.
        as_of: only if it was held by then already.

    Returns:
        Who held it; None if nobody did, or not as was asked.
    """
    alias = ledger_connection().alias
    with explained(), transaction.atomic(using=alias):
        held = holder(digest)
        if held is None or (entry is not None and held.entry != entry):
            return None
        gone = Key.objects.using(alias).filter(pk=digest, entry_id=held.entry)
        if as_of is not None:
            gone = gone.filter(held_at__lte=as_of)
        # The entry first: see Note [Lock order].
        rows = Entry.objects.using(alias).filter(pk=held.entry)
        list(rows.select_for_update().values_list("pk"))
        if not gone._raw_delete(alias):
            return None
        rows.filter(state__in=list(ACTIVE)).update(reason=reason)
        return held


def entries_with_keys(as_of: datetime | None = None) -> QuerySet[Any]:
    """Return the ids of the entries that hold a key, for a condition on entries.

    Args:
        as_of: only those that held it by then already.
    """
    alias = ledger_connection().alias
    kept = Q(until__isnull=False, until__gt=moment_expression())
    alive = Entry.objects.using(alias).filter(pk=OuterRef("entry_id"))
    kept |= Q(until__isnull=True) & (
        Exists(alive.filter(state__in=list(ACTIVE)))
        | (Q(holds_dead=True) & Exists(alive.filter(state=State.DEAD)))
    )
    rows = Key.objects.using(alias).filter(kept)
    if as_of is not None:
        rows = rows.filter(held_at__lte=as_of)
    return rows.values("entry_id")


def find_keys(task: str, digest: UUID, text: str) -> list[Conflict]:
    """Return who holds the keys of a task that people read as one text.

    Args:
        task: the task's name.
        digest: the digest of the text, if the text itself is the key.
        text: the readable form.
    """
    which = Q(digest=digest) | Q(task=task, text=text)
    return [held for held in holders(which) if not held.lapsed]


def follow_nobody(entry_ids: Collection[UUID]) -> None:
    """Let entries that followed the holder of their key, and have it now, do the work themselves.

    Args:
        entry_ids: entries that are locked by the caller's transaction.
    """
    for row in _rows().filter(pk__in=entry_ids, options__has_key=FOLLOWS).only("options"):
        if not isinstance(row.options, dict):  # broken by hand
            continue
        kept = dict(row.options)
        for name in (FOLLOWS, REFUSED):
            kept.pop(name, None)
        _rows().filter(pk=row.pk).update(options=kept)


def _rows() -> QuerySet[Entry]:
    return Entry.objects.using(ledger_connection().alias)
