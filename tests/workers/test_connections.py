"""No task opens a database connection, and a broken one costs nothing."""

import pytest
from django.db import connection

from tests.app import worker_tasks as tasks
from tests.app.tasks import add
from tests.harness import wait_until
from tests.workers.support import NOT_ON_SQLITE, attempts_of, entry_of, wait_for


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"], autouse=True)
def process(request, start_shared):
    """Run the module's tests on each pool, in one process or thread at a time."""
    process = start_shared(pool=request.param, concurrency=1, name=request.param)
    yield process
    process.close()


def terminate(backend):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [backend])


def test_tasks_share_their_process_connection():
    """Twenty entries, failures among them, run over one and the same connection."""
    failing = [tasks.fail_until.delay(2) for _ in range(3)]
    results = [tasks.backend_of.delay() for _ in range(20)]
    for result in failing:
        assert wait_for(result, "succeeded").attempt == 2
    seen = {tuple(result.get(timeout=20, interval=0.05)) for result in results}
    assert len(seen) == 1


def test_plain_tasks_are_as_before():
    """Celery goes on closing the connection before and after each task that is not of this base."""
    add.delay(1, 2).get(timeout=20, interval=0.05)
    for _ in range(2):
        _, was_open = tasks.plain_backend_of.delay().get(timeout=20, interval=0.05)
        assert not was_open
    assert add.delay(1, 2).get(timeout=20, interval=0.05) == 3


@NOT_ON_SQLITE
def test_a_connection_lost_between_tasks_is_replaced():
    """The server may end an idle connection: the next entry runs at once, in its first attempt."""
    _, backend = tasks.backend_of.delay().get(timeout=20, interval=0.05)
    terminate(backend)
    result = tasks.backend_of.delay()
    assert result.get(timeout=20, interval=0.05)[1] != backend
    assert entry_of(result).attempt == 1
    assert attempts_of(result) == []


@NOT_ON_SQLITE
@pytest.mark.parametrize("task", [tasks.tells_backend, tasks.tells_backend_atomic])
def test_a_connection_lost_within_a_task(task, folder):
    """Lost in the body, the connection costs that attempt; its end is written over another."""
    result = task.delay(str(folder))
    folder.wait_for_runs(1)
    wait_until((folder.path / "backend").exists)
    terminate(int((folder.path / "backend").read_text()))
    folder.go()
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.crashes) == ((2, 0) if task.atomic else (1, 0))
    assert result.get(timeout=10, interval=0.05) == entry.attempt


@NOT_ON_SQLITE
def test_the_workers_own_connections_may_be_lost(process):
    """Keeper and sweeper get over the loss of theirs: leases are renewed, retries published."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(2):
        assert tasks.fail_until.delay(3).get(timeout=20, interval=0.05) == "done"
    assert process.alive
