"""Fixtures of the tests at fault points."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from django.core.management import call_command

from reliable_tasks.models import Entry
from tests import services
from tests.app.models import Effect, Item
from tests.harness import ROOT, child_env, python, wait_until
from tests.workers.support import Folder

SETTINGS = {
    "LEASE_SECONDS": 2,
    "HEARTBEAT_SECONDS": 0.5,
    "SWEEP_SECONDS": 0.1,
    "PUBLISH_GRACE": 0.5,
    "PUBLISH_RECHECK": 1,
    "PUBLISH_RECHECK_MAX": 1,
    "BREAKER_SECONDS": 0.5,
    "CRASH_BUDGET": 5,
}
ENDED = ("succeeded", "dead", "cancelled")


class Zygote:
    """The process that forks victims and rescuers."""

    def __init__(self, log: Path) -> None:
        self._errors = log.open("wb")
        self._process = subprocess.Popen(
            python("-m", "tests.faults.zygote"),
            cwd=ROOT,
            env=child_env(settings=SETTINGS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._answer() == "ready", log.read_text()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def fork(self, order: dict[str, Any]) -> psutil.Process:
        """Start what is ordered."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return psutil.Process(int(self._answer()))

    def close(self) -> None:
        """End it; what it forked is ended by each test."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._errors.close()


class Stage:
    """One test's queue, victim and rescuers, and what became of its entries.

    Args:
        zygote: forks the processes.
        path: the test's own folder.
    """

    def __init__(self, zygote: Zygote, path: Path) -> None:
        self.zygote = zygote
        self.path = path
        self.queue = f"faults-{uuid4().hex[:12]}"
        self.folder = Folder(path / "bodies")
        self.marker = path / "marker"
        self.processes: list[psutil.Process] = []
        self.broker = ""
        self.at_end = contextlib.ExitStack()
        #: Called at each look at the entries: what must always hold.
        self.watch: Callable[[], object] = lambda: None
        self._seen: set[psutil.Process] = set()

    def start(self, role: str, **more: Any) -> psutil.Process:
        """Start a process in a role; with ``point`` and ``fault`` it is a victim."""
        number = len(self.processes) + 1
        order = {
            "role": role,
            "queue": self.queue,
            "pool": "solo",
            "name": f"{role}{number}",
            "folder": str(self.folder),
            "log": str(self.path / f"{role}-{number}.log"),
            "marker": str(self.marker),
            **({"broker": self.broker} if self.broker else {}),
            **more,
        }
        process = self.zygote.fork(order)
        self.processes.append(process)
        return process

    def hit(self) -> None:
        """Wait until the fault has happened."""
        wait_until(self.marker.exists, 20, interval=0.02, message=self.logs)
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.update(process.children(recursive=True))

    def go_on(self, victim: psutil.Process) -> None:
        """Let a frozen victim go on."""
        os.killpg(victim.pid, signal.SIGCONT)

    def entries(self) -> list[Entry]:
        """Return the test's entries."""
        self.watch()
        return list(Entry.objects.filter(queue=self.queue))

    def wait_ended(self) -> None:
        """Wait until there is no entry that has not ended."""
        wait_until(
            lambda: all(entry.state in ENDED for entry in self.entries()),
            25,
            message=lambda: (
                f"{[(e.state, e.attempt, e.worker) for e in self.entries()]}{self.logs()}"
            ),
        )

    def end(self, process: psutil.Process) -> None:
        """Ask a process to stop in good order, and wait for it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        wait_until(lambda: not process.is_running(), 25, message=self.logs)

    def effects(self) -> list[Effect]:
        """Return the effects of the test's entries."""
        return list(Effect.objects.filter(entry_id__in=[entry.pk for entry in self.entries()]))

    def items(self) -> int:
        """Return how many items the test's producer has saved."""
        return Item.objects.filter(name=str(self.folder)).count()

    def logs(self) -> str:
        """Return what all processes of the test have printed."""
        return "".join(
            f"\n--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted(self.path.glob("*.log"))
        )

    def close(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.update(process.children(recursive=True))
        for process in (*self.processes, *self._seen):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self.processes, timeout=5)
        self.at_end.close()


@pytest.fixture(scope="session")
def zygote(
    django_db_setup: None,
    django_db_blocker: Any,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Zygote]:
    """Give all tests of a run one zygote."""
    with django_db_blocker.unblock():
        forks = Zygote(tmp_path_factory.mktemp("zygote") / "errors")
    yield forks
    forks.close()


@pytest.fixture
def stage(zygote: Zygote, django_db_blocker: Any, tmp_path: Path) -> Iterator[Stage]:
    """Give the test a queue of its own and processes that end with it. Nothing is flushed."""
    with django_db_blocker.unblock():
        set_up = Stage(zygote, tmp_path)
        yield set_up
        set_up.close()


@pytest.fixture(scope="module", autouse=True)
def emptied(zygote: Zygote, django_db_blocker: Any) -> Iterator[None]:
    """Leave an empty ledger and broker to other modules."""
    with django_db_blocker.unblock():
        services.empty_broker()
        yield
        services.empty_broker()
        call_command("flush", verbosity=0, interactive=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the database made also when no other test is to run: pytest-django asks the marks."""
    staged = [item for item in items if "stage" in getattr(item, "fixturenames", ())]
    if staged and not any(item.get_closest_marker("django_db") for item in items):
        staged[0].add_marker(pytest.mark.django_db(transaction=True))
