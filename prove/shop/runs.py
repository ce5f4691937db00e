"""The log of attempts: a file that no fault of a database or broker can reach.

Each line is written by one call that appends: "start|end", order, kind, attempt, process,
seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def _file() -> int:
    return os.open(os.environ["PROVE_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(what: str, number: str, kind: str, attempt: int) -> None:
    """Append one line."""
    line = f"{what} {number} {kind} {attempt} {os.getpid()} {_monotonic():.4f}\n"
    os.write(_file(), line.encode())


def _monotonic() -> float:
    return time.monotonic()


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    what: str
    number: str
    kind: str
    attempt: int
    pid: int
    at: float


def read(path: Path) -> list[Line]:
    """Return the lines of a log, in the order of their times."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        what, number, kind, attempt, pid, at = text.split()
        lines.append(Line(what, number, kind, int(attempt), int(pid), float(at)))
    return sorted(lines, key=lambda line: line.at)
