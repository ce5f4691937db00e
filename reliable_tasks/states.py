"""The life of an entry: its states and every legal move between them, on one screen.

The functions in ``ledger/`` are the only code that makes these moves. Each is one guarded
statement that repeats the ``before`` states below.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """Where an entry stands."""

    PENDING = "pending"  # waits for its first attempt, or for its first since a requeue
    RUNNING = "running"  # one attempt holds the lease
    RETRYING = "retrying"  # an attempt failed or was lost; waits for the next
    SUCCEEDED = "succeeded"
    DEAD = "dead"  # gave up; waits for a person
    CANCELLED = "cancelled"


WAITING: Final = frozenset({State.PENDING, State.RETRYING})
ENDED: Final = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})
ACTIVE: Final = WAITING | {State.RUNNING}
REQUEUEABLE: Final = frozenset({State.DEAD, State.CANCELLED})


class Outcome(StrEnum):
    """What an attempt that did not succeed came to."""

    FAILED = "failed"  # the body raised
    TIMEOUT = "timeout"  # a hard or soft time limit ended it
    RETRY = "retry"  # the body asked for another attempt with self.retry()
    CRASHED = "crashed"  # its process died, or its lease ended unrenewed
    RELEASED = "released"  # given back by a worker that was told to stop; not charged
    CANCELLED = "cancelled"  # stopped because the entry was cancelled
    REJECTED = "rejected"  # the body raised Reject, or did not get its arguments


class Move(NamedTuple):
    """One legal change of state."""

    verb: str
    before: frozenset[State]
    after: frozenset[State]
    by: str  # whose right it is: the token's holder, or anybody


_RUNNING: Final = frozenset({State.RUNNING})

MOVES: Final = (
    Move("claim", WAITING, _RUNNING, "any worker, once due; token + 1"),
    Move("succeed", _RUNNING, frozenset({State.SUCCEEDED}), "token"),
    Move("reschedule", _RUNNING, frozenset({State.RETRYING}), "token"),
    Move("bury", _RUNNING, frozenset({State.DEAD}), "token"),
    Move(
        "discard",
        frozenset({State.RUNNING, State.DEAD}),
        frozenset({State.CANCELLED}),
        "token, where a row is gone; a person, where it is dead",
    ),
    Move("release", _RUNNING, WAITING, "token, or a worker that stops"),
    Move("replace", _RUNNING, frozenset({State.PENDING}), "token"),
    Move("stop", _RUNNING, frozenset({State.CANCELLED}), "token, when asked to"),
    Move(
        "rescue",
        _RUNNING,
        frozenset({State.RETRYING, State.DEAD, State.CANCELLED}),
        "any sweeper, once the lease has ended or the process is lost",
    ),
    Move("expire", WAITING, frozenset({State.CANCELLED}), "any sweeper, once expired"),
    Move("cancel", WAITING, frozenset({State.CANCELLED}), "a person"),
    Move("requeue", REQUEUEABLE, frozenset({State.PENDING}), "a person"),
)


def legal(before: State, after: State) -> bool:
    """Tell whether some verb moves an entry from one state to the other.

    Args:
        before: the state now.
        after: the state wanted.

    Returns:
        True if the table above has such a move.
    """
    return any(before in move.before and after in move.after for move in MOVES)
