"""Two connections to one entry, with one of them held in the middle of its transaction."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from django.db import connection, transaction

from tests.harness import SecondConnection, wait_until


class Race:
    """Interleaves an act of this connection with one of another connection.

    Args:
        second: the other connection.
    """

    def __init__(self, second: SecondConnection) -> None:
        self._second = second

    def overlap(
        self,
        first: Callable[[], Any],
        second: Callable[[], Any],
        *,
        commit: bool = True,
        waits: bool | None = True,
    ) -> tuple[Any, Any]:
        """Do the first act, begin the second before the first has committed, then end the first.

        Args:
            first: done here, in a transaction that stays open until the second act has begun.
            second: done on the other connection.
            commit: How the first transaction ends.
            waits: The second act has to wait for the end of the first. Where it has not, its
                answer is taken before that end. (SQLite lets every writer wait, and MariaDB
                some.) None: whether it waits or not is all the same.

        Returns:
            What both returned; an exception that the second act raised is returned, not raised.
        """
        if waits is False:
            # SQLite has one writer. MariaDB locks a row before it looks whether it is meant.
            waits = {"sqlite": True, "mysql": None}.get(connection.vendor, False)
        with contextlib.suppress(_RollBack), transaction.atomic():
            mine = first()
            future = self._begin(second)
            if waits is False:
                _answer(future)
            else:
                self._wait_until_blocked(future, must=waits is True)
            if not commit:
                raise _RollBack
        return mine, _answer(future)

    def elsewhere(self, act: Callable[[], Any]) -> Any:
        """Do an act on the other connection alone, and return what it returns."""
        return self._second.run(act)

    def together(self, *acts: Callable[[], Any]) -> list[Any]:
        """Do all acts at the same time, each on a connection of its own; return their answers."""
        barrier = threading.Barrier(len(acts))
        runners = [SecondConnection() for _ in acts]

        def run(act: Callable[[], Any]) -> Any:
            connection.ensure_connection()
            barrier.wait(10)
            return act()

        futures = [runner.start(run, act) for runner, act in zip(runners, acts, strict=True)]
        answers = [_answer(future) for future in futures]
        for runner in runners:
            runner.close()
        return answers

    def _begin(self, act: Callable[[], Any]) -> Future[Any]:
        begun = threading.Event()

        def run() -> Any:
            connection.ensure_connection()
            begun.set()
            return act()

        future = self._second.start(run)
        assert begun.wait(10)
        return future

    @staticmethod
    def _wait_until_blocked(future: Future[Any], *, must: bool) -> None:
        if connection.vendor in _WAITERS:
            # MariaDB shows something new only to who has not looked for a tenth of a second.
            interval = 0.11 if connection.vendor == "mysql" else 0.005
            wait_until(lambda: future.done() or _somebody_waits(), 10, interval=interval)
        else:
            time.sleep(0.03 if must else 0.003)  # nothing tells that a writer of SQLite waits
        assert not (must and future.done()), f"did not wait: {_answer(future)!r}"


class _RollBack(Exception):
    pass


# How many connections to this database wait for a lock.
_WAITERS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx t "
    "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
    "WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
}


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # It goes on listing those of a transaction's first look. A pooler may open one more
            # after that.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(_WAITERS[connection.vendor])
        return bool(cursor.fetchone()[0])


def _answer(future: Future[Any]) -> Any:
    error = future.exception(timeout=10)
    return future.result() if error is None else error
