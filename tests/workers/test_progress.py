"""Progress is seen while the body runs, and costs at most a write a second."""

import time

import pytest

from reliable_tasks.models import Entry
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.harness import wait_until
from tests.workers.support import NOT_ON_SQLITE, wait_for

pytestmark = pytest.mark.usefixtures("shared")


@pytest.mark.parametrize(
    "task", [tasks.reports, pytest.param(tasks.reports_atomic, marks=NOT_ON_SQLITE)]
)
def test_progress_is_seen_and_written_once_a_second(task, folder):
    """A body that reports fifty times a second is seen moving, with one write a second."""
    result = task.delay(str(folder))
    folder.wait_for_runs(1)
    rows = Entry.objects.filter(pk=result.id).values_list("progress", flat=True)
    seen = []
    began = time.monotonic()
    while time.monotonic() - began < 3.5:
        progress = rows.get()
        if progress is not None and progress not in seen:
            seen.append(progress)
        time.sleep(0.02)
    assert not Effect.objects.filter(entry_id=result.id).exists()
    assert 3 <= len(seen) <= 5
    assert seen[0] == {"done": 0, "total": 1000, "note": "round 0"}
    assert seen[-1]["done"] > seen[0]["done"]
    folder.go()
    entry = wait_for(result, "succeeded")
    assert entry.progress == {"done": 1000, "total": 1000}
    assert result.get(timeout=10, interval=0.05) > 10


@pytest.mark.skipif(not NOT_ON_SQLITE.args[0], reason="elsewhere it is seen, see above")
def test_progress_within_a_transaction_of_sqlite(folder):
    """On SQLite an atomic body cannot be looked at; its progress neither fails nor blocks it."""
    result = tasks.reports_atomic.delay(str(folder))
    folder.wait_for_runs(1)
    time.sleep(1.2)
    folder.go()
    assert wait_for(result, "succeeded").attempt == 1


def test_progress_of_one_attempt_is_not_anothers(folder):
    """A new attempt starts without the progress of the one before."""
    result = tasks.reports_then_fails.delay()
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.progress) == (2, None)
    wait_until(result.ready)
