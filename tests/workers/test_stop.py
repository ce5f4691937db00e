"""A worker that is stopped in good order gives back what it cannot finish, and charges nothing."""

import os
import signal
import time

import celery
import pytest

from reliable_tasks.models import Attempt, Entry, WorkerProcess
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.harness import wait_until
from tests.workers.support import FAST, outcomes, settled, wait_for


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_warm_stop_finishes_what_runs(worker, folder, pool):
    """SIGTERM lets the running attempt finish; what waits stays for the next worker."""
    first = worker(pool=pool, concurrency=1, settings=FAST)
    running = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    waiting = tasks.hold.delay(str(folder))
    first.terminate()
    settled(first, "Warm shutdown")
    time.sleep(FAST["LEASE_SECONDS"] + 1)  # the lease is renewed to the very end
    folder.go()
    assert first.wait() == 0
    entry = wait_for(running, "succeeded")
    assert (entry.attempt, entry.crashes, outcomes(running)) == (1, 0, [])
    assert running.get(timeout=5, interval=0.05) == 1
    assert not WorkerProcess.objects.exists()
    if pool == "threads" and celery.VERSION < (5, 7):
        # There the pool of threads also runs to the end what it holds when it is stopped.
        wait_for(waiting, "succeeded")
        return
    assert wait_for(waiting, "pending").attempt == 0
    worker(concurrency=1, settings=FAST)
    entry = wait_for(waiting, "succeeded")
    assert (entry.attempt, entry.crashes, outcomes(waiting)) == (1, 0, [])


@pytest.mark.parametrize("task", [tasks.hold, tasks.hold_atomic])
def test_a_cold_stop_releases_at_once(worker, folder, task):
    """SIGQUIT gives the running attempt back at once: nothing charged, nothing of it kept."""
    first = worker(concurrency=2, settings=FAST)
    result = task.delay(str(folder))
    folder.wait_for_runs(1)
    first.quit()
    asked = time.monotonic()
    entry = wait_for(result, "pending", timeout=5)
    assert time.monotonic() - asked < FAST["LEASE_SECONDS"]
    assert (entry.attempt, entry.retries, entry.crashes) == (1, 0, 0)
    assert outcomes(result) == ["released"]
    assert not Effect.objects.exists()
    first.wait()
    folder.go()
    worker(concurrency=1, settings=FAST)
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.retries, entry.crashes) == (2, 0, 0)
    assert [effect.attempt for effect in Effect.objects.all()] == [2]
    assert result.get(timeout=5, interval=0.05) == 2
    wait_until(lambda: WorkerProcess.objects.count() == 1)


def test_a_cold_stop_of_what_hears_no_signal_charges_nothing(worker, folder):
    """A body in native code keeps its lease until its process has really ended."""
    first = worker(concurrency=1, settings=FAST)
    result = tasks.overrun.delay(str(folder), f"blocked {FAST['LEASE_SECONDS'] + 3}", 2)
    folder.wait_for_runs(1)
    first.quit()
    second = worker(concurrency=1, settings=FAST)
    first.wait()
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.retries, entry.crashes) == (1, 0, 0)
    assert len(folder.runs()) == 1
    assert second.alive


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_cold_stop_where_nothing_can_be_interrupted(worker, folder, pool):
    """A pool without processes finishes what runs even on SIGQUIT, and charges nothing either."""
    first = worker(pool=pool, concurrency=1, settings=FAST)
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    first.quit()
    time.sleep(FAST["LEASE_SECONDS"] + 1)
    folder.go()
    first.wait()
    assert wait_for(result, "succeeded").crashes == 0
    assert len(folder.runs()) == 1


def test_children_stopped_along_with_their_worker_release(worker, folder):
    """A service manager that sends SIGTERM to the whole group costs no attempt its budget."""
    first = worker(concurrency=2, settings=FAST)
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    children = first.child_pids()
    first.terminate()
    for child in children:
        os.kill(child, signal.SIGTERM)
    entry = wait_for(result, "pending", timeout=5)
    assert (entry.crashes, entry.retries, outcomes(result)) == (0, 0, ["released"])
    first.wait()
    folder.go()
    worker(concurrency=1, settings=FAST)
    assert wait_for(result, "succeeded").crashes == 0


def test_a_rolling_restart_charges_nothing(worker, folder):
    """Workers replaced one after another, warm and cold, while entries run: all run, none pays."""
    # On SQLite a busy neighbour may keep the heartbeat from writing for longer than a short lease.
    calm = {**FAST, "LEASE_SECONDS": 30}
    folder.go()
    old = [worker(concurrency=2, settings=calm) for _ in range(2)]
    results = [tasks.pause.delay(str(folder), 0.15) for _ in range(60)]
    folder.wait_for_runs(4)
    worker(concurrency=2, settings=calm)
    old[0].terminate()
    folder.wait_for_runs(12)
    worker(concurrency=2, settings=calm)
    old[1].quit()
    for process in old:
        process.wait()
    wait_until(
        lambda: Entry.objects.filter(state="succeeded").count() == len(results),
        40,
        message=lambda: str(Entry.objects.exclude(state="succeeded").values("state", "reason")),
    )
    assert not Entry.objects.exclude(crashes=0, retries=0).exists()
    assert set(Attempt.objects.values_list("outcome", flat=True)) <= {"released"}
    assert Effect.objects.count() == len(results)
