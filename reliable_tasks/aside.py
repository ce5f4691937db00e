"""A second connection for one attempt, to say something while the first is in a transaction."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connections

from . import ledger

T = TypeVar("T")


class Aside:
    """Runs what it is given in a thread of its own, and so on a connection of its own.

    Both are there from the first use until :meth:`close`.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def run(self, act: Callable[..., T], *args: Any) -> T:
        """Run something in a short transaction there, and wait for it.

        Args:
            act: what to do.
            *args: its arguments.

        Returns:
            What it returned.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="reliable-tasks-aside")
        return self._thread.submit(_short, act, *args).result()

    def close(self) -> None:
        """Close the connection and end the thread, if there are any."""
        if self._thread is not None:
            self._thread.submit(connections.close_all)
            self._thread.shutdown()
            self._thread = None


def _short(act: Callable[..., T], *args: Any) -> T:
    try:
        with ledger.short_transaction():
            return act(*args)
    except BaseException:
        connections.close_all()  # it may be broken; the next time opens another
        raise
