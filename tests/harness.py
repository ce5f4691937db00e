"""What tests with real processes, threads and connections need."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from tests import services

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    timeout: float = 15.0,
    *,
    interval: float = 0.05,
    message: str | Callable[[], str] = "the condition never held",
) -> T:
    """Return the first true value of the predicate.

    Args:
        predicate: Called again and again.
        timeout: Seconds until the wait is given up.
        interval: Seconds between two calls.
        message: What the failure says, or a function that is asked for it then.

    Raises:
        AssertionError: The time is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := predicate():
            return value
        if time.monotonic() > deadline:
            text = message if isinstance(message, str) else message()
            raise AssertionError(f"after {timeout:g} s: {text}")
        time.sleep(interval)


def child_env(
    *, settings: dict[str, Any] | None = None, celery: dict[str, Any] | None = None, **extra: str
) -> dict[str, str]:
    """Return the environment in which a child process sees this run's database and broker.

    Args:
        settings: The child's `RELIABLE_TASKS`, as JSON values.
        celery: Celery settings of the child, with their `CELERY_` prefix, as JSON values.
        extra: Any other variable.
    """
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": services.database_vendor(),
        "RELIABLE_TASKS_TEST_DB": str(connections[DEFAULT_DB_ALIAS].settings_dict["NAME"]),
        "RELIABLE_TASKS_TEST_DATABASE_URL": services.database_url(),
        "RELIABLE_TASKS_TEST_REDIS": services.redis_url(),
        "RELIABLE_TASKS_TEST_KEY_PREFIX": services.redis_key_prefix(),
        "RELIABLE_TASKS_TEST_SETTINGS": json.dumps(settings or {}),
        "RELIABLE_TASKS_TEST_CELERY": json.dumps(celery or {}),
    }
    return {**env, **extra}


class ManagedProcess:
    """A child process with a log, which never outlives its test.

    Args:
        argv: Program and arguments; use `python(...)` for this interpreter.
        env: Its whole environment, from `child_env`.
        log: The file that its output goes to.
        ready: Text in the log that says it is ready; empty means at once.
        start_timeout: Seconds to wait for that text.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: dict[str, str],
        log: Path,
        ready: str = "",
        start_timeout: float = 40.0,
    ) -> None:
        self.argv = list(argv)
        self.env = env
        self.log_path = log
        self.ready = ready
        self.start_timeout = start_timeout
        self._popen: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start the process and wait until it is ready.

        Raises:
            AssertionError: It ended or did not get ready; the message holds its log.
        """
        with self.log_path.open("wb") as log:
            self._popen = subprocess.Popen(
                self.argv,
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                self._is_ready,
                self.start_timeout,
                message=lambda: f"{self.argv} is not ready:\n{self.log}",
            )
        except BaseException:
            self.close()
            raise
        self._children()
        return self

    def _is_ready(self) -> bool:
        if self.ready in self.log:
            return True
        if not self.alive:
            raise AssertionError(f"{self.argv} ended with {self.returncode}:\n{self.log}")
        return False

    @property
    def pid(self) -> int:
        """The id of the main process."""
        if self._popen is None:
            raise RuntimeError("not started")
        return self._popen.pid

    @property
    def log(self) -> str:
        """All that the process has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether the main process lives."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit status of the main process, None while it lives."""
        return None if self._popen is None else self._popen.poll()

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children(recursive=True)
            self._seen.update(children)
            return children
        return []

    def child_pids(self) -> list[int]:
        """Return the ids of the living descendants, for a prefork worker its pool."""
        return [child.pid for child in self._children()]

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        self._children()
        if self._popen is not None and self.alive:
            self._popen.send_signal(number)

    def terminate(self) -> None:
        """Ask for a warm shutdown (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def quit(self) -> None:
        """Ask for a cold shutdown (SIGQUIT)."""
        self.send_signal(signal.SIGQUIT)

    def kill(self) -> None:
        """End the main process and its children as a power cut would, and wait for it."""
        children = self._children()
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        self._end(children)

    def wait(self, timeout: float = 30.0) -> int:
        """Return the exit status.

        Raises:
            AssertionError: It did not end within `timeout` seconds.
        """
        if self._popen is None:
            raise RuntimeError("not started")
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.log}") from None

    def close(self) -> None:
        """Leave nothing running: the main process and every child it was seen with."""
        if self._popen is not None:
            self.kill()
        self._end(list(self._seen))

    @staticmethod
    def _end(processes: list[psutil.Process]) -> None:
        for process in processes:
            # psutil compares the start time, so a recycled id is never signalled.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=5)


def python(*arguments: str) -> list[str]:
    """Return the command line that runs this interpreter with the arguments."""
    return [sys.executable, *arguments]


class WorkerProcess(ManagedProcess):
    """A real `celery worker` on the run's broker and database.

    Args:
        log: The file that its output goes to.
        pool: prefork, threads or solo.
        concurrency: Size of the pool.
        queues: The queues that it consumes.
        name: First part of its host name.
        settings: Its `RELIABLE_TASKS`, as JSON values.
        celery: Its Celery settings, with their `CELERY_` prefix, as JSON values.
        env: Other environment variables.
        arguments: More arguments for `celery worker`.
        app: The module of its Celery app.
        ready: Text in the log that says it is ready; empty means do not wait.
    """

    def __init__(
        self,
        log: Path,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = ("celery",),
        name: str = "worker",
        settings: dict[str, Any] | None = None,
        celery: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        arguments: Sequence[str] = ("--without-gossip", "--without-mingle"),
        app: str = "tests.celery_app",
        ready: str = " ready.",
    ) -> None:
        super().__init__(
            python(
                *("-m", "celery", "-A", app, "worker", "--loglevel", "INFO"),
                *("--pool", pool, "--concurrency", str(concurrency), "-Q", ",".join(queues)),
                *("--hostname", f"{name}@localhost", *arguments),
            ),
            env=child_env(settings=settings, celery=celery, **(env or {})),
            log=log,
            ready=ready,
        )


class SecondConnection:
    """A thread of its own, and so a database connection of its own, for tests of races.

    What is given to `run` is done there, in order; the main thread goes on with its own connection.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="second-connection")

    def start(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Begin a call on the other connection, which may block there, and return its future."""
        return self._executor.submit(function, *args, **kwargs)

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what the function returns, called on the other connection."""
        return self.start(function, *args, **kwargs).result(timeout=30)

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Hold a transaction open on the other connection: calls of `run` inside belong to it."""
        block = transaction.atomic()
        self.run(block.__enter__)
        try:
            yield
        except BaseException as error:
            self.run(block.__exit__, type(error), error, None)
            raise
        else:
            self.run(block.__exit__, None, None, None)

    def close(self) -> None:
        """Close the connection and end the thread."""
        self._executor.submit(connections.close_all)
        self._executor.shutdown(wait=True)
