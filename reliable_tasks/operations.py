"""What an operator does to entries, whole: the ledger's act, its event, and Celery's stored result.

The admin and ``manage.py reliable_tasks`` call these; so may you.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final
from uuid import UUID

from celery import Celery, current_app
from django.db import transaction
from django.db.models import Q

from . import events, ledger, options, overview, results
from .conf import current
from .dedup import Conflict
from .ledger import CancelResult
from .models import Entry
from .states import WAITING, State

logger = logging.getLogger("reliable_tasks")

#: Most entries that one transaction of an operator's act touches.
BATCH: Final = 500


@dataclass(slots=True)
class RequeueResult:
    """What became of the entries that were to be requeued.

    Attributes:
        requeued: are pending now.
        skipped: were in a state that is not requeued, do not exist, or their key is held.
        held: for those that were skipped because their key is held, by whom.
    """

    requeued: list[UUID] = field(default_factory=list)
    skipped: list[UUID] = field(default_factory=list)
    held: dict[UUID, Conflict] = field(default_factory=dict)


def celery_app() -> Celery:
    """Return the Celery app of this process: the project's, where the project imports it."""
    return current_app._get_current_object()


def cancel(entry_ids: Iterable[UUID], reason: str = "", *, by: str = "") -> CancelResult:
    """Cancel entries that wait; ask attempts that run to stop.

    Each batch of :data:`BATCH` is a transaction of its own, unless one is open already. Events
    and Celery's ``REVOKED`` follow the commit.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.

    Returns:
        Which were cancelled, asked to stop, and left alone.
    """
    words = _words("Cancelled", reason, by)
    result = CancelResult()
    for batch in batched(entry_ids):
        done = ledger.cancel(batch, reason=words)
        result.cancelled += done.cancelled
        result.asked += done.asked
        result.skipped += done.skipped
        _after_commit(partial(_tell_cancelled, _tasks_of(done.cancelled), words))
    return result


def requeue(
    entry_ids: Iterable[UUID],
    reason: str = "",
    *,
    by: str = "",
    task: str | None = None,
    due_at: datetime | None = None,
) -> RequeueResult:
    """Put dead or cancelled entries back, with fresh budgets of retries and crashes.

    A sweeper publishes them. Batches, events and results are as for :func:`cancel`; what Celery's
    result backend has kept of them is forgotten, so that ``AsyncResult`` waits for the new end.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.
        task: another task's name, for entries whose task was renamed. Entries that still wait are
            moved to it as well; they keep the time that they are due and lose their expiry.
        due_at: when they are due; None for now.

    Returns:
        Which were put back, and which were left alone.
    """
    words = _words("Requeued", reason, by)
    result = RequeueResult()
    for batch in batched(entry_ids):
        with transaction.atomic(using=ledger.ledger_connection().alias):
            done = ledger.requeue(batch, reason=words, task=task, due_at=due_at)
            if task is not None:
                done += _move(set(batch).difference(done), words, task, due_at)
        put_back = set(done)
        result.requeued += [pk for pk in batch if pk in put_back]
        left = [pk for pk in batch if pk not in put_back]
        result.skipped += left
        if left:
            result.held |= ledger.held_by_others(left)
        _after_commit(partial(_tell_requeued, done, words))
    return result


def release_key(digest: UUID, reason: str = "", *, by: str = "") -> Conflict | None:
    """Release a dedup key, whoever holds it; its entry goes on without it.

    From then on an equal call is enqueued, also while that entry runs.

    Args:
        digest: the key.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.

    Returns:
        Who held it; None if nobody did.
    """
    words = _words("Key released", reason, by)
    held = ledger.release_key(digest, reason=words)
    if held is not None:
        event = events.KeyReleased(entry=held.entry, task=held.task, key=held.text, reason=words)
        _after_commit(partial(events.emit, event))
    return held


def release_keys_of(entry_ids: Iterable[UUID], reason: str = "", *, by: str = "") -> list[UUID]:
    """Release the dedup keys that entries hold; see :func:`release_key`.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on each entry.
        by: who, in words; kept with the reason.

    Returns:
        Those that held one.
    """
    held = ledger.holders(Q(entry_id__in=list(entry_ids)))
    done = [release_key(each.digest, reason, by=by) for each in held]
    return [each.entry for each in done if each is not None]


