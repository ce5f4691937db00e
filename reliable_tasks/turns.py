"""Keeps forks apart from the database connections of background threads.

Note [Forks and open connections]: a pool's children are forked while the keeper and the sweeper
live. PostgreSQL's drivers leave an inherited connection alone. SQLite keeps its locks in tables of
the process, which a fork copies: a child that was forked while one of those threads held a lock
would find the database locked as long as it lives. So where the driver is not PostgreSQL's, a
thread's connection is open only during a turn, and a fork waits until no turn is under way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connections

from . import ledger

_locks: Final[list[threading.RLock]] = []


class Turns:
    """The turns of one background thread; see Note [Forks and open connections]."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: whoever forks within a turn is not held up
        _locks.append(self._lock)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Use the database, and leave no connection open that a fork must not see."""
        if ledger.ledger_connection().vendor == "postgresql":
            yield
            return
        with self._lock:
            try:
                yield
            finally:
                connections.close_all()


def _hold() -> None:
    for lock in _locks:
        lock.acquire()


def _let_go() -> None:
    for lock in reversed(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
