"""Time limits end an attempt, never an entry: it is retried, then dead, and no crash is charged."""

import os
import signal
import time

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.workers.support import FAST, attempts_of, outcomes, wait_for


@pytest.mark.parametrize("how", ["sleep", "busy", "blocked"])
def test_a_hard_limit_is_a_timeout_that_is_retried(shared, folder, how):
    """Whatever the body is stuck in, the attempt ends at its hard limit and another follows."""
    result = tasks.overrun.apply_async((str(folder), how), time_limit=1)
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.retries, entry.crashes) == (2, 1, 0)
    (attempt,) = attempts_of(result)
    assert attempt.outcome == "timeout"
    assert attempt.error_message == "The hard time limit of 1 s was exceeded."
    assert attempt.started_at < attempt.ended_at
    assert result.get(timeout=5, interval=0.05) == 2


def test_a_hard_limit_in_every_attempt_ends_dead(shared, folder):
    """When no retries are left the entry is dead, and the result tells of the limit."""
    result = tasks.overrun.apply_async((str(folder), "blocked", 99), time_limit=1)
    entry = wait_for(result, "dead")
    assert outcomes(result) == ["timeout", "timeout"]
    assert entry.crashes == 0
    assert entry.reason.startswith("Failed 2 times, the limit is 1 retries.")
    assert "hard time limit of 1 s" in entry.reason
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=5, interval=0.05)
    assert tasks.fail_until.delay(1).get(timeout=15, interval=0.05) == "done"
    assert shared.alive


def test_a_retry_after_a_hard_limit_does_not_show_a_failure(shared, folder):
    """The result waits for the entry's end: an attempt that timed out stores no failure."""
    result = tasks.overrun.apply_async((str(folder), "sleep"), time_limit=1)
    seen = set()
    while not result.ready():
        seen.add(result.state)
        time.sleep(0.02)
    assert result.state == "SUCCESS"
    assert "FAILURE" not in seen


def test_a_hard_limit_rolls_back_an_atomic_body(shared, folder):
    """What an atomic body wrote before its hard limit, here the task's own, is not kept."""
    result = tasks.overrun_atomic.delay(str(folder))
    assert wait_for(result, "succeeded").attempt == 2
    assert outcomes(result) == ["timeout"]
    assert [effect.attempt for effect in Effect.objects.filter(entry_id=result.id)] == [2]


def test_a_soft_limit_is_an_exception_in_the_body(shared, folder):
    """A body may catch its soft limit; one that does not is retried as after any error."""
    heeds = tasks.heeds_soft_limit.apply_async((str(folder),), soft_time_limit=1)
    assert heeds.get(timeout=15, interval=0.05) == "cut short"
    ignores = tasks.overrun.apply_async((str(folder), "sleep", 99), soft_time_limit=1)
    assert wait_for(ignores, "dead").reason.startswith("Failed 2 times")
    assert outcomes(ignores) == ["timeout", "timeout"]
    assert "SoftTimeLimitExceeded" in attempts_of(ignores)[0].traceback
    with pytest.raises(SoftTimeLimitExceeded):
        ignores.get(timeout=5, interval=0.05)


def test_a_soft_limit_that_comes_too_late_spoils_nothing(shared):
    """A soft limit that runs out while the success is written down leaves it a success."""
    result = tasks.slow_end.apply_async(soft_time_limit=1)
    assert result.get(timeout=15, interval=0.05) == 1
    entry = wait_for(result, "succeeded")
    assert entry.attempt == 1


def test_a_limit_is_kept_while_a_child_is_replaced(worker, folder):
    """Replacing a lost child waits for no writer, or the limit of the one that writes is missed."""
    process = worker(concurrency=2, settings=FAST)
    result = tasks.overrun_atomic.apply_async((str(folder),), time_limit=3)
    folder.wait_for_runs(1)
    # On SQLite the body is the one writer. Let the heartbeat come, and wait for its turn.
    time.sleep(3 * FAST["HEARTBEAT_SECONDS"])
    idle = set(process.child_pids()) - {folder.pid()}
    os.kill(idle.pop(), signal.SIGKILL)
    assert wait_for(result, "succeeded", timeout=15).attempt == 2
    assert outcomes(result) == ["timeout"]
