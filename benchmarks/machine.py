"""Facts about the machine without which the figures mean nothing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

if TYPE_CHECKING:
    from benchmarks.servers import Servers

_COMMITS = 200
_PACKAGES = ("celery", "kombu", "redis", "django", "psycopg", "django-reliable-tasks")
_POSTGRESQL = ("server_version", "fsync", "synchronous_commit", "wal_sync_method", "shared_buffers")


def facts(servers: Servers) -> dict[str, str]:
    """Return what to print above the table, by label.

    Args:
        servers: the running servers.
    """
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    found = {
        "CPU": f"{os.cpu_count()} cores, {_cpu_model()}",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        values = {name: _show(connection, name) for name in _POSTGRESQL}
        shown = ", ".join(f"{name} = {value}" for name, value in list(values.items())[1:])
        where = "over a Unix socket" if connection.info.host.startswith("/") else "over TCP"
        found["PostgreSQL"] = f"{values['server_version']} {where}; {shown}"
        durable, fast = _commit_times(connection)
    found["One INSERT + commit"] = (
        f"{durable * 1e6:.0f} µs; {fast * 1e6:.0f} µs with synchronous_commit off, so the disk "
        f"takes {max(0.0, durable - fast) * 1e3:.2f} ms a commit{_disk(servers.data)}"
    )
    info = redis.Redis.from_url(servers.redis_url).info("server")
    found["Redis"] = f"{info['redis_version']} over TCP"
    found["Load before the run"] = load
    return found


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


def _show(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else "?"


def _commit_times(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[float, float]:
    """Return median seconds of an INSERT with a durable commit, and with an asynchronous one."""
    connection.execute("CREATE TABLE commit_probe (id int)")
    medians = []
    for mode in ("on", "off"):
        connection.execute(f"SET synchronous_commit = {mode}")
        times = []
        for _ in range(_COMMITS):
            started = time.perf_counter()
            connection.execute("INSERT INTO commit_probe VALUES (1)")
            times.append(time.perf_counter() - started)
        medians.append(statistics.median(times))
    connection.execute("DROP TABLE commit_probe")
    return medians[0], medians[1]


def _disk(directory: Path | None) -> str:
    """Return a warning when the data lies in memory, where fsync costs nothing."""
    mounts = Path("/proc/mounts")
    if directory is None or not mounts.exists():
        return ""
    kinds: dict[str, str] = {}
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        if directory.is_relative_to(point):
            kinds[point] = kind
    kind = kinds[max(kinds, key=len)] if kinds else "?"
    if kind in ("tmpfs", "ramfs"):
        return f" — BUT THE DATA LIES IN MEMORY ({kind}): set TMPDIR to a directory on a disk"
    return f" ({kind})"
