"""What a person does to entries: cancel, requeue, discard."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Case, DateTimeField, Q, QuerySet, Value, When

from ..dedup import FOLLOWS, KEPT_AS, Hold
from ..models import Entry, Key
from ..states import REQUEUEABLE, WAITING, State
from . import keyring, keys
from .guard import explained, ledger_connection, moment_expression
from .seen import Seen, standing, unless_changed


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCall:
    """What an entry is put back with instead of what it was called with.

    Attributes:
        args: JSON text of the positional arguments.
        kwargs: JSON text of the keyword arguments.
        subject_type: label of the model of the row that it is about; None for none.
        subject_id: primary key of that row, as text.
        hold: the key that it takes; None if it has none.
    """

    args: str
    kwargs: str
    subject_type: str | None = None
    subject_id: str | None = None
    hold: Hold | None = None


def cancel(
    entry_ids: Iterable[UUID],
    *,
    reason: str = "",
    as_of: datetime | None = None,
    seen: Seen = None,
    now: datetime | None = None,
) -> CancelResult:
    """Cancel entries that wait; ask attempts that run to stop.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        as_of: leave alone what was enqueued, or put back by a person, later.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
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
        if as_of is not None:
            rows = rows.filter(not_since(as_of))
        rows = unless_changed(rows, seen)
        keyed: list[UUID] = []
        columns = rows.values_list("pk", "state", "cancel_requested_at", "key")
        for pk, state, asked_before, key in columns:
            if state in WAITING:
                result.cancelled.append(pk)
                keyed += [pk] if key is not None else []
            elif state == State.RUNNING and asked_before is None:
                result.asked.append(pk)
        _guarded(result.cancelled, WAITING, seen).update(
            state=State.CANCELLED, wake_at=None, finished_at=at, reason=words
        )
        keys.release(keyed)
        running = _guarded(result.asked, {State.RUNNING}, seen)
        running.update(cancel_requested_at=at, reason=words)
    touched = {*result.cancelled, *result.asked}
    result.skipped = [pk for pk in wanted if pk not in touched]
    return result


def requeue(
    entry_ids: Iterable[UUID],
    *,
    reason: str = "",
    task: str | None = None,
    due_at: datetime | Mapping[UUID, datetime] | None = None,
    call: OtherCall | None = None,
    as_of: datetime | None = None,
    seen: Seen = None,
    now: datetime | None = None,
) -> list[UUID]:
    """Put dead or cancelled entries back, with fresh budgets of retries and crashes.

    The token goes on counting, so an attempt from before cannot finish them.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        task: another task's name, for entries whose task was renamed.
        due_at: when they are due, or when each of them is; None for now.
        call: other arguments, with the subject and the key that follow from them; for entries of
            one task.
        as_of: leave alone what ended later: it has changed since somebody looked at it.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        Those that were put back; the others are not dead or cancelled (any more), or somebody else
        holds their key by now (see :func:`held_by_others`).
    """
    at = moment_expression(0.0, now) if due_at is None else _due(due_at)
    changes: dict[str, Any] = {
        "state": State.PENDING,
        "retries": 0,
        "crashes": 0,
        "publishes": 0,
        "due_at": at,
        "wake_at": at,
        "expires_at": None,
        "cancel_requested_at": None,
        "requeued_at": moment_expression(0.0, now),
        "finished_at": None,
        "reason": reason,
    }
    if task is not None:
        changes["task"] = task
    if call is not None:
        changes |= {
            "args": json.loads(call.args),
            "kwargs": json.loads(call.kwargs),
            "subject_type": call.subject_type,
            "subject_id": call.subject_id,
        }
    hold = None if call is None else call.hold
    return _end_or_put_back(entry_ids, REQUEUEABLE, changes, as_of, seen, now, hold)


def discard_dead(
    entry_ids: Iterable[UUID],
    *,
    reason: str = "",
    as_of: datetime | None = None,
    seen: Seen = None,
    now: datetime | None = None,
) -> list[UUID]:
    """Give dead entries up for good: they are cancelled, and no dead letters any more.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        as_of: leave alone what ended later: it has changed since somebody looked at it.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        Those that were discarded; the others are not dead (any more).
    """
    changes = {
        "state": State.CANCELLED,
        "finished_at": moment_expression(0.0, now),
        "reason": reason or "Discarded by a person.",
    }
    return _end_or_put_back(entry_ids, {State.DEAD}, changes, as_of, seen, now)


