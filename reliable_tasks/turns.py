"""Keeps forks apart from the database connections of background threads.

Note [Forks and open connections]: a pool's children are forked while the keeper and the sweeper
live. PostgreSQL's drivers leave an inherited connection alone. SQLite keeps its locks in tables of
the process, which a fork copies: a child that was forked while one of those threads held a lock
would find the database locked as long as it lives. So where the driver is not PostgreSQL's, a
thread's connection is open only during a turn, and a fork waits until no turn is under way.

Note [Forks and pools]: Django's own pool (``OPTIONS["pool"]``) belongs to the process, and those
threads open it in a worker's main process. A child must neither use what stands in it, for those
connections are its parent's, nor close it, which would tell the server to end them.

Note [Turns make way]: a pool forks in Celery's event loop, which also ends the bodies that exceed
their hard limit. A turn may wait for the very writer that such a body is; were the fork to wait for
that turn, nobody would end the body. So a turn that waits for a writer looks up several times a
second, ends when somebody wants to fork, and is taken again.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final, TypeVar

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from . import ledger

_Lock = tuple["threading.RLock", float]


class _Held(threading.local):
    """The locks that this thread holds while it forks."""

    locks: Sequence[_Lock] = ()


# The lock of each thread's turns, and for how many seconds a fork waits for it; -1 for ever.
_locks: Final[list[_Lock]] = []
_held: Final = _Held()

# The pools of this process's parent, kept from being collected: see Note [Forks and pools].
_of_parent: Final[list[object]] = []

# The threads that wait for all turns to end, to fork.
_forking: Final[set[int]] = set()

# How long a statement waits for a writer before it looks up; MySQL counts in whole seconds.
_LOOK_UP: Final = {
    "sqlite": "PRAGMA busy_timeout = 250",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}
_LOCK_WAIT_TIMEOUT: Final = 1205  # MySQL's number
_MYSQL_PATIENCE: Final = 50.0  # its default, in seconds

T = TypeVar("T")


class Turns:
    """The turns of one background thread; see Note [Forks and open connections].

    Args:
        patience: for how many seconds a fork waits for the end of a turn; None for as long as it
            takes. Give a limit where a turn may wait for something else than the database.
    """

    def __init__(self, patience: float | None = None) -> None:
        self._lock = threading.RLock()  # reentrant: whoever forks within a turn is not held up
        _locks.append((self._lock, -1.0 if patience is None else patience))

    def take(self, act: Callable[..., T], *args: Any) -> T:
        """Use the database, and leave no connection open that a fork must not see.

        Args:
            act: what to do. It is done again from its beginning if it had to make way for a fork,
                which it can only where it waits for another writer. See Note [Turns make way].
            *args: its arguments.

        Returns:
            What it returned.
        """
        connection = ledger.ledger_connection()
        if connection.vendor == "postgresql":
            return act(*args)
        while True:
            while _forking:
                time.sleep(0.01)
            waits = _Waits(connection)
            with self._lock:
                try:
                    with connection.execute_wrapper(waits):
                        result = act(*args)
                except OperationalError:
                    if not waits.made_way:
                        raise
                else:
                    if not waits.made_way:  # and somebody's code took the refusal for final
                        return result
                finally:
                    connections.close_all()


class _Waits:
    """Runs statements that wait for a writer in short waits, as long as one would have waited."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        options = connection.settings_dict["OPTIONS"]
        default = {"sqlite": 5.0}.get(connection.vendor, _MYSQL_PATIENCE)
        self._connection = connection
        self._patience = float(options.get("timeout", default))
        self._driver: object = None
        #: It gave up because somebody wants to fork.
        self.made_way = False

    def __call__(
        self, execute: Callable[..., T], sql: str, params: Any, many: bool, context: Any
    ) -> T:
        self._prepare(context["connection"])
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return execute(sql, params, many, context)
            except OperationalError as error:
                if not _is_held(error) or not self._may_repeat():
                    raise
                if _forking:
                    self.made_way = True
                    raise
                if time.monotonic() >= deadline:
                    raise

    def _prepare(self, connection: BaseDatabaseWrapper) -> None:
        if connection.connection is not self._driver:
            self._driver = connection.connection
            with closing(connection.connection.cursor()) as cursor:
                cursor.execute(_LOOK_UP[connection.vendor])

    def _may_repeat(self) -> bool:
        # Within a transaction SQLite refuses at once what it will never allow.
        return not self._connection.in_atomic_block or self._connection.vendor != "sqlite"


def _is_held(error: OperationalError) -> bool:
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return bool(error.args) and error.args[0] == _LOCK_WAIT_TIMEOUT


def _hold() -> None:
    _forking.add(threading.get_ident())
    _held.locks = [each for each in _locks if each[0].acquire(timeout=each[1])]


def _let_go() -> None:
    held, _held.locks = _held.locks, ()
    for lock, _ in reversed(held):
        lock.release()
    _forking.discard(threading.get_ident())


def _leave_pools() -> None:
    backend = sys.modules.get("django.db.backends.postgresql.base")
    pools: dict[str, object] = {}
    if backend is not None:
        pools = backend.DatabaseWrapper._connection_pools
    _of_parent.extend(pools.values())
    pools.clear()


def _begin_child() -> None:
    if _locks:  # there are such threads
        _leave_pools()
    # Those that were not to be had belong to threads that have not come along: nobody frees them.
    _locks[:] = _held.locks
    _let_go()
    _forking.clear()  # no other thread has come along


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_begin_child)
