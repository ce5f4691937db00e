"""Facts about the machine without which the figures mean nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import psycopg
import redis

if TYPE_CHECKING:
    from benchmarks.servers import Servers

_COMMITS = 200
_IDLE_PERCENT = 10.0
_PACKAGES = ("celery", "kombu", "redis", "django", "psycopg")
_POSTGRESQL = ("fsync", "synchronous_commit", "wal_sync_method", "shared_buffers")
# PostgreSQL's own disk work in the kernel counts as somebody else's, about a tenth in a drain.
DISTURBED: Final = 0.2


def facts(servers: Servers) -> dict[str, str]:
    """Return what to print above the table, by label.

    Args:
        servers: the running servers.
    """
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        release = _setting(connection, "server_version")
        settings = ", ".join(f"{name} = {_setting(connection, name)}" for name in _POSTGRESQL)
        socket = "a Unix socket" if connection.info.host.startswith("/") else "TCP"
    redis_version = redis.Redis.from_url(servers.redis_url).info("server")["redis_version"]
    return {
        "CPU": f"{os.cpu_count()} cores, {_cpu_model()}",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Packages": packages,
        "PostgreSQL": f"{release} over {socket}; {settings}{_file_system(servers.data)}",
        "Redis": f"{redis_version} over TCP",
        "One INSERT + commit, before": _commit_cost(servers.database_url),
    }


def facts_after(servers: Servers, others: list[float]) -> dict[str, str]:
    """Return what to print about the run itself, by label.

    Args:
        servers: the running servers.
        others: what :meth:`Meter.others` said of each measurement.
    """
    found = {"One INSERT + commit, after": _commit_cost(servers.database_url)}
    if servers.own:
        worst, middle = max(others), statistics.median(others)
        advice = "; take ratios with care" if worst > DISTURBED else ""
        found["Everything else on the machine"] = (
            f"used {middle:.0%} of its CPU time in the median measurement, {worst:.0%} in the "
            f"most disturbed one{advice}"
        )
    return found


class Meter:
    """Watches what else the machine is busy with, from when it is made.

    Args:
        servers: the running servers.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._began = time.monotonic()
        self._own = _own_seconds()
        self._busy = _busy_seconds()

    def others(self) -> float:
        """Return how much of the machine's CPU time was not ours, from 0 to 1.

        Where servers were given, their work cannot be told from others', and it is 0.
        """
        if not self._servers.own:
            return 0.0
        capacity = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return max(0.0, others / capacity)


def wait_until_idle(seconds: float) -> None:
    """Return when nothing uses the machine for a second, or when the time is over.

    Args:
        seconds: longest wait.
    """
    deadline = time.monotonic() + seconds
    while psutil.cpu_percent(1.0) > _IDLE_PERCENT and time.monotonic() < deadline:
        pass


def _own_seconds() -> float:
    """Return the CPU seconds of this process and of all it started, ended ones included."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a PostgreSQL backend that just ended
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _busy_seconds() -> float:
    """Return the CPU seconds that the whole machine has worked."""
    times = psutil.cpu_times()
    # Linux counts a guest's time within the user's.
    idle = {"idle", "iowait", "guest", "guest_nice"}
    return float(sum(value for name, value in times._asdict().items() if name not in idle))


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _setting(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else "?"


def _commit_cost(database_url: str) -> str:
    """Measure an INSERT with a durable commit, and with one that does not wait for the disk."""
    medians = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE commit_probe (id int)")
        for mode in ("on", "off"):
            connection.execute(f"SET synchronous_commit = {mode}")
            times = []
            for _ in range(_COMMITS):
                started = time.perf_counter()
                connection.execute("INSERT INTO commit_probe VALUES (1)")
                times.append(time.perf_counter() - started)
            medians.append(statistics.median(times))
        connection.execute("DROP TABLE commit_probe")
    durable, fast = medians
    disk = max(0.0, durable - fast)
    return f"{durable * 1e6:.0f} µs, of which the disk takes {disk * 1e6:.0f} µs"


def _file_system(directory: Path | None) -> str:
    """Name the file system of the data; in memory, fsync would cost nothing."""
    mounts = Path("/proc/mounts")
    if directory is None or not mounts.exists():
        return ""
    kinds: dict[str, str] = {}
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        if directory.is_relative_to(point):
            kinds[point] = kind
    kind = kinds[max(kinds, key=len)] if kinds else "an unknown file system"
    if kind in ("tmpfs", "ramfs"):
        return f"; ITS DATA LIES IN MEMORY ({kind}): set TMPDIR to a directory on a disk"
    return f"; data on {kind}"
