"""An attempt that comes back after its lease ended changes nothing any more."""

import os
import signal
import time

import pytest
from django.db import connection

from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.workers.support import FAST, Folder, entry_of, outcomes, settled, wait_for


@pytest.fixture
def pair(worker):
    """Give the test a worker that it may stop, and another."""
    return worker(concurrency=1, settings=FAST), lambda: worker(concurrency=1, settings=FAST)


def effects():
    return list(Effect.objects.order_by("attempt").values_list("attempt", flat=True))


def stop(process, number):
    for pid in (process.pid, *process.child_pids()):
        os.kill(pid, number)


def test_a_worker_that_comes_back_is_fenced(pair, folder):
    """A worker stopped beyond its lease and continued keeps nothing of an atomic attempt."""
    zombie, start_other = pair
    result = tasks.hold_atomic.delay(str(folder))
    folder.wait_for_runs(1)
    stop(zombie, signal.SIGSTOP)
    if connection.vendor == "sqlite":
        # Its open transaction shuts out every other writer: there nobody can take over, and the
        # first attempt is the one that counts.
        folder.go()
        stop(zombie, signal.SIGCONT)
        assert wait_for(result, "succeeded").attempt == 1
        assert effects() == [1]
        return
    start_other()
    folder.wait_for_runs(2)
    folder.go()
    assert wait_for(result, "succeeded").attempt == 2
    stop(zombie, signal.SIGCONT)
    settled(zombie, "fenced off attempt=1")
    entry = entry_of(result)
    assert (entry.state, entry.attempt, entry.crashes) == ("succeeded", 2, 1)
    assert outcomes(result) == ["crashed"]
    assert effects() == [2]
    assert result.get(timeout=5, interval=0.05) == 2
    assert tasks.fail_until.delay(1).get(timeout=15, interval=0.05) == "done"
    assert zombie.alive


def test_a_long_transaction_costs_nobody_the_lease(worker, tmp_path):
    """While one body's transaction is open for longer than a lease, no other entry is taken over.

    On SQLite nobody can renew a lease meanwhile; nor may anybody take one over right afterwards.
    """
    for _ in range(2):
        worker(concurrency=2, settings=FAST)
    folders = [Folder(tmp_path / name) for name in ("others", "long")]
    others = [tasks.hold.delay(str(folders[0])) for _ in range(2)]
    folders[0].wait_for_runs(2)
    long = tasks.hold_atomic.delay(str(folders[1]))
    folders[1].wait_for_runs(1)
    time.sleep(FAST["LEASE_SECONDS"] + 1)
    folders[1].go()
    assert wait_for(long, "succeeded").attempt == 1
    time.sleep(FAST["LEASE_SECONDS"] / 2)
    folders[0].go()
    for result in others:
        entry = wait_for(result, "succeeded")
        assert (entry.attempt, entry.crashes) == (1, 0)
    assert len(folders[0].runs()) == 2


def test_a_fenced_attempt_without_a_transaction(pair, folder):
    """Without atomic its effects stay, as documented, but the entry is the other attempt's."""
    zombie, start_other = pair
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    stop(zombie, signal.SIGSTOP)
    start_other()
    folder.wait_for_runs(2)
    stop(zombie, signal.SIGCONT)
    folder.go()
    settled(zombie, "fenced off attempt=1")
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.crashes) == (2, 1)
    assert effects() == [1, 2]
    assert result.get(timeout=5, interval=0.05) == 2


def test_a_body_that_outlives_its_stopped_worker_is_fenced(pair, folder):
    """When only the main process stops, which renews the lease, its child is fenced as well."""
    zombie, start_other = pair
    result = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    os.kill(zombie.pid, signal.SIGSTOP)
    start_other()
    folder.wait_for_runs(2)
    folder.go()
    settled(zombie, "fenced off attempt=1")
    entry = wait_for(result, "succeeded")
    assert (entry.attempt, entry.crashes, outcomes(result)) == (2, 1, ["crashed"])
    os.kill(zombie.pid, signal.SIGCONT)
    assert tasks.fail_until.delay(1).get(timeout=15, interval=0.05) == "done"
