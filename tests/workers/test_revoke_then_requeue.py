"""Celery's revoke, obeyed once and then left to the ledger."""

from __future__ import annotations

import pytest

from reliable_tasks import operations
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_revoked_entry_can_be_put_back(worker):
    """A revoke cancels an entry before it is due, once: requeued, it is not cancelled again."""
    workers = [worker(concurrency=1, settings={"HEARTBEAT_SECONDS": 1}) for _ in range(2)]
    result = add.apply_async((1, 2), countdown=600)
    app.control.revoke(result.id)
    wait_until(lambda: Entry.objects.get().state == State.CANCELLED, 10)
    assert Entry.objects.get().reason == "Revoked through Celery."
    # Each worker forgets the id at its next beat.
    wait_until(
        lambda: not any(map(bool, (app.control.inspect(timeout=1).revoked() or {}).values())), 15
    )
    assert operations.requeue([Entry.objects.get().pk], "it was a mistake")
    wait_until(lambda: Entry.objects.get().state == State.SUCCEEDED, 15)
    assert all(each.alive for each in workers)