def key_of(entry: Entry) -> tuple[Conflict | None, bool]:
    """Return who holds the key of an entry now, and whether it is that entry itself.

    Args:
        entry: the entry.
    """
    if entry.key is None:
        return None, False
    mine = [each for each in ledger.holders(Q(entry_id=entry.pk)) if not each.lapsed]
    if mine:
        return mine[0], True
    return ledger.held_by_others([entry.pk]).get(entry.pk), False


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


def batched(entry_ids: Iterable[UUID], size: int = BATCH) -> Iterator[list[UUID]]:
    """Cut ids into lists of at most ``size``, each id once."""
    unique = iter(dict.fromkeys(entry_ids))
    while batch := list(islice(unique, size)):
        yield batch


def _move(entry_ids: set[UUID], reason: str, task: str, due_at: datetime | None) -> list[UUID]:
    # In the caller's transaction: nobody sees the entry cancelled in between.
    now = overview.now()
    waiting = (
        _entries()
        .filter(pk__in=entry_ids, state__in=WAITING, cancel_requested_at__isnull=True)
        .order_by("pk")
        .select_for_update()
    )
    by_due: dict[datetime | None, list[UUID]] = defaultdict(list)
    for pk, due in waiting.values_list("pk", "due_at"):
        by_due[due_at or (due if due > now else None)].append(pk)
    moved = []
    for due, group in by_due.items():
        freed = ledger.cancel(group, reason=reason).cancelled
        moved += ledger.requeue(freed, reason=reason, task=task, due_at=due)
    return moved


# -- telling --------------------------------------------------------------------------------------


def _tell_cancelled(tasks: dict[UUID, str], reason: str) -> None:
    app = celery_app()
    for pk, task in tasks.items():
        events.emit(events.Cancelled(entry=pk, task=task, reason=reason))
        if _task(app, task) is not None:
            results.store_cancel(app, pk, task, reason)


def _tell_requeued(entry_ids: list[UUID], reason: str) -> None:
    app = celery_app()
    rows = _entries().filter(pk__in=entry_ids).order_by("pk")
    for pk, name, kept in rows.values_list("pk", "task", "options"):
        events.emit(events.Requeued(entry=pk, task=name, reason=reason))
        task = _task(app, name)
        if task is not None and (not task.ignore_result or task.store_errors_even_if_ignored):
            _forget(task, pk, kept)


def _forget(task: Any, entry: UUID, kept: Any) -> None:
    try:
        # A message that was adopted may have an id of its own kind.
        task.backend.forget(options.loads(kept).get("task_id") or str(entry))
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not forget the end of %s: %r", entry, failed)


def _task(app: Celery, name: str) -> Any:
    found = app.tasks.get(name)
    if found is None and not getattr(app, _IMPORTED, False):
        # A web process need not have imported the modules of tasks that it never calls.
        setattr(app, _IMPORTED, True)
        try:
            app.loader.import_default_modules()
        except Exception as failed:  # the act is done; only its echo in Celery is at stake
            logger.warning("The modules of the tasks cannot be imported: %r", failed)
        found = app.tasks.get(name)
    return found


_IMPORTED: Final = "_reliable_tasks_imported"


def _after_commit(act: Any) -> None:
    def tell() -> None:  # Django logs the name of what raised, which a partial has not
        act()

    transaction.on_commit(tell, using=ledger.ledger_connection().alias, robust=True)


def _tasks_of(entry_ids: list[UUID]) -> dict[UUID, str]:
    if not entry_ids:
        return {}
    return dict(_entries().filter(pk__in=entry_ids).values_list("pk", "task"))


def _entries() -> Any:
    return Entry.objects.using(ledger.ledger_connection().alias)


def _words(verb: str, reason: str, by: str) -> str:
    if not by:
        return reason
    return f"{verb} by {by}: {reason}" if reason else f"{verb} by {by}."
