"""Fault points: labelled steps at which a test can make a process die, freeze or lose its database.

Nothing can be armed from outside: no setting and no environment variable is read. Only code that
calls :func:`arm` can, which the test suite's own processes do. Otherwise a point costs a function
call that finds nothing to do.

The idea is that of the fault injection that databases are tested with (FreeBSD's fail points,
PostgreSQL's injection points).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Every point, and when it is reached. docs/fault-points.md has the same list.
POINTS: Final = {
    "enqueue.begin": "in the caller's transaction, before the entry is inserted",
    "enqueue.written": "in the caller's transaction, after the entry is inserted",
    "enqueue.committed": "after the caller's commit, before the publisher is told",
    "publish.begin": "in the publisher, before the wake-ups go to the broker",
    "publish.sent": "in the publisher, after the broker took them",
    "claim.begin": "a message has arrived and is acknowledged, before the claim",
    "free.begin": "after the claim, before the key of what blocks only while it waits is freed",
    "claim.written": "after the claim, and after the key is freed",
    "adopt.begin": "the message names no entry, before one is written",
    "adopt.written": "after the adopted entry is written, before its claim",
    "load.begin": "before the arguments are loaded",
    "load.done": "after the arguments are loaded",
    "call.begin": "before the body; an atomic task's transaction is open",
    "call.returned": "the body has returned",
    "finish.begin": "before the success is written",
    "finish.written": "the success is written; for an atomic task, before the commit",
    "finish.committed": "after the success is committed",
    "fail.begin": "before a failure is written",
    "fail.written": "in the transaction that writes a failure, before its commit",
    "fail.committed": "after a failure is committed",
    "release.begin": "a stopping worker's attempt, before it is released",
    "release.written": "in the transaction that releases, before its commit",
    "release.committed": "after an attempt is released",
    "leave.begin": "a worker has stopped, before it releases what its pool left behind",
    "leave.written": "after that, before the worker signs off",
    "renew.begin": "in the keeper, before leases are renewed",
    "renew.written": "in the keeper, after leases are renewed",
    "rescue.begin": "lost entries are locked, before they are taken over",
    "rescue.written": "in the same transaction, after they are taken over",
    "sweep.begin": "something is due, before the sweep",
    "sweep.locked": "in the sweep's transaction, due entries are locked",
    "sweep.marked": "in the sweep's transaction, the next looks are set",
    "sweep.committed": "after the sweep's commit, before it publishes",
    "sweep.published": "after the sweep has published",
    "takeback.begin": "the broker did not take wake-ups, before their marks are undone",
    "takeback.written": "after their marks are undone",
    "reconcile.counted": "messages are found missing, before entries are pulled forward",
    "reconcile.pulled": "after entries are pulled forward",
}

_armed: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Say that a step is reached. Does nothing unless a test has armed the points.

    Args:
        point: one of :data:`POINTS`.
    """
    if _armed is not None:
        _armed(point)


def arm(act: Callable[[str], None] | None) -> None:
    """Have something called at every point that this process reaches. For tests only.

    Args:
        act: called with the point's name; what it raises, the step raises. None disarms.
    """
    global _armed  # noqa: PLW0603 - one for the process, and inherited by its forks
    _armed = act
