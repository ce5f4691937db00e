"""A task with a rate limit: what its worker holds back is not taken for lost."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.link import Link
from reliable_tasks.models import Entry
from reliable_tasks.sweeping import reconcile
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST


@pytest.fixture
def link():
    """Look into the broker."""
    looking = Link(app)
    yield looking
    looking.close()


def test_what_a_rate_limit_holds_back_is_not_published_again(worker, link, settings):
    """A message that waits in its worker for the task's rate is a message that is there."""
    process = worker(
        settings=FAST,
        concurrency=1,
        celery={
            "CELERY_TASK_ANNOTATIONS": {add.name: {"rate_limit": "1/m"}},
            "CELERY_WORKER_PREFETCH_MULTIPLIER": 4,
        },
    )
    ids = [add.delay(1, n).id for n in range(4)]
    wait_until(
        lambda: ledger.fetched(60)["celery"] == 3,
        message=lambda: f"{ledger.fetched(60)}\n{process.log}",
    )
    settings.RELIABLE_TASKS = {"PUBLISH_GRACE": 0.0}
    assert reconcile(link).pulled == 0
    assert set(Entry.objects.filter(pk__in=ids).values_list("publishes", flat=True)) == {1}
