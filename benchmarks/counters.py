"""What task bodies leave behind for the driver: one small file per process.

A body pays about a microsecond on either side, and neither Redis nor PostgreSQL sees any of it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import environment

_TALLY = struct.Struct("=qqq")  # bodies run, first start, last start (monotonic ns)
_SAMPLE = struct.Struct("=q")


class _ProcessFiles:
    """The files of one process; opened at the first body, hence after the pool has forked."""

    def __init__(self) -> None:
        directory = Path(environment.required(environment.RUN_DIRECTORY))
        self.pid = os.getpid()
        path = directory / f"{self.pid}.new"
        path.write_bytes(bytes(_TALLY.size))
        with path.open("r+b") as file:
            self.tally = mmap.mmap(file.fileno(), _TALLY.size)
        path.rename(path.with_suffix(".tally"))  # the driver never sees it half made
        self.samples = (directory / f"{self.pid}.samples").open("ab", buffering=0)
        self.count = 0
        self.first = 0


_files: _ProcessFiles | None = None


def _process_files() -> _ProcessFiles:
    global _files  # noqa: PLW0603 - one set of files per process is what is meant
    if _files is None or _files.pid != os.getpid():
        _files = _ProcessFiles()
    return _files


def body_started() -> None:
    """Count one task body of this process, and note the time."""
    now = time.monotonic_ns()
    files = _process_files()
    if files.count == 0:
        files.first = now
    files.count += 1
    _TALLY.pack_into(files.tally, 0, files.count, files.first, now)


def sample(nanoseconds: int) -> None:
    """Keep one measurement of this process.

    Args:
        nanoseconds: the measured time.
    """
    _process_files().samples.write(_SAMPLE.pack(nanoseconds))


@dataclass(frozen=True)
class Tally:
    """Bodies run in all processes of one run; times are monotonic seconds (0.0: none ran)."""

    count: int
    first: float
    last: float


def read_tally(directory: Path) -> Tally:
    """Return the sum over the processes that wrote to a run's directory.

    Args:
        directory: what the worker was given as its run directory.
    """
    tallies = [_TALLY.unpack(path.read_bytes()) for path in directory.glob("*.tally")]
    started = [tally for tally in tallies if tally[0]]
    if not started:
        return Tally(0, 0.0, 0.0)
    return Tally(
        count=sum(tally[0] for tally in started),
        first=min(tally[1] for tally in started) / 1e9,
        last=max(tally[2] for tally in started) / 1e9,
    )


def read_samples(directory: Path) -> list[float]:
    """Return every sample of a run, in seconds, sorted.

    Args:
        directory: what the worker was given as its run directory.
    """
    return sorted(
        value / 1e9
        for path in directory.glob("*.samples")
        for (value,) in _SAMPLE.iter_unpack(path.read_bytes())
    )
