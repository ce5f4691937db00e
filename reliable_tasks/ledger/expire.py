"""Expire: cancel what no attempt has begun before its ``expires``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from ..models import Entry
from ..states import WAITING, State
from . import keys
from .guard import explained, ledger_connection, moment_expression
from .rescue import Taken, entries

_EXPIRED: Final = "Expired before an attempt could begin."


def is_expired(now: datetime | None) -> Q:
    """Return the condition that the ``expires`` of an entry has passed."""
    return Q(expires_at__isnull=False, expires_at__lte=moment_expression(0.0, now))


def expire(entry_ids: Collection[UUID], *, now: datetime | None = None) -> list[Taken]:
    """Cancel those of some entries whose ``expires`` has passed, and release their keys.

    The sweeper does so by itself; this is for a call that finds its key held by such an entry.

    Args:
        entry_ids: the entries.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        Those that were cancelled; the others run, have ended, or have time left.
    """
    with explained(), transaction.atomic(using=ledger_connection().alias):
        rows = entries().filter(is_expired(now), pk__in=entry_ids, state__in=WAITING)
        locked = rows.order_by("pk").select_for_update()
        return end_expired(list(locked.only("pk", "task", "attempt", "key")), now)


def end_expired(rows: Sequence[Entry], now: datetime | None) -> list[Taken]:
    """Cancel entries that the caller's transaction has locked and found expired.

    Args:
        rows: the entries, with their task, attempt and key.
        now: a fixed time instead of the database's clock, for tests.
    """
    if not rows:
        return []
    entries().filter(is_expired(now), pk__in=[row.pk for row in rows], state__in=WAITING).update(
        state=State.CANCELLED,
        wake_at=None,
        finished_at=moment_expression(0.0, now),
        reason=_EXPIRED,
    )
    keys.release([row.pk for row in rows if row.key is not None])
    return [Taken(row.pk, row.task, row.attempt, reason=_EXPIRED) for row in rows]
