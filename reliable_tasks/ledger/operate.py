"""What a person does to entries: cancel, requeue, prune."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ..models import Attempt, Entry, Key
from ..states import ENDED, REQUEUEABLE, WAITING, State
from . import keyring, keys
from .guard import explained, ledger_connection, moment_expression


@dataclass(slots=True)
class CancelResult:
    """What became of the entries that were to be cancelled.

    Attributes:
        cancelled: waited, and are cancelled now.
        asked: run, and are asked to stop.
        skipped: had ended, were asked before, or do not exist.
    """

    cancelled: list[UUID] = field(default_factory=list)
    asked: list[UUID] = field(default_factory=list)
    skipped: list[UUID] = field(default_factory=list)


def cancel(
    entry_ids: Iterable[UUID], *, reason: str = "", now: datetime | None = None
) -> CancelResult:
    """Cancel entries that wait; ask attempts that run to stop.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        Which were cancelled, asked to stop, and left alone.
    """
    wanted = list(entry_ids)
    at = moment_expression(0.0, now)
    words = reason or "Cancelled by a person."
    result = CancelResult()
    with explained(), transaction.atomic(using=ledger_connection().alias):
        rows = _locked(wanted)
        keyed: list[UUID] = []
        columns = rows.values_list("pk", "state", "cancel_requested_at", "key")
        for pk, state, asked_before, key in columns:
            if state in WAITING:
                result.cancelled.append(pk)
                keyed += [pk] if key is not None else []
            elif state == State.RUNNING and asked_before is None:
                result.asked.append(pk)
        _guarded(result.cancelled, WAITING).update(
            state=State.CANCELLED, wake_at=None, finished_at=at, reason=words
        )
        keys.release(keyed)
        _guarded(result.asked, {State.RUNNING}).update(cancel_requested_at=at, reason=words)
    touched = {*result.cancelled, *result.asked}
    result.skipped = [pk for pk in wanted if pk not in touched]
    return result


def requeue(
    entry_ids: Iterable[UUID],
    *,
    reason: str = "",
    task: str | None = None,
    due_at: datetime | None = None,
    now: datetime | None = None,
) -> list[UUID]:
    """Put dead or cancelled entries back, with fresh budgets of retries and crashes.

    The token goes on counting, so an attempt from before cannot finish them.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        task: another task's name, for entries whose task was renamed.
        due_at: when they are due; None for now.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        Those that were put back; the others are not dead or cancelled (any more), or somebody else
        holds their key by now (see :func:`held_by_others`).
    """
    at: Any = moment_expression(0.0, now) if due_at is None else due_at
    changes: dict[str, Any] = {
        "state": State.PENDING,
        "retries": 0,
        "crashes": 0,
        "publishes": 0,
        "due_at": at,
        "wake_at": at,
        "expires_at": None,
        "cancel_requested_at": None,
        "finished_at": None,
        "reason": reason,
    }
    if task is not None:
        changes["task"] = task
    with explained(), transaction.atomic(using=ledger_connection().alias):
        rows = _locked(list(entry_ids)).filter(state__in=REQUEUEABLE)
        locked = list(rows.only("pk", "task", "key"))
        blocked = _take_keys(locked, now)
        chosen = [row.pk for row in locked if row.pk not in blocked]
        _guarded(chosen, REQUEUEABLE).update(**changes)
    return chosen


def _take_keys(rows: list[Entry], now: datetime | None) -> set[UUID]:
    """Take the keys of entries that are put back; return those whose key somebody else holds."""
    holds = keys.holds_of(rows)
    blocked = {
        row.pk
        for row in rows
        if row.pk in holds and keys.take(holds[row.pk], row.task, row.pk, now=now) is not None
    }
    keyring.follow_nobody([pk for pk in holds if pk not in blocked])
    return blocked


def prune(
    state: State, older_than: timedelta, *, batch: int = 1000, now: datetime | None = None
) -> int:
    """Delete ended entries of one state, and their attempts, in one bounded transaction.

    Args:
        state: which kind.
        older_than: how long ago they ended at least.
        batch: most entries to delete.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many were deleted; call again until it is 0.

    Raises:
        ValueError: the state is not an ended one.
    """
    if state not in ENDED:
        raise ValueError(f"Only ended entries can be pruned; {state} is not an ended state.")
    alias = ledger_connection().alias
    before = moment_expression(-older_than.total_seconds(), now)
    with explained(), transaction.atomic(using=alias):
        old = (
            Entry.objects.using(alias)
            .filter(state=state, finished_at__isnull=False, finished_at__lt=before)
            .order_by("finished_at")
        )
        if ledger_connection().features.has_select_for_update_skip_locked:
            old = old.select_for_update(skip_locked=True)
        found = dict(old.values_list("pk", "key")[:batch])
        chosen = list(found)
        if not chosen:
            return 0
        # _raw_delete skips Django's collector, which would load every row first.
        attempts = Attempt.objects.using(alias).filter(entry_id__in=chosen)
        attempts._raw_delete(alias)
        # What a dead entry still held; a window outlasts the pruning.
        keyed = [pk for pk, key in found.items() if key is not None]
        if keyed and state is State.DEAD:
            Key.objects.using(alias).filter(entry_id__in=keyed, until=None)._raw_delete(alias)
        doomed = _guarded(chosen, {state})
        return int(doomed._raw_delete(alias))


def _locked(entry_ids: list[UUID]) -> QuerySet[Entry]:
    # In the order of ids, so that two people's bulk acts cannot deadlock.
    rows = Entry.objects.using(ledger_connection().alias).filter(pk__in=entry_ids).order_by("pk")
    return rows.select_for_update()


def _guarded(entry_ids: list[UUID], states: Iterable[State]) -> QuerySet[Entry]:
    return Entry.objects.using(ledger_connection().alias).filter(
        pk__in=entry_ids, state__in=list(states)
    )
