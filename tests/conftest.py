"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests import services
from tests.harness import SecondConnection, WorkerProcess

# The same examples in every run: a test that turns red stays red until the code is mended.
hypothesis_settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
hypothesis_settings.load_profile("suite")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Start the database server before pytest-django creates the test database on it."""
    services.ensure_database()


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_keepdb: bool) -> bool:
    """Leave the test database behind a pooler, whose open connections keep it from being dropped.

    Its server ends with the run.
    """
    return django_db_keepdb or services.pooled()


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Return the URL of a real Redis."""
    return services.ensure_redis()


@pytest.fixture
def flush_broker(redis_url: str) -> Iterator[Callable[[], None]]:
    """Give the test an empty broker, and a function that empties it again."""
    services.empty_broker()
    yield services.empty_broker
    services.empty_broker()


@pytest.fixture
def private_redis() -> Iterator[services.RedisServer]:
    """Give the test a Redis of its own, to kill, stop or restart."""
    server = services.RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def worker(
    transactional_db: None, flush_broker: Callable[[], None], tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Give the test a function that starts real workers, which end with the test."""
    started: list[WorkerProcess] = []

    def start(**options: Any) -> WorkerProcess:
        number = len(started) + 1
        options.setdefault("name", f"worker{number}")
        process = WorkerProcess(tmp_path / f"worker-{number}.log", **options)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.close()


@pytest.fixture
def second_connection(transactional_db: None) -> Iterator[SecondConnection]:
    """Give the test a second, truly separate database connection in a thread of its own."""
    second = SecondConnection()
    yield second
    second.close()


# What starts real processes, and waits for them most of its time.
SLOW = ("workers", "faults", "prove", "example", "model", "operating", "browser")
# What no database has a part in, beyond SQLite in projects that these tests make.
ANY_DATABASE = (
    "planted",
    "test_diagram.py",
    "test_docs.py",
    "test_layers.py",
    "test_messages.py",
    "test_packaging.py",
    "test_quickstart.py",
    "test_readme.py",
    "test_screenshots.py",
    "schedules/test_simulation.py",
    "workers/test_canvas_parity.py",
    "operating/test_who_may_act.py",
    "operating/test_in_chinese.py",
    "test_unfold.py",
    "test_upgrading.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run slow files first: side by side, one that began last would be waited for alone."""
    tests = config.rootpath / "tests"
    place = {item: item.path.relative_to(tests) for item in items}
    first = {item: path.parts[0] for item, path in place.items()}
    items.sort(key=lambda item: first[item] not in SLOW)
    if services.database_vendor() != "sqlite":
        once = pytest.mark.skip(reason="depends on no database, and runs where that is SQLite")
        for item in items:
            if first[item] in ANY_DATABASE or place[item].as_posix() in ANY_DATABASE:
                item.add_marker(once)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the logs of a failed test's workers."""
    outcome: Any = yield
    report = outcome.get_result()
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.when == "call" and report.failed and "worker" in getattr(item, "fixturenames", ()):
        for log in sorted(Path(directory).glob("worker-*.log")):
            report.sections.append((log.name, log.read_text(errors="replace")[-8000:]))
