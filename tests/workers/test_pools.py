"""On every pool: success, retries, failure, and bodies that raise what no body should."""

import importlib.util

import pytest
from celery.exceptions import MaxRetriesExceededError

from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.workers.support import attempts_of, entry_of, outcomes, wait_for

GEVENT = pytest.param(
    "gevent",
    marks=pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="needs gevent"),
)


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", GEVENT], autouse=True)
def pool(request, start_shared):
    """Run the module's tests on each pool."""
    process = start_shared(pool=request.param, concurrency=2, name=request.param)
    process.name = request.param
    yield process
    process.close()


def effects_of(result):
    return list(Effect.objects.filter(entry_id=result.id).values_list("attempt", flat=True))


def test_a_task_runs(pool):
    """An entry runs once, its result is stored, nothing is left to say about attempts."""
    result = tasks.fail_until.delay(1, value={"kept": [1, None, "ü"]})
    assert result.get(timeout=20, interval=0.05) == {"kept": [1, None, "ü"]}
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.retries, entry.crashes) == (1, 0, 0)
    assert entry.worker.startswith(f"{pool.name}@localhost#")
    assert entry.enqueued_at <= entry.started_at <= entry.finished_at
    assert attempts_of(result) == []


def test_a_failed_task_is_retried(pool):
    """Each failure is kept whole; the delays double; the last attempt's result counts."""
    result = tasks.fail_until.delay(3)
    assert result.get(timeout=20, interval=0.05) == "done"
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.retries, entry.crashes) == (3, 2, 0)
    first, second = attempts_of(result)
    assert [first.number, second.number] == [1, 2]
    assert [first.outcome, second.outcome] == ["failed", "failed"]
    assert (first.error_class, first.error_message) == ("ValueError", "attempt 1")
    assert 'raise ValueError(f"attempt {self.attempt}")' in first.traceback
    assert "reliable_tasks/" not in first.traceback
    assert first.fingerprint == second.fingerprint != ""
    assert first.worker == entry.worker
    assert first.started_at <= first.ended_at < second.started_at <= second.ended_at
    assert (second.started_at - first.ended_at).total_seconds() > 0.08
    assert (entry.started_at - second.ended_at).total_seconds() > 0.18


def test_an_atomic_task_keeps_only_the_effects_of_its_success(pool):
    """What failed attempts of an atomic task wrote is rolled back."""
    result = tasks.fail_until_atomic.delay(3)
    assert result.get(timeout=20, interval=0.05) == 3
    assert effects_of(result) == [3]
    assert outcomes(result) == ["failed", "failed"]


def test_an_exhausted_task_is_dead_with_a_reason(pool):
    """After max_retries the entry is dead; reason, error and result say why."""
    result = tasks.always_fail.delay("no money")
    with pytest.raises(ValueError, match="no money"):
        result.get(timeout=20, interval=0.05)
    entry = wait_for(result, "dead")
    assert entry.reason == "Failed 3 times, the limit is 2 retries. Last: ValueError: no money"
    assert (entry.error_class, entry.error_message) == ("ValueError", "no money")
    assert outcomes(result) == ["failed"] * 3
    assert entry.finished_at is not None


def test_what_is_not_retried_is_dead_at_once(pool):
    """dont_autoretry_for ends an entry with its first failure."""
    entry = wait_for(tasks.picky.delay(), "dead")
    assert entry.reason == "Not retried: Picky is in dont_autoretry_for. Picky: not worth it"
    assert entry.attempt == 1


@pytest.mark.parametrize("how", ["plain", "default", "quiet", "error", "limited", "raise"])
def test_a_body_asks_for_another_attempt(pool, how):
    """self.retry() in each of its ways, and a Retry raised by hand, mean one more attempt."""
    result = tasks.asks_again.delay(how)
    assert result.get(timeout=20, interval=0.05) == {"attempt": 2, "retries": 1}
    (attempt,) = attempts_of(result)
    assert attempt.outcome == "retry"
    if how == "error":
        assert (attempt.error_class, attempt.error_message) == ("KeyError", "'cause'")
    if how == "plain":
        gap = entry_of(result).started_at - attempt.ended_at
        assert 0.18 < gap.total_seconds() < 3


