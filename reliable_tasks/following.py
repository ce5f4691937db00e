"""Duplicates in a canvas: an entry that ends as the holder of its key does.

A group, a chord or a chain waits for the ids that it made. So a duplicate among them cannot be
refused, and another entry's id cannot stand for its own. It is written under its own id and follows
the holder: it looks now and then, without keeping a worker busy, and when the holder has succeeded
it ends with the holder's result.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from celery import states as celery_states
from celery.backends.base import DisabledBackend
from celery.exceptions import Ignore
from django.db.models.functions import Now

from . import ledger
from .dedup import FOLLOWS, LIVE, REFUSED, Conflict
from .models import Entry
from .running import Running
from .states import State
from .steady import write_down

if TYPE_CHECKING:
    from .task import ReliableTask

logger = logging.getLogger("reliable_tasks.execution")

_FIRST_LOOK: Final = 0.25
_LONGEST_PAUSE: Final = 15.0
# Beyond so many looks the pause is the longest one; a power of them all would overflow one day.
_GROWS: Final = 30
# Celery stores a result after the entry has ended; so long it may take.
_RESULT_PATIENCE: Final = timedelta(seconds=10)


class HolderDied(Exception):
    """The entry that a duplicate followed is dead, so that it cannot end as that one did."""


class Refused(HolderDied):
    """The holder of its key has other arguments, so that its result is another one."""


class ResultLost(HolderDied):
    """The holder has succeeded, but its result is not to be had."""


class Follow:
    """What a follower's turn came to.

    Attributes:
        runs: its own body is to run: the holder was cancelled or is gone, and the key is its own.
        result: the holder's result otherwise.
    """

    __slots__ = ("result", "runs")

    def __init__(self, *, runs: bool, result: Any = None) -> None:
        self.runs = runs
        self.result = result


def follow(task: ReliableTask, running: Running) -> Follow:
    """Look what became of the holder.

    Args:
        task: the follower's task.
        running: its attempt.

    Returns:
        What is to be done now.

    Raises:
        Ignore: it waits on; it was put off.
        HolderDied: the holder is dead, its result is lost, or it is no equal call.
    """
    if REFUSED in running.options:
        raise Refused(running.options[REFUSED])
    holder = UUID(running.options[FOLLOWS])
    row = _row(holder)
    if row is None or row.state == State.CANCELLED:
        held = _take(task, running)
        if held is None:
            return Follow(runs=True)
        # Whoever has the key by now does the same work, or did it within the key's window.
        holder, row = held.entry, _row(held.entry)
        if row is None and held.frees_in is not None:
            return _end_with_result(task, running, holder, {})
    if row is not None and row.state == State.DEAD:
        raise HolderDied(
            f"Entry {holder}, which was doing the same work, is dead: {row.reason} Requeue that "
            "one first, then this one."
        )
    if row is not None and row.state == State.SUCCEEDED:
        kept = row.options if isinstance(row.options, dict) else {}
        replaced = ledger.was_replaced(holder)
        return _end_with_result(
            task, running, holder, kept, replaced=replaced, waits=replaced or _just_ended(row)
        )
    raise _put_off(running, f"follows {holder}")


def _row(holder: UUID) -> Any:
    rows = Entry.objects.using(ledger.ledger_connection().alias).filter(pk=holder)
    return rows.only("state", "reason", "finished_at", "options").annotate(at=Now()).first()


def _take(task: ReliableTask, running: Running) -> Conflict | None:
    """Take the key of a holder that is no more; return who was faster."""
    hold = running.claim.hold
    if hold is None:
        return None
    held = ledger.take(hold, task.name, running.claim.entry)
    if held is None and hold.blocks != LIVE:
        ledger.free_at_start(running.claim.entry, running.claim.token)  # its body begins
    return held


def _just_ended(row: Any) -> bool:
    return row.finished_at is not None and row.at - row.finished_at < _RESULT_PATIENCE


def _put_off(running: Running, why: str) -> Ignore:
    claim = running.claim
    pause = min(_FIRST_LOOK * 1.5 ** min(claim.token - 1, _GROWS), _LONGEST_PAUSE)
    # Where the answer was lost it waits at this very token; and what it has lost is just as well.
    write_down(lambda: ledger.put_off(claim, delay=pause), lambda: True)
    return Ignore(why)


def _end_with_result(
    task: ReliableTask,
    running: Running,
    holder: UUID,
    kept: Mapping[str, Any],
    *,
    replaced: bool = False,
    waits: bool = False,
) -> Follow:
    """Return the holder's result.

    Args:
        task: the follower's task.
        running: its attempt.
        holder: the holder.
        kept: the holder's options.
        replaced: the holder put a workflow in its place, whose result is its own.
        waits: a result that is not there may still come.
    """
    ignored = any(each.get("ignore_result", task.ignore_result) for each in (running.options, kept))
    if ignored or isinstance(task.backend, DisabledBackend):
        return Follow(runs=False)
    try:
        # Celery's id of it, where that is not the entry's.
        meta = task.backend.get_task_meta(str(kept.get("task_id", holder)))
    except Exception as error:
        # The result may well be there: None in its place would be a lie.
        who = running.claim.entry
        logger.warning("%s waits: the result backend does not answer: %r", who, error)
        raise _put_off(running, f"waits for the result of {holder}") from error
    if meta.get("status") == celery_states.SUCCESS:
        return Follow(runs=False, result=meta.get("result"))
    if replaced and meta.get("status") in celery_states.PROPAGATE_STATES:
        raise HolderDied(
            f"Entry {holder}, which was doing the same work, put a workflow in its place, and that "
            "has failed. Requeue what failed of it, then this one."
        )
    if waits:
        raise _put_off(running, f"waits for the result of {holder}")
    raise ResultLost(
        f"Entry {holder} did the same work and succeeded, but the result backend has no result of "
        "it: it has expired (result_expires), was deleted, or the backend keeps it for its caller "
        "alone (rpc). Set ignore_result=True where nobody needs it. To do the work again, release "
        "the key if it is still held, then requeue this entry."
    )
