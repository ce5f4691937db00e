"""The names of the variables by which the driver tells its child processes what to do."""

from __future__ import annotations

import os
from typing import Final, Literal

Side = Literal["plain", "ledger"]

SIDE: Final = "BENCHMARK_SIDE"
DATABASE_URL: Final = "BENCHMARK_DATABASE_URL"
REDIS_URL: Final = "BENCHMARK_REDIS_URL"
RUN_DIRECTORY: Final = "BENCHMARK_RUN_DIRECTORY"
KEEP_CONNECTION: Final = "BENCHMARK_KEEP_CONNECTION"
PROFILE: Final = "BENCHMARK_PROFILE"
SETTINGS: Final = "BENCHMARK_SETTINGS"

QUEUE: Final = "benchmark"


def required(name: str) -> str:
    """Return the variable's value.

    Args:
        name: one of the names above.

    Raises:
        RuntimeError: the process was not started by ``python -m benchmarks``.
    """
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set: start this with `python -m benchmarks`.")
    return value


def is_ledger_side() -> bool:
    """Return True in a process of the reliable_tasks side, False on the plain Celery side."""
    return required(SIDE) == "ledger"
