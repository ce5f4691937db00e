"""Cancel, revoke, expiry and due times: an entry starts and stops when it was told to."""

import signal
import time
from datetime import timedelta

import pytest
from celery.exceptions import TaskRevokedError
from django.utils import timezone

from reliable_tasks import operations
from reliable_tasks.models import Entry
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, NOT_ON_SQLITE, entry_of, outcomes, wait_for

pytestmark = pytest.mark.usefixtures("shared")


def cancel(result, reason="not wanted"):
    return operations.cancel([entry_of(result).pk], reason)


def check_cancelled(result, reason="not wanted"):
    entry = wait_for(result, "cancelled")
    assert entry.reason == reason
    assert entry.retries == 0
    assert entry.finished_at is not None
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10, interval=0.05)


def test_what_waits_is_cancelled_at_once():
    """An entry that has not begun is cancelled there and then, and never runs."""
    result = add.apply_async((1, 2), countdown=1)
    assert cancel(result).cancelled == [entry_of(result).pk]
    assert entry_of(result).state == "cancelled"
    check_cancelled(result)
    time.sleep(1.5)
    assert entry_of(result).attempt == 0


@pytest.mark.parametrize(
    "task",
    [
        tasks.reports,
        tasks.looks_up,
        pytest.param(tasks.reports_atomic, marks=NOT_ON_SQLITE),
    ],
)
def test_a_body_that_looks_up_stops_by_itself(task, folder):
    """A body that reports progress or asks is stopped by its next look; its effects roll back."""
    result = task.delay(str(folder))
    folder.wait_for_runs(1)
    assert cancel(result).asked == [entry_of(result).pk]
    check_cancelled(result)
    assert outcomes(result) == ["cancelled"]
    assert len(folder.runs()) == 1
    assert not Effect.objects.filter(entry_id=result.id).exists()


@pytest.mark.parametrize("how", ["sleep", "blocked"])
def test_a_body_that_does_not_look_up_is_terminated(how, folder):
    """After CANCEL_GRACE its process is told to end, and killed if it does not hear."""
    result = tasks.overrun.delay(str(folder), how, 99)
    folder.wait_for_runs(1)
    asked = time.monotonic()
    cancel(result)
    check_cancelled(result)
    assert time.monotonic() - asked > FAST["CANCEL_GRACE"]
    assert outcomes(result) == ["cancelled"]
    assert len(folder.runs()) == 1
    assert add.delay(1, 2).get(timeout=20, interval=0.05) == 3


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_where_nothing_can_be_terminated_the_body_ends_first(another, folder, pool):
    """On a pool without processes a body that does not look up ends by itself, as it likes."""
    process = another(pool=pool, concurrency=1, queues=[pool])
    result = tasks.hold.apply_async((str(folder),), queue=pool)
    folder.wait_for_runs(1)
    cancel(result)
    time.sleep(FAST["CANCEL_GRACE"] + 2 * FAST["HEARTBEAT_SECONDS"])
    assert entry_of(result).state == "running"
    folder.go()
    assert wait_for(result, "succeeded").attempt == 1
    assert process.alive


def test_a_failure_after_a_cancel_is_no_retry(folder):
    """An attempt that fails after its entry was cancelled is not followed by another."""
    result = tasks.fails_when_told.delay(str(folder))
    folder.wait_for_runs(1)
    cancel(result)
    folder.go()
    entry = wait_for(result, "cancelled")
    assert entry.reason == "not wanted"
    assert len(folder.runs()) == 1
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10, interval=0.05)


def test_celerys_revoke_cancels_what_waits():
    """control.revoke(id) ends the entry as cancelled, long before it is due."""
    result = add.apply_async((1, 2), countdown=600)
    app.control.revoke(result.id)
    check_cancelled(result, "Revoked through Celery.")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_celerys_revoke_terminates_what_runs(number, folder):
    """control.revoke(id, terminate=True) ends the attempt and the entry, whatever the signal."""
    result = tasks.overrun.delay(str(folder), "sleep", 99)
    folder.wait_for_runs(1)
    app.control.revoke(result.id, terminate=True, signal=getattr(signal, number))
    check_cancelled(result, "Revoked through Celery.")
    assert len(folder.runs()) == 1
    assert add.delay(1, 2).get(timeout=20, interval=0.05) == 3


def test_what_expires_is_cancelled(folder):
    """An entry that nobody began before it expired is cancelled, and says so."""
    result = add.apply_async((1, 2), expires=0.5, queue="nobody consumes this")
    entry = wait_for(result, "cancelled")
    assert entry.reason == "Expired before an attempt could begin."
    assert entry.attempt == 0
    assert timedelta(seconds=0.4) < entry.finished_at - entry.enqueued_at < timedelta(seconds=4)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10, interval=0.05)


def test_what_runs_does_not_expire(folder):
    """An expiry is about the beginning: an attempt that began in time ends in its own time."""
    result = tasks.hold.apply_async((str(folder),), expires=1)
    folder.wait_for_runs(1)
    time.sleep(1.5)
    folder.go()
    assert result.get(timeout=10, interval=0.05) == 1


def test_countdown_and_eta_are_kept(folder):
    """Delayed entries start at their time: never before, and not much later."""
    eta = timezone.now() + timedelta(seconds=1.2)
    results = [
        *(tasks.fail_until.apply_async((1,), countdown=seconds) for seconds in (0.3, 0.8, 1.5)),
        *(tasks.fail_until.apply_async((1,), eta=each) for each in (eta, eta.isoformat())),
    ]
    lags = []
    for result in results:
        entry = wait_for(result, "succeeded")
        lags.append((entry.started_at - entry.due_at).total_seconds())
    assert all(0 <= lag < 5 for lag in lags), lags


def test_a_cancelled_entry_can_be_put_back():
    """Requeued, a cancelled entry runs, and whoever waits for it gets the new result."""
    result = add.apply_async((1, 2), countdown=600)
    cancel(result)
    check_cancelled(result)
    assert operations.requeue([entry_of(result).pk]).requeued
    assert wait_for(result, "succeeded").attempt == 1
    wait_until(lambda: app.AsyncResult(result.id).state == "SUCCESS")
    assert Entry.objects.get(pk=result.id).reason != "not wanted"