@pytest.mark.parametrize("how", ["handling", "handling, told", "handling, quiet"])
def test_what_a_retry_was_asked_for_is_kept(pool, how):
    """self.retry() in an except clause keeps what was caught: class, message and traceback."""
    result = tasks.asks_again.delay(how)
    assert result.get(timeout=20, interval=0.05) == {"attempt": 2, "retries": 1}
    (attempt,) = attempts_of(result)
    assert (attempt.outcome, attempt.error_message) == ("retry", "gateway: 503")
    assert attempt.error_class == "tests.app.worker_tasks.TwoWords"
    assert 'raise TwoWords("gateway", 503)' in attempt.traceback


def test_a_retry_may_change_the_arguments(pool):
    """self.retry(args=…) gives the next attempt other arguments."""
    result = tasks.asks_again.delay("args", 9)
    assert result.get(timeout=20, interval=0.05) == {"attempt": 2, "retries": 1}
    assert entry_of(result).args == ["args", 1]


@pytest.mark.parametrize(
    ("how", "error"), [("limited", LookupError), ("unlimited error", MaxRetriesExceededError)]
)
def test_the_limit_of_a_retry_is_the_end(pool, how, error):
    """self.retry(max_retries=1) raises the given error, or Celery's own, the second time."""
    result = tasks.asks_again.delay(how, 9)
    with pytest.raises(error):
        result.get(timeout=20, interval=0.05)
    entry = wait_for(result, "dead")
    assert entry.reason.startswith("Failed 2 times, the limit is 1 retries.")
    assert outcomes(result) == ["retry", "failed"]


def test_a_retry_raised_by_hand_is_not_for_ever(pool, folder):
    """`raise Retry` in every attempt ends with the task's own limit."""
    result = tasks.raises_retry_forever.delay(str(folder))
    assert wait_for(result, "dead").reason.startswith("Failed 2 times, the limit is 1 retries.")
    assert len(folder.runs()) == 2


def test_ignore_is_an_end_that_keeps_what_was_written(pool):
    """A body that raises Ignore has ended well, without a result; its transaction commits."""
    result = tasks.says_ignore.delay()
    entry = wait_for(result, "succeeded")
    assert entry.attempt == 1
    assert effects_of(result) == [1]
    assert result.state == "PENDING"


@pytest.mark.parametrize(
    ("requeue", "attempts", "reason"),
    [(False, 1, "Rejected by the task: 'not mine'."), (True, 2, "Failed 2 times")],
)
def test_reject_is_a_failure(pool, requeue, attempts, reason):
    """Reject ends the entry dead; Reject(requeue=True) is retried like any failure."""
    result = tasks.rejects.delay(requeue)
    entry = wait_for(result, "dead")
    assert entry.reason.startswith(reason)
    assert outcomes(result) == ["rejected"] * attempts


@pytest.mark.parametrize(
    "how",
    [
        "MemoryError",
        "sys.exit 0",
        "sys.exit -1",
        "KeyboardInterrupt",
        "GeneratorExit",
        "CancelledError",
    ],
)
def test_what_is_no_ordinary_exception_is_a_failure_too(pool, folder, how):
    """Whatever a body raises is retried, then dead, and the worker lives on."""
    once = tasks.misbehave.delay(str(folder), how, 2)
    always = tasks.misbehave.delay(str(folder), how, 99)
    assert once.get(timeout=20, interval=0.05) == 2
    assert outcomes(once) == ["failed"]
    entry = wait_for(always, "dead")
    assert outcomes(always) == ["failed", "failed"]
    assert entry.crashes == 0
    assert entry.reason.startswith("Failed 2 times, the limit is 1 retries.")
    with pytest.raises(Exception, match=r".*"):
        always.get(timeout=10, interval=0.05)
    assert pool.alive
