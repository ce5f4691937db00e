"""Whatever dies, the entry runs to success or ends dead with a reason."""

import os
import signal
import time

import pytest
from celery.exceptions import WorkerLostError

from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.workers.support import FAST, attempts_of, entry_of, outcomes, settled, wait_for


def test_entries_of_a_killed_worker_run_elsewhere_within_15_seconds(
    worker, folder, record_property
):
    """At default settings, from SIGKILL of a worker to the next attempt takes at most 15 s."""
    first = worker(pool="prefork", concurrency=1)
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    second = worker(pool="prefork", concurrency=1)
    first.kill()
    killed = time.monotonic()
    folder.wait_for_runs(2, timeout=20)
    seconds = time.monotonic() - killed
    record_property("seconds from SIGKILL to the next attempt", round(seconds, 1))
    assert seconds <= 15
    folder.go()
    entry = wait_for(result, "succeeded")
    assert entry.attempt == 2
    assert outcomes(result) == ["crashed"]
    assert result.get(timeout=5, interval=0.05) == 2
    assert Effect.objects.count() == 1
    assert second.alive


def test_effects_of_a_killed_atomic_attempt_are_gone(worker, folder):
    """What an atomic body had written when its worker was killed is not kept; the next run's is."""
    first = worker(concurrency=1, settings=FAST)
    result = tasks.hold_atomic.delay(str(folder))
    folder.wait_for_runs(1)
    first.kill()
    folder.go()
    worker(concurrency=1, settings=FAST)
    assert wait_for(result, "succeeded").attempt == 2
    assert [effect.attempt for effect in Effect.objects.all()] == [2]


def test_a_killed_child_is_noticed_at_once_and_charged(worker, folder):
    """The entry of a killed pool child runs again within seconds, once, and pays one crash."""
    process = worker(concurrency=2)  # by default the heartbeat notices, long before the lease ends
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    os.kill(folder.pid(), signal.SIGKILL)
    killed = time.monotonic()
    folder.wait_for_runs(2)
    assert time.monotonic() - killed < 6
    entry = entry_of(result)
    assert (entry.state, entry.attempt, entry.crashes) == ("running", 2, 2)
    # Celery itself reports the lost child seconds later; the healthy attempt must not pay.
    settled(process, "was lost")
    time.sleep(1)
    assert len(folder.runs()) == 2
    folder.go()
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.crashes) == (2, 1)
    (attempt,) = attempts_of(result)
    assert attempt.outcome == "crashed"
    assert "lost" in attempt.error_message
    assert attempt.worker.startswith("worker1@localhost#")
    assert attempt.started_at < attempt.ended_at
    assert result.get(timeout=5, interval=0.05) == 2


def test_poison_tasks_run_exactly_their_crash_budget(worker, folder):
    """A body that kills its process each time is dead after three crashes, with the reason."""
    process = worker(concurrency=3, settings=FAST)
    results = [
        tasks.misbehave.delay(str(folder), how, 99) for how in ("os._exit", "SIGKILL", "SIGSEGV")
    ]
    for result in results:
        entry = wait_for(result, "dead", timeout=40)
        assert entry.crashes == 3
        assert outcomes(result) == ["crashed"] * 3
        assert len([run for run in folder.runs() if run[1] == result.id]) == 3
        assert "lost 3 times" in entry.reason
        assert "crash budget is 3" in entry.reason
        with pytest.raises(WorkerLostError, match="lost 3 times"):
            result.get(timeout=10, interval=0.05)
    assert tasks.fail_until.delay(1).get(timeout=20, interval=0.05) == "done"
    assert process.alive
