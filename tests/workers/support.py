"""What the tests with real workers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from celery.result import AsyncResult

from reliable_tasks.models import Attempt, Entry
from tests import services
from tests.harness import WorkerProcess, wait_until

#: Everything sooner than by default, yet with room for a machine that has much else to do.
FAST: Final[dict[str, Any]] = {
    "LEASE_SECONDS": 4,
    "HEARTBEAT_SECONDS": 0.5,
    "SWEEP_SECONDS": 0.25,
    "PUBLISH_GRACE": 1,
    "PUBLISH_RECHECK": 2,
    "PUBLISH_RECHECK_MAX": 2,
    "BREAKER_SECONDS": 1,
    "CANCEL_GRACE": 1,
}

NOT_ON_SQLITE: Final = pytest.mark.skipif(
    services.database_vendor() == "sqlite",
    reason="a transaction shuts out all other writers of SQLite",
)


def entry_of(result: AsyncResult) -> Entry:
    """Return the entry behind a result as it is now."""
    return Entry.objects.get(pk=result.id)


def wait_for(result: AsyncResult, *states: str, timeout: float = 20.0) -> Entry:
    """Return the entry once it is in one of the states."""

    def look() -> Entry | None:
        found = entry_of(result)
        return found if found.state in states else None

    def tell() -> str:
        found = entry_of(result)
        return f"{found} is {found.state}, not {states}: {found.reason or found.error_message}"

    return wait_until(look, timeout, message=tell)


def attempts_of(result: AsyncResult) -> list[Attempt]:
    """Return the attempts that did not succeed, in order."""
    return list(Attempt.objects.filter(entry_id=result.id).order_by("number"))


def outcomes(result: AsyncResult) -> list[str]:
    """Return what the attempts that did not succeed came to, in order."""
    return [attempt.outcome for attempt in attempts_of(result)]


class Folder:
    """The test's side of the folder through which it holds a body."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def runs(self) -> list[list[str]]:
        """Return task, entry, attempt and process of every attempt that began."""
        file = self.path / "runs"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for_runs(self, count: int = 1, timeout: float = 20.0) -> list[list[str]]:
        """Return the runs once there are that many."""
        return wait_until(
            lambda: runs if len(runs := self.runs()) >= count else None,
            timeout,
            message=lambda: f"{count} runs wanted, there are {self.runs()}",
        )

    def pid(self) -> int:
        """Return the process of the latest attempt."""
        return int(self.runs()[-1][3])

    def go(self) -> None:
        """Let every body go on."""
        (self.path / "go").touch()


def settled(worker: WorkerProcess, text: str, timeout: float = 15.0) -> None:
    """Wait until the worker's log has the text."""
    wait_until(lambda: text in worker.log, timeout, message=lambda: f"{text!r} in:\n{worker.log}")
