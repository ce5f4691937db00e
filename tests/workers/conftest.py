"""Fixtures of the tests with real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tests import services
from tests.celery_app import app
from tests.harness import WorkerProcess
from tests.workers.support import FAST, Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Give the test a folder through which it holds bodies."""
    return Folder(tmp_path / "bodies")


@pytest.fixture(scope="module")
def start_shared(
    django_db_setup: None,
    django_db_blocker: Any,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., WorkerProcess]]:
    """Give the module a function that starts a worker for all its tests.

    Starting one takes as long as many a test. Nothing is flushed in between, so such tests look at
    nothing but the entries they made.
    """
    with django_db_blocker.unblock():
        services.empty_broker()
        started: list[WorkerProcess] = []

        def start(**options: Any) -> WorkerProcess:
            number = len(started) + 1
            options.setdefault("settings", FAST)
            options.setdefault("name", f"shared{number}")
            log = tmp_path_factory.mktemp("shared") / f"worker-{number}.log"
            started.append(WorkerProcess(log, **options).start())
            return started[-1]

        yield start
        for process in started:
            process.close()
        services.empty_broker()
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def shared(start_shared: Callable[..., WorkerProcess]) -> WorkerProcess:
    """Give the module one prefork worker for all its tests."""
    return start_shared(concurrency=2)


@pytest.fixture
def another(start_shared: Callable[..., WorkerProcess]) -> Iterator[Callable[..., WorkerProcess]]:
    """Give the test a function that starts more workers beside the shared one."""
    started: list[WorkerProcess] = []

    def start(**options: Any) -> WorkerProcess:
        started.append(start_shared(**options))
        return started[-1]

    yield start
    for process in started:
        process.close()


def use_backend(url: str | None) -> None:
    """Make this process store and read results in another backend."""
    consumer = getattr(app.backend, "result_consumer", None)
    if consumer is not None:
        consumer.stop()
        consumer._pubsub = None  # a result that is collected later would open it again
        app.backend.client.connection_pool.disconnect()
    app.backend_cls = url  # goes before the setting
    app._backend_cache = None
    app._local.__dict__.pop("backend", None)


@pytest.fixture(scope="module", params=["django-db", "redis"])
def backend(request: pytest.FixtureRequest, redis_url: str) -> Iterator[str]:
    """Run the module's tests with each result backend, and return its URL."""
    before = app.backend_cls
    url = redis_url if request.param == "redis" else request.param
    use_backend(url)
    yield url
    use_backend(before)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the database made also when nothing but tests with a shared worker are to run.

    pytest-django makes it where some test is marked, and flushes it after each that is.
    """

    def fixtures(item: pytest.Item) -> set[str]:
        return set(getattr(item, "fixturenames", ()))

    sharing = [item for item in items if "start_shared" in fixtures(item)]
    marked = [item for item in items if item.get_closest_marker("django_db")]
    if sharing and not marked and not any("transactional_db" in fixtures(each) for each in items):
        sharing[0].add_marker(pytest.mark.django_db(transaction=True))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the end of the shared worker's log with a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    for value in getattr(item, "funcargs", {}).values():
        if report.when == "call" and report.failed and isinstance(value, WorkerProcess):
            report.sections.append((value.log_path.name, value.log[-8000:]))