def _due(at: datetime | Mapping[UUID, datetime]) -> Any:
    if not isinstance(at, Mapping):
        return at
    times: dict[datetime, list[UUID]] = defaultdict(list)
    for pk, due in at.items():
        times[due].append(pk)
    kind = DateTimeField()
    # An entry that has none would get NULL, which the column refuses.
    cases = (When(pk__in=ids, then=Value(due, kind)) for due, ids in times.items())
    return Case(*cases, output_field=kind)


def not_since(as_of: datetime) -> Q:
    """Return the condition that an entry that lives did so at a time: nobody put it back since."""
    return Q(enqueued_at__lte=as_of) & (Q(requeued_at__isnull=True) | Q(requeued_at__lte=as_of))


def _end_or_put_back(
    entry_ids: Iterable[UUID],
    states: Iterable[State],
    changes: dict[str, Any],
    as_of: datetime | None,
    seen: Seen,
    now: datetime | None,
    hold: Hold | None = None,
) -> list[UUID]:
    with explained(), transaction.atomic(using=ledger_connection().alias):
        rows = _locked(list(entry_ids)).filter(state__in=list(states))
        if as_of is not None:
            rows = rows.filter(finished_at__lte=as_of)
        rows = unless_changed(rows, seen)
        needed = ["options"] if hold is not None else []
        locked = list(rows.only("pk", "task", "key", *needed))
        if changes["state"] == State.PENDING:
            blocked = _take_keys(locked, now) if hold is None else _take_other(locked, hold, now)
        else:
            blocked = set()
            keys.release([row.pk for row in locked if row.key is not None])
        chosen = [row.pk for row in locked if row.pk not in blocked]
        _guarded(chosen, states, seen).update(**changes)
    return chosen


def _take_keys(rows: list[Entry], now: datetime | None) -> set[UUID]:
    """Take the keys of entries that are put back; return those whose key somebody else holds."""
    holds = keys.holds_of(rows)
    blocked: set[UUID] = set()
    # Until all are put back, those of this very act that have a key look as if they had ended.
    given: set[UUID] = set()
    keyed = [(holds[row.pk], row) for row in rows if row.pk in holds]
    # In the order in which a bulk call takes them.
    for hold, row in sorted(keyed, key=lambda each: (each[0].digest, each[1].pk)):
        if hold.digest in given or keys.take(hold, row.task, row.pk, now=now) is not None:
            blocked.add(row.pk)
        given.add(hold.digest)
    keyring.follow_nobody([pk for pk in holds if pk not in blocked])
    return blocked


def _take_other(rows: list[Entry], hold: Hold, now: datetime | None) -> set[UUID]:
    """The same for an entry that is put back with another key; it lets go of its own."""
    blocked = set()
    for row in rows:
        if keys.take(hold, row.task, row.pk, now=now) is not None:
            blocked.add(row.pk)
            continue
        mine = Key.objects.using(ledger_connection().alias).filter(entry_id=row.pk)
        mine.exclude(pk=hold.digest)._raw_delete(mine.db)
        mine.update(arguments=hold.arguments)
        kept = {name: value for name, value in (row.options or {}).items() if name != FOLLOWS}
        _guarded([row.pk], REQUEUEABLE).update(key=hold.text, options=kept | {KEPT_AS: hold.kept()})
    return blocked


def _locked(entry_ids: list[UUID]) -> QuerySet[Entry]:
    # In the order of ids, so that two people's bulk acts cannot deadlock.
    rows = Entry.objects.using(ledger_connection().alias).filter(pk__in=entry_ids).order_by("pk")
    return rows.select_for_update()


def _guarded(entry_ids: list[UUID], states: Iterable[State], seen: Seen = None) -> QuerySet[Entry]:
    rows = Entry.objects.using(ledger_connection().alias).filter(
        pk__in=entry_ids, state__in=list(states)
    )
    return rows if seen is None else rows.filter(standing(entry_ids, seen))
