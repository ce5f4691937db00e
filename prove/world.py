"""One scenario's world: a database, a broker, producers and workers, and what was done to them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from prove import servers
from tests.harness import ROOT, ManagedProcess, python

#: Everything sooner than by default, so that a proof takes seconds where production takes a minute.
FAST = {
    "LEASE_SECONDS": 4,
    "HEARTBEAT_SECONDS": 1,
    "SWEEP_SECONDS": 0.5,
    "PUBLISH_GRACE": 1,
    "PUBLISH_RECHECK": 5,
    "PUBLISH_RECHECK_MAX": 20,
    "BREAKER_SECONDS": 1,
}
_ATTEMPTS = "SELECT coalesce(sum(attempt), 0) FROM reliable_tasks_entry"
LIVE = "state IN ('pending', 'retrying', 'running')"


@dataclass
class Fault:
    """Something that was done to the world.

    Attributes:
        name: what.
        at: when, by the machine's monotonic clock.
        pids: the processes that it ended or stopped, if it was done to processes.
        over: when a service was back, if it was done to one.
    """

    name: str
    at: float
    pids: frozenset[int] = frozenset()
    over: float | None = None


@dataclass
class World:
    """What a scenario acts on.

    Args:
        folder: where logs go.
        postgres: the database server.
        broker: the broker.
        database: the name of the scenario's database.
        seed: of all that is random.
        short: do less of everything.
        settings: ``RELIABLE_TASKS`` of all processes.
    """

    folder: Path
    postgres: servers.Postgres
    broker: servers.Broker
    database: str
    seed: int
    short: bool = False
    settings: dict[str, Any] = field(default_factory=lambda: dict(FAST))
    celery: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    #: Longest time, in seconds, without an attempt that begins or ends while entries are left.
    bound: float = 40.0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.workers: list[ManagedProcess] = []
        self.producers: list[ManagedProcess] = []
        #: What lives as long as the world.
        self.until_closed = contextlib.ExitStack()
        self._numbers = itertools.count(1)

    # -- processes --------------------------------------------------------------------------------

    @property
    def runs(self) -> Path:
        """The log of attempts."""
        return self.folder / "runs"

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of the world's processes."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "prove.settings",
            **self.postgres.environment(self.database),
            "RELIABLE_TASKS_TEST_REDIS": "redis://127.0.0.1:1/0",
            "PROVE_BROKER": self.broker.url,
            "PROVE_RUNS": str(self.runs),
            "PROVE_SETTINGS": json.dumps(self.settings),
            "PROVE_CELERY": json.dumps(self.celery),
            **more,
        }

    def worker(
        self,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        wait: bool = True,
        env: dict[str, str] | None = None,
    ) -> ManagedProcess:
        """Start a worker."""
        number = next(self._numbers)
        process = ManagedProcess(
            python(
                *("-m", "celery", "-A", "prove.celery_app", "worker", "--loglevel", "INFO"),
                *("--pool", pool, "--concurrency", str(concurrency), "-Q", "prove"),
                *("--hostname", f"w{number}@localhost", "--without-gossip", "--without-mingle"),
            ),
            env=self.env(**(env or {})),
            log=self.folder / f"worker-{number}.log",
            ready=" ready." if wait else "",
            start_timeout=60,
        )
        self.workers.append(process)
        return process.start()

    def producer(self, *arguments: str, env: dict[str, str] | None = None) -> ManagedProcess:
        """Start a producer."""
        number = next(self._numbers)
        process = ManagedProcess(
            python("-m", "prove.producer", "--seed", str(self.seed * 100 + number), *arguments),
            env=self.env(**(env or {})),
            log=self.folder / f"producer-{number}.log",
            ready="producing",
        )
        self.producers.append(process)
        return process.start()

    def produce(self, count: int, *arguments: str, timeout: float = 120) -> None:
        """Have that many orders made, and wait until they are there."""
        producer = self.producer("--count", str(count), "--rate", "0", *arguments)
        producer.wait(timeout)

    @contextlib.contextmanager
    def load(
        self,
        *arguments: str,
        producers: int = 2,
        rate: float = 20,
        env: dict[str, str] | None = None,
    ) -> Iterator[None]:
        """Have orders come in during a block."""
        given = ("--rate", str(rate), *arguments)
        started = [self.producer(*given, env=env) for _ in range(producers)]
        yield
        for each in started:
            each.terminate()
        for each in started:
            each.wait(30)

    # -- faults -----------------------------------------------------------------------------------

    def pause(self, least: float, most: float) -> None:
        """Let the world go on for a random while."""
        time.sleep(self.rng.uniform(least, most))

    def kill(self, process: ManagedProcess, name: str = "SIGKILL") -> Fault:
        """End a process and its children as a power cut would."""
        fault = self.note(name, [process.pid, *process.child_pids()])
        process.kill()
        return fault

    def kill_child(self, worker: ManagedProcess) -> None:
        """End one process of a worker's pool."""
        children = worker.child_pids()
        if children:
            victim = self.rng.choice(children)
            self.note("child SIGKILL", [victim])
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def note(self, name: str, pids: Sequence[int] = ()) -> Fault:
        """Remember a fault that is about to happen."""
        fault = Fault(name, time.monotonic(), frozenset(pids))
        self.faults.append(fault)
        return fault

    @contextlib.contextmanager
    def outage(self, name: str) -> Iterator[None]:
        """Remember an outage of a service, and when it was over."""
        fault = self.note(name)
        yield
        fault.over = time.monotonic()

    # -- what can be seen -------------------------------------------------------------------------

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query, from a connection of its own."""
        with psycopg.connect(self.postgres.address(self.database), autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def count(self, where: str = "true", table: str = "reliable_tasks_entry") -> int:
        """Count rows."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def expect(self, holds: bool, words: str) -> None:
        """Note a broken promise that only this scenario looks for."""
        if not holds:
            self.broken.append(words)

    def settle(self) -> None:
        """Wait until every entry has ended, or nothing has begun or ended for as long as the bound.

        A backlog on a slow machine is not stuck while it gets shorter.
        """
        for producer in self.producers:
            producer.close()
        last, since = (-1, -1), time.monotonic()
        latest = since + 8 * self.bound
        while time.monotonic() < min(since + self.bound, latest):
            seen = self.count(LIVE), int(self.rows(_ATTEMPTS)[0][0])
            if not seen[0]:
                return
            if seen != last:
                last, since = seen, time.monotonic()
            time.sleep(0.3)

    def check(self) -> dict[str, Any]:
        """Return what the independent checker finds."""
        done = subprocess.run(
            python(
                *("-m", "prove.checker", "--runs", str(self.runs)),
                *("--database", self.postgres.address(self.database)),
            ),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        findings: dict[str, Any] = json.loads(done.stdout)
        return findings

    def close(self) -> None:
        """Leave no process behind."""
        with self.until_closed:
            for process in (*self.producers, *self.workers):
                process.close()
