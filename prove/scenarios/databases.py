"""Faults of the database."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from prove import servers
from prove.scenarios.registry import Skipped, scenario
from prove.world import World


@scenario("postgres-restart", "PostgreSQL stopped immediately and restarted", short=("redis",))
def postgres_restart(world: World) -> None:
    """Restart the database under load as after a crash of its processes."""
    for _ in range(2):
        world.worker()
    with world.load():
        for _ in range(1 if world.short else 4):
            world.pause(1.5, 3)
            with world.outage("immediate stop"):
                world.postgres.restart_immediately(world.rng.uniform(0, 3))
            world.pause(1, 2)


@scenario(
    "connections-cut", "all database connections terminated again and again", short=("redis",)
)
def connections_cut(world: World) -> None:
    """Terminate every backend, whatever it is doing."""
    for _ in range(2):
        world.worker()
    with world.load():
        for _ in range(5 if world.short else 15):
            world.pause(0.3, 1.2)
            with world.outage("terminated"):
                world.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )


@scenario("slots-used-up", "every connection slot of PostgreSQL taken")
def slots_used_up(world: World) -> None:
    """Take all slots that are left, twice; whoever is cut off meanwhile finds none."""
    for _ in range(2):
        world.worker()
    with world.load():
        for _ in range(2):
            world.pause(1, 2)
            taken: list[psycopg.Connection] = []
            with world.outage("no slots"):
                for _ in range(4):
                    _take_slots(world, taken)
                    world.pause(0.8, 1.2)
                    taken[0].execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                        "datname = current_database() AND application_name <> 'slot'"
                    )
                for connection in taken:
                    connection.close()
            world.expect(len(taken) > 50, f"only {len(taken)} slots could be taken")
        world.pause(1, 2)


def _take_slots(world: World, taken: list[psycopg.Connection]) -> None:
    address = world.postgres.address(world.database)
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            taken.append(
                psycopg.connect(
                    address, autocommit=True, application_name="slot", connect_timeout=5
                )
            )


@scenario("idle-transaction", "a transaction left open, with rows of the ledger locked")
def idle_transaction(world: World) -> None:
    """Hold two waiting entries' rows locked and idle; everybody else's work goes on."""
    for _ in range(2):
        world.worker(concurrency=4)
    seconds = 10 if world.short else 60
    with world.load(rate=8):
        world.pause(1, 2)
        with psycopg.connect(world.postgres.address(world.database)) as idle:
            idle.execute(
                "INSERT INTO prove_order (number, kind) VALUES (gen_random_uuid(), 'atomic')"
            )
            # Not one that its callers are to change: they would wait as long.
            idle.execute(
                "SELECT id FROM reliable_tasks_entry WHERE state = 'pending' "
                "AND task NOT LIKE '%.recount' LIMIT 2 FOR UPDATE"
            )
            before = world.count("state = 'succeeded'")
            with world.outage("idle"):
                time.sleep(seconds)
                done = world.count("state = 'succeeded'") - before
                idle.rollback()
        world.expect(done > seconds * 4, f"only {done} ended in {seconds} s beside it")


@scenario("disk-full", "the database's disk full, then freed")
def disk_full(world: World) -> None:
    """Fill the file system that PostgreSQL is on; it refuses or falls; then there is room again."""
    disk = world.until_closed.enter_context(_small_disk())
    postgres = _OnDisk(disk, world.postgres)
    postgres.start()
    world.until_closed.callback(postgres.stop)
    postgres.make_template()
    postgres.copy_template(world.database)
    world.postgres = postgres
    for _ in range(2):
        world.worker()
    ballast = disk / "ballast"
    with world.load():
        world.pause(2, 3)
        with world.outage("disk full"):
            _fill(ballast)
            world.pause(6, 8)
            full = shutil.disk_usage(disk).free
            fell = not postgres.running or not postgres.answers()
            ballast.unlink()
            if fell:
                postgres.kill()
                postgres.start()
        world.expect(full < (1 << 20), "the disk was not full")
        world.pause(1, 2)


class _OnDisk(servers.Postgres):
    def __init__(self, disk: Path, other: servers.Postgres) -> None:
        super().__init__()
        self._bin = other._bin  # one copy of the programs serves both
        self._directory = disk / "server"
        self._directory.mkdir()

    def command(self) -> list[str]:
        options = ("max_wal_size=48MB", "min_wal_size=32MB")
        return [*super().command(), *(word for each in options for word in ("-c", each))]


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small file system")
    disk = Path(tempfile.mkdtemp(prefix="prove-disk-"))
    disk.chmod(0o755)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        disk.rmdir()
        raise Skipped(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
