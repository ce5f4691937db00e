"""Profiles a process of the benchmark: Python functions, and SQL statements with their commits.

The times include the instruments' own cost: read proportions here, and rates in the table.
"""

from __future__ import annotations

import cProfile
import json
import os
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import signals

from benchmarks import environment

if TYPE_CHECKING:
    from collections.abc import Callable

_SHAPE = re.compile(r"\s+")


class StatementClock:
    """Adds up the time of every statement and commit of one Django connection, by its text."""

    def __init__(self, connection: Any) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        connection.execute_wrappers.append(self._execute)
        commit = connection._commit
        connection._commit = lambda: self._timed("COMMIT", commit)

    def _execute(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: Any,
    ) -> Any:
        shape = _SHAPE.sub(" ", str(sql))
        return self._timed(shape, lambda: execute(sql, params, many, context))

    def _timed(self, text: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[text] += time.perf_counter() - started
            self.calls[text] += 1

    def write(self, path: Path) -> None:
        """Write the sums as JSON.

        Args:
            path: a file to create.
        """
        rows = [[text, self.calls[text], self.seconds[text]] for text in self.calls]
        path.write_text(json.dumps(rows), encoding="utf-8")


class Instruments:
    """What runs in one process, from ``start()`` to ``write()``."""

    def __init__(self, *, functions: bool) -> None:
        self.profile = cProfile.Profile() if functions else None
        self.clock: StatementClock | None = None

    def start(self, **_kwargs: Any) -> None:
        """Begin in the calling process; also a Celery signal receiver."""
        from django.db import connection  # Django is set up later

        self.clock = StatementClock(connection)
        if self.profile is not None:
            self.profile.enable()

    def write(self, **_kwargs: Any) -> None:
        """End, and leave ``<pid>.profile`` and ``<pid>.statements``; also a signal receiver."""
        directory = Path(environment.required(environment.RUN_DIRECTORY))
        if self.profile is not None:
            self.profile.disable()
            self.profile.dump_stats(directory / f"{os.getpid()}.profile")
        if self.clock is not None:
            self.clock.write(directory / f"{os.getpid()}.statements")


def install(what: str) -> None:
    """Connect the instruments to a worker's signals.

    Args:
        what: "children" (functions and statements of pool processes), "statements" (only these, so
            that cProfile does not slow them down) or "main" (the worker's main process).
    """
    instruments = Instruments(functions=what != "statements")
    if what == "main":
        # Not before: pool processes would inherit a running profiler.
        signals.worker_ready.connect(instruments.start, weak=False)
        signals.worker_shutdown.connect(instruments.write, weak=False)
    elif what in ("children", "statements"):
        signals.worker_process_init.connect(instruments.start, weak=False)
        signals.worker_process_shutdown.connect(instruments.write, weak=False)
