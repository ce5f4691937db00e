"""What is requeued is forgotten by Celery's result backend: in one go, and by any backend."""

from __future__ import annotations

import logging

import pytest
from celery import states
from celery.backends.redis import RedisBackend
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import TaskResult

from reliable_tasks import operations
from reliable_tasks.forgetting import forget
from tests import entries, services
from tests.app import tasks
from tests.celery_app import app


def test_the_ends_of_many_are_forgotten_at_once(transactional_db):
    """However many are requeued, Django's result tables are asked a bounded number of times."""
    ids = [entries.enqueue(now=None) for _ in range(30)]
    operations.cancel(ids, "x")
    assert TaskResult.objects.filter(status="REVOKED").count() == 30
    other = TaskResult.objects.create(task_id="another", status="SUCCESS")
    with CaptureQueriesContext(
        connection,
    ) as made:
        assert len(operations.requeue(ids).requeued) == 30
    assert list(TaskResult.objects.all()) == [other]
    asked = [each["sql"] for each in made if TaskResult._meta.db_table in each["sql"]]
    assert len(asked) <= 2


def test_a_cancel_of_many_reads_them_at_once(transactional_db, monkeypatch):
    """What Celery must know of cancelled entries is read in one query."""
    ids = [entries.enqueue(now=None) for _ in range(10)]
    monkeypatch.setattr(tasks.add, "ignore_result", True)
    with CaptureQueriesContext(connection) as made:
        operations.cancel(ids, "x")
    assert len(made) < 15


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # as Celery stores a result
def test_redis_forgets_at_once(flush_broker):
    """A Redis backend forgets all of them, and nothing else."""
    backend = RedisBackend(app=app, url=services.redis_url())
    for each in ("one", "two", "three"):
        backend.store_result(each, None, states.REVOKED)
        assert backend.get_state(each) == states.REVOKED
    forget(backend, ["one", "two", "missing"])
    assert [backend.get_state(each) for each in ("one", "two", "three")] == [
        states.PENDING,
        states.PENDING,
        states.REVOKED,
    ]
    backend.forget("three")


@pytest.mark.parametrize("own", ["forget", "_forget", "delete"])
def test_a_backend_of_ones_own_forgets_in_its_own_way(own):
    """A subclass that forgets otherwise is asked for each of them."""
    asked = []
    kind = type("Own", (RedisBackend,), {own: lambda self, each: asked.append(each)})
    forget(kind(app=app, url=services.redis_url()), ["one", "two"])
    assert len(asked) == 2


def test_a_backend_that_is_down_stops_nothing(caplog):
    """The ledger has the truth: a result backend that does not answer is told of in the log."""
    backend = RedisBackend(app=app, url="redis://127.0.0.1:1/0", socket_connect_timeout=1)
    with caplog.at_level(logging.WARNING, "reliable_tasks.results"):
        forget(backend, ["one"])
    assert "The result backend did not forget 1 ends" in caplog.text
