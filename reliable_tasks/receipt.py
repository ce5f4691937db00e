"""What a call is told that found its key held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.result import AsyncResult

from . import events
from .dedup import LIVE, Conflict, Policy
from .errors import AlreadyQueued
from .states import ACTIVE

if TYPE_CHECKING:
    from .task import ReliableTask


def error(task: ReliableTask, policy: Policy, conflict: Conflict) -> AlreadyQueued:
    """Return the error that tells a caller of a conflict, and count it.

    Args:
        task: the task that was called.
        policy: how the call is deduplicated.
        conflict: who holds the key.
    """
    count(task.name, conflict, "raise")
    if conflict.frees_in is not None:
        until = f"The key is free again in {max(0.0, conflict.frees_in):.1f} s."
    elif conflict.state in ACTIVE:
        until = "The key is free when that entry " + (
            "ends." if policy.blocks == LIVE else "starts."
        )
    else:
        until = "The key is free when that entry is requeued and succeeds, pruned, or its key is "
        until += "released with `manage.py reliable_tasks keys release`."
    return AlreadyQueued(
        countdown(task, policy, conflict),
        f"{conflict.text} is queued already: {conflict}. {until} Nothing was enqueued. To get that "
        'entry\'s result instead, use once={"conflict": "return"}.',
        conflict=conflict,
    )


def countdown(task: ReliableTask, policy: Policy, conflict: Conflict) -> float:
    """Return the seconds until a key is free: known for a window, else what is left of a timeout.

    Args:
        task: the task that was called.
        policy: how the call is deduplicated.
        conflict: who holds the key.
    """
    if conflict.frees_in is not None:
        return max(0.0, conflict.frees_in)
    timeout = task.default_timeout if policy.timeout is None else policy.timeout
    return max(0.0, timeout - conflict.age)


def tell(task: ReliableTask, conflict: Conflict, did: str) -> AsyncResult:
    """Return the holder's result, which stands for the call's, and count the conflict."""
    count(task.name, conflict, did)
    result: AsyncResult = task.AsyncResult(str(conflict.entry))
    return result


def count(task: str, conflict: Conflict, did: str) -> None:
    """Let the outside know of a conflict and of what it came to."""
    events.emit(events.Deduplicated(entry=conflict.entry, task=task, key=conflict.text, did=did))
