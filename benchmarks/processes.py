"""Runs producers and Celery workers of either side as child processes of the driver."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

from benchmarks import counters, environment
from benchmarks.servers import BenchmarkError, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.environment import Side

ROOT = Path(__file__).resolve().parent.parent
_CHILD_SECONDS = 300.0
_DRAIN_SECONDS = 300.0


@dataclass
class Worker:
    """A running ``celery worker`` and the directory that its processes write to."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def log(self) -> Path:
        """Where the worker's output goes."""
        return self.directory / "worker.log"

    def wait(self, done: Callable[[], bool], what: str, poll: float) -> float:
        """Wait until ``done()`` and return the monotonic time in seconds.

        Args:
            done: a cheap question, asked again every ``poll`` seconds.
            what: the awaited state, for the error message.
            poll: seconds between two questions.

        Raises:
            BenchmarkError: the worker ended, or nothing came for five minutes.
        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        while not done():
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                how = "ended" if ended else "did not get there in time"
                tail = self.log.read_text()[-2000:]
                tally = counters.read_tally(self.directory)
                raise BenchmarkError(
                    f"Waiting for {what}, but the worker {how} ({tally.count} bodies ran).\n{tail}"
                )
            time.sleep(poll)
        return time.monotonic()


@dataclass
class Bench:
    """The two servers, and how to run either side against them.

    Attributes:
        servers: the running servers.
        directory: for what the processes write; removed with the run.
        patience: seconds until a worker that does not end is killed. (billiard's children may wait
            for half a minute at a warm shutdown, on either side.)
    """

    servers: Servers
    directory: Path
    patience: float = 10.0
    _redis: redis.Redis = field(init=False)

    def __post_init__(self) -> None:
        self._redis = redis.Redis.from_url(self.servers.redis_url)

    def environment(self, side: Side, extra: dict[str, str] | None = None) -> dict[str, str]:
        """Return the variables of a child process.

        Args:
            side: which library the child runs.
            extra: further variables, over the others.
        """
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            # What Celery leaves behind when it is stopped goes away with the run.
            "TMPDIR": str(self.directory),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            environment.SIDE: side,
            environment.DATABASE_URL: self.servers.database_url,
            environment.REDIS_URL: self.servers.redis_url,
            environment.RUN_DIRECTORY: str(self.directory),
            **(extra or {}),
        }

    def produce(
        self, side: Side, *arguments: object, extra: dict[str, str] | None = None
    ) -> dict[str, float]:
        """Run one case of ``benchmarks.child`` and return what it printed.

        Args:
            side: which library the child runs.
            arguments: the case's name and numbers.
            extra: further environment variables.

        Raises:
            BenchmarkError: the child failed; its output is in the message.
        """
        command = [sys.executable, "-m", "benchmarks.child", *map(str, arguments)]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.environment(side, extra), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as child:  # fmt: skip
            try:
                output, errors = child.communicate(timeout=_CHILD_SECONDS)
            except BaseException:
                child.kill()
                raise
        if child.returncode:
            raise BenchmarkError(f"{' '.join(command[2:])} ({side}) failed:\n{errors[-3000:]}")
        figures: dict[str, float] = json.loads(output.splitlines()[-1])
        return figures

    def clean(self) -> None:
        """Empty the ledger and Redis, and flush PostgreSQL's dirty pages: runs start equal."""
        self._redis.flushdb()
        with psycopg.connect(self.servers.database_url, autocommit=True) as connection:
            exists = connection.execute("SELECT to_regclass('reliable_tasks_entry')").fetchone()
            if exists and exists[0]:
                connection.execute("TRUNCATE reliable_tasks_entry CASCADE")
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("CHECKPOINT")

    @contextlib.contextmanager
    def worker(
        self, side: Side, processes: int = 2, extra: dict[str, str] | None = None
    ) -> Iterator[Worker]:
        """Run a prefork ``celery worker`` and end it with a warm shutdown.

        Args:
            side: which library it runs.
            processes: pool size.
            extra: further environment variables.
        """
        directory = Path(tempfile.mkdtemp(prefix=f"worker-{side}-", dir=self.directory))
        variables = {environment.RUN_DIRECTORY: str(directory), **(extra or {})}
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_app", "worker"]
        command += ["--concurrency", str(processes), "--loglevel", "WARNING"]
        command += ["--queues", environment.QUEUE, "--hostname", f"{side}@%h"]
        # Looking for other workers costs a second at the start and nothing later.
        command += ["--without-mingle"]
        with (directory / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(side, variables), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield Worker(process, directory)
        finally:
            _stop(process, self.patience)

    def drain(
        self, side: Side, task: str, count: int, extra: dict[str, str] | None = None
    ) -> float:
        """Return tasks per second of a worker that works off a waiting backlog.

        The clock runs from the first body's start until the last task is settled: in the ledger
        (succeeded), or acknowledged to Redis.

        Args:
            side: which library it runs.
            task: name of a task in ``benchmarks.tasks``.
            count: length of the backlog.
            extra: further environment variables.
        """
        self.clean()
        self.produce(side, "fill", task, count)
        settled = self._ledger_settled if side == "ledger" else self._queue_settled
        with self.worker(side, extra=extra) as worker:
            worker.wait(
                lambda: counters.read_tally(worker.directory).count >= count, "all bodies", 0.02
            )
            with psycopg.connect(self.servers.database_url, autocommit=True) as connection:
                end = worker.wait(lambda: settled(connection, count), "the last finish", 0.005)
            tally = counters.read_tally(worker.directory)
        if side == "plain" and tally.count != count:
            raise BenchmarkError(f"{tally.count} bodies ran for {count} tasks.")
        return count / (end - tally.first)

    def latencies(self, side: Side, rate: int, seconds: float) -> list[float]:
        """Return the sorted seconds from before ``delay()`` to the body's start, of a steady load.

        Args:
            side: which library it runs.
            rate: tasks per second.
            seconds: how long.
        """
        self.clean()
        with self.worker(side) as worker:
            # One task shows that the worker is up; its time is not kept.
            self.produce(side, "steady", 1, 0)
            worker.wait(lambda: counters.read_tally(worker.directory).count >= 1, "a start", 0.02)
            sent = int(self.produce(side, "steady", rate, seconds)["sent"]) + 1
            worker.wait(
                lambda: counters.read_tally(worker.directory).count >= sent, "all bodies", 0.05
            )
        return counters.read_samples(worker.directory)

    def _ledger_settled(
        self, connection: psycopg.Connection[tuple[object, ...]], count: int
    ) -> bool:
        row = connection.execute(
            "SELECT count(*) FROM reliable_tasks_entry WHERE state = 'succeeded'"
        ).fetchone()
        return row is not None and row[0] == count

    def _queue_settled(self, _connection: object, _count: int) -> bool:
        return not self._redis.llen(environment.QUEUE) and not self._redis.hlen("unacked")


def _stop(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a worker warmly; kill it with the children of its session if that takes too long."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    finally:  # Ctrl-C may come while we wait
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
