"""Duplicates in a canvas: an entry that ends as the holder of its key does.

A group, a chord or a chain waits for the ids that it made. So a duplicate among them cannot be
refused, and another entry's id cannot stand for its own. It is written under its own id and follows
the holder: it looks now and then, without keeping a worker busy, and when the holder has succeeded
it ends with the holder's result.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from celery import states as celery_states
from celery.exceptions import Ignore
from django.db.models.functions import Now

from . import ledger
from .dedup import FOLLOWS
from .models import Entry
from .running import Running
from .states import ACTIVE, State
from .steady import write_down

if TYPE_CHECKING:
    from .task import ReliableTask

_FIRST_LOOK: Final = 0.25
_LONGEST_PAUSE: Final = 15.0
# Celery stores a result after the entry has ended; so long it may take.
_RESULT_PATIENCE: Final = timedelta(seconds=10)


class HolderDied(Exception):
    """The entry that a duplicate followed is dead."""


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
        HolderDied: the holder is dead.
    """
    holder = UUID(running.options[FOLLOWS])
    rows = Entry.objects.using(ledger.ledger_connection().alias).filter(pk=holder)
    row = rows.only("state", "reason", "finished_at").annotate(at=Now()).first()
    if row is not None and row.state == State.DEAD:
        raise HolderDied(
            f"Entry {holder}, which was doing the same work, is dead: {row.reason} Requeue that "
            "one first, then this one."
        )
    if row is not None and row.state in ACTIVE:
        _put_off(running, f"follows {holder}")
    if row is not None and row.state == State.SUCCEEDED:
        known, result = _result_of(task, holder)
        if not known and _just_ended(row):
            _put_off(running, f"waits for the result of {holder}")
        return Follow(runs=False, result=result)
    hold = running.claim.hold
    if hold is not None and ledger.take(hold, task.name, running.claim.entry) is not None:
        _put_off(running, "waits for its key")
    return Follow(runs=True)


def _just_ended(row: Any) -> bool:
    return row.finished_at is not None and row.at - row.finished_at < _RESULT_PATIENCE


def _put_off(running: Running, why: str) -> None:
    claim = running.claim
    pause = min(_FIRST_LOOK * 1.5 ** (claim.token - 1), _LONGEST_PAUSE)
    write_down(lambda: ledger.put_off(claim, delay=pause))
    raise Ignore(why)


def _result_of(task: ReliableTask, holder: UUID) -> tuple[bool, Any]:
    """Return whether the holder's result is known, and what it is."""
    if task.ignore_result:
        return True, None
    try:
        meta = task.backend.get_task_meta(str(holder))
    except Exception:  # a result backend that is down, or that keeps none
        return True, None
    return meta.get("status") == celery_states.SUCCESS, meta.get("result")
