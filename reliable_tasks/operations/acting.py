"""Acts on entries: cancel, requeue, discard, prune.

Each batch is one transaction, in which its act is recorded. Its events follow the commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from .. import ledger, overview
from ..conf import current
from ..dedup import Conflict
from ..ledger import CancelResult, Seen
from ..oversight import Act, OperatorAct
from ..states import REQUEUEABLE, WAITING, State
from .accounts import DiscardResult, RequeueResult
from .editing import changes, other_call
from .recording import in_words, recorded
from .telling import after_commit, tasks_of, tell_cancelled, tell_discarded, tell_requeued

# A requeue that is spread over a time writes a due time for so many entries at once.
_SPREAD_STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """Due times that are spread evenly over a time, so that what failed is not flooded anew.

    Attributes:
        since: when the first is due.
        over: seconds until the last is due.
        total: how many share the time.
        before: how many of them have theirs already.
    """

    since: datetime
    over: float
    total: int
    before: int = 0

    def cut(self, batch: Sequence[UUID]) -> Iterator[tuple[list[UUID], datetime]]:
        """Cut a batch into a few parts, each with its due time."""
        size = max(1, -(-len(batch) // _SPREAD_STEPS))
        for begin in range(0, len(batch), size):
            share = (self.before + begin) / max(self.total, 1)
            yield (
                list(batch[begin : begin + size]),
                self.since + timedelta(seconds=self.over * min(share, 1.0)),
            )


def cancel(
    entry_ids: Iterable[UUID],
    reason: str = "",
    *,
    by: str = "",
    as_of: datetime | None = None,
    seen: Seen = None,
    act: OperatorAct | None = None,
) -> CancelResult:
    """Cancel entries that wait; ask attempts that run to stop.

    Each batch of ``BATCH`` is a transaction of its own, unless one is open already. Events
    and Celery's ``REVOKED`` follow the commit.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.
        as_of: leave alone what was enqueued, or requeued, later.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        act: the act that this is part of, which is on record already.

    Returns:
        Which were cancelled, asked to stop, and left alone.
    """
    words = in_words("Cancelled", reason, by)
    result = CancelResult()

    def write(batch: list[UUID]) -> dict[str, list[UUID]]:
        done = ledger.cancel(batch, reason=words, as_of=as_of, seen=seen)
        result.cancelled += done.cancelled
        result.asked += done.asked
        result.skipped += done.skipped
        after_commit(partial(tell_cancelled, tasks_of(done.cancelled), words))
        return {"cancelled": done.cancelled, "asked to stop": done.asked}

    recorded(Act.CANCEL, entry_ids, write, reason=reason, by=by, act=act)
    return result


def requeue(
    entry_ids: Iterable[UUID],
    reason: str = "",
    *,
    by: str = "",
    task: str | None = None,
    due_at: datetime | None = None,
    spread: Spread | None = None,
    arguments: tuple[Sequence[Any], Mapping[str, Any]] | None = None,
    as_of: datetime | None = None,
    seen: Seen = None,
    act: OperatorAct | None = None,
) -> RequeueResult:
    """Put dead or cancelled entries back, with fresh budgets of retries and crashes.

    A sweeper publishes them. Batches, events and results are as for :func:`cancel`; what Celery's
    result backend has kept of them is forgotten, so that ``AsyncResult`` waits for the new end.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.
        task: another reliable task's name, for entries whose task was renamed. Entries that still
            wait are moved to it as well; they keep the time that they are due and lose their
            expiry.
        due_at: when they are due; None for now.
        spread: due times for each instead.
        arguments: other positional and keyword arguments. What the entry is about, and the key
            that it takes, follow from them; what they change is put on record.
        as_of: leave alone what has ended later: it has changed since somebody looked at it.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        act: the act that this is part of, which is on record already.

    Returns:
        Which were put back, and which were left alone.

    Raises:
        ArgumentError: the other arguments cannot be kept, or what follows from them cannot be
            known here; nothing of the batch is changed.
    """
    words = in_words("Requeued", reason, by)
    result = RequeueResult()
    given = {"reason": words, "task": task, "as_of": as_of, "seen": seen}
    details: dict[str, Any] = {"task": task, "due_at": due_at and due_at.isoformat()}
    if arguments is None:
        write = partial(_put_back, result, due_at, spread, given)
    else:
        changed: list[dict[str, Any]] = []
        details["arguments"] = changed
        write = partial(_put_back_with, result, due_at, arguments, changed, given)
    recorded(Act.REQUEUE, entry_ids, write, reason=reason, by=by, act=act, details=details)
    return result


def _put_back(
    result: RequeueResult,
    due_at: datetime | None,
    spread: Spread | None,
    given: Mapping[str, Any],
    batch: list[UUID],
) -> dict[str, list[UUID]]:
    """Requeue one batch, and tell of it after the commit."""
    due: datetime | dict[UUID, datetime] | None = due_at
    if spread is not None:
        due = {pk: at for part, at in spread.cut(batch) for pk in part}
    done = ledger.requeue(batch, due_at=due, **given)
    if given["task"] is not None:
        done += _move(set(batch).difference(done), due_at, given)
    result.add(batch, set(done))
    after_commit(partial(tell_requeued, done, given["reason"]))
    return {"requeued": done}


def _put_back_with(
    result: RequeueResult,
    due_at: datetime | None,
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    changed: list[dict[str, Any]],
    given: Mapping[str, Any],
    batch: list[UUID],
) -> dict[str, list[UUID]]:
    """Requeue one batch with other arguments, and note what they change."""
    # Locked, because what an entry had is looked at to know what follows from what it gets.
    rows = overview.entries().filter(pk__in=batch, state__in=REQUEUEABLE)
    done: list[UUID] = []
    held: dict[UUID, Conflict] = {}
    changed.clear()
    for row in rows.order_by("pk").select_for_update():
        call = other_call(row, given["task"] or row.task, *arguments)
        back = ledger.requeue([row.pk], due_at=due_at, call=call, **given)
        done += back
        if back:
            changed += changes(row, given["task"] or row.task, call)
        holder = None if back or call.hold is None else ledger.holder(call.hold.digest)
        if holder is not None and holder.entry != row.pk:
            held[row.pk] = holder
    result.requeued += done
    result.skipped += [pk for pk in batch if pk not in set(done)]
    result.held |= held
    result.changed += changed
    after_commit(partial(tell_requeued, done, given["reason"]))
    return {"requeued": done}


def discard(
    entry_ids: Iterable[UUID],
    reason: str = "",
    *,
    by: str = "",
    as_of: datetime | None = None,
    seen: Seen = None,
    act: OperatorAct | None = None,
) -> DiscardResult:
    """Give dead entries up for good: they become cancelled. They can still be requeued.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.
        as_of: leave alone what has died later: it has changed since somebody looked at it.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        act: the act that this is part of, which is on record already.

    Returns:
        Which were discarded, and which were left alone.
    """
    words = in_words("Discarded", reason, by)
    result = DiscardResult()

    def write(batch: list[UUID]) -> dict[str, list[UUID]]:
        done = ledger.discard_dead(batch, reason=words, as_of=as_of, seen=seen)
        touched = set(done)
        result.discarded += done
        result.skipped += [pk for pk in batch if pk not in touched]
        after_commit(partial(tell_discarded, tasks_of(done), words))
        return {"discarded": done}

    recorded(Act.DISCARD, entry_ids, write, reason=reason, by=by, act=act)
    return result


def prune(state: State, older_than: timedelta) -> Iterator[int]:
    """Delete ended entries of one state, and their attempts, batch by batch.

    Args:
        state: succeeded, dead or cancelled.
        older_than: how long ago they ended at least.

    Yields:
        How many each batch deleted; each is a transaction of ``PRUNE_BATCH`` entries at most.

    Raises:
        ValueError: the state is not an ended one.
    """
    while deleted := ledger.prune(state, older_than, batch=current().PRUNE_BATCH):
        yield deleted


def _move(entry_ids: set[UUID], due_at: datetime | None, given: Mapping[str, Any]) -> list[UUID]:
    # In the caller's transaction: nobody sees the entry cancelled in between.
    now, reason, seen = overview.now(), given["reason"], given["seen"]
    waiting = (
        overview.entries()
        .filter(pk__in=entry_ids, state__in=WAITING, cancel_requested_at__isnull=True)
        .order_by("pk")
        .select_for_update()
    )
    by_due: dict[datetime | None, list[UUID]] = defaultdict(list)
    for pk, due in waiting.values_list("pk", "due_at"):
        by_due[due_at or (due if due > now else None)].append(pk)

    def move(group: list[UUID], when: datetime | None) -> list[UUID]:
        with transaction.atomic(using=ledger.ledger_connection().alias):
            freed = ledger.cancel(group, reason=reason, as_of=given["as_of"], seen=seen).cancelled
            back = ledger.requeue(freed, reason=reason, task=given["task"], due_at=when)
            if len(back) == len(freed):
                return back
            transaction.set_rollback(True, using=ledger.ledger_connection().alias)
        # One of them waits without its key, which another entry has: it stays as it was.
        return [pk for each in group for pk in move([each], when)] if len(group) > 1 else []

    return [pk for when, group in by_due.items() for pk in move(group, when)]
