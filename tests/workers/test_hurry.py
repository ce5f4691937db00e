"""Leases and due times do not depend on anything but the ledger and the broker."""

import socket
import time

import pytest

from tests import services
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.workers.support import FAST, entry_of, outcomes, wait_for


@pytest.fixture
def dead_backend():
    """Give the test the URL of a Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", services.free_port()), backlog=100) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_result_backend_that_hangs_costs_nobody_a_lease(worker, folder, dead_backend):
    """While the end of one entry cannot be stored, the others keep their leases and due times."""
    worker(concurrency=3, settings=FAST, celery={"CELERY_RESULT_BACKEND": dead_backend})
    held = tasks.hold.apply_async((str(folder),), ignore_result=True)
    folder.wait_for_runs(1)
    lost = tasks.dies.delay()  # the keeper has its end to tell
    wait_for(lost, "dead")
    late = tasks.write_names.apply_async(("never",), expires=1, countdown=600)
    wait_for(late, "cancelled")  # and the sweeper this one's
    due = tasks.write_names.apply_async(("due",), countdown=1, ignore_result=True)
    assert wait_for(due, "succeeded").attempt == 1
    time.sleep(FAST["LEASE_SECONDS"] + 2)
    assert (entry_of(held).state, entry_of(held).attempt) == ("running", 1)
    folder.go()
    assert wait_for(held, "succeeded").attempt == 1
    assert outcomes(held) == []
    assert Effect.objects.filter(entry_id=held.id).count() == 1
