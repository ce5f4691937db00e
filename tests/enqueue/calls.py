"""What the tests of calls share: the broker's content, a delivery, a rollback."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress

import pytest
import redis
from celery.app.trace import build_tracer
from django.db import transaction

from reliable_tasks.models import Entry
from reliable_tasks.wakeup import MARK
from tests import services
from tests.celery_app import app

transactions = pytest.mark.django_db(transaction=True)
two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Broker:
    """What really lies in the broker."""

    def __init__(self):
        self._client = redis.Redis.from_url(services.redis_url())

    def raw(self, queue="celery"):
        return self._client.lrange(services.redis_key_prefix() + queue, 0, -1)

    def messages(self, queue="celery"):
        return [json.loads(text) for text in self.raw(queue)]

    def ids(self, queue="celery"):
        return {message["headers"]["id"] for message in self.messages(queue)}

    def close(self):
        self._client.close()


def deliver(task, entry_id):
    """Run the attempt that a wake-up for an entry begins, as a worker's process does."""
    request = {
        "id": str(entry_id),
        "task": task.name,
        MARK: 1,
        "hostname": "celery@test",
        "is_eager": False,
        "called_directly": False,
        "delivery_info": {"routing_key": "celery"},
    }
    tracer = build_tracer(task.name, app.tasks[task.name], app=app, hostname="celery@test")
    return tracer(str(entry_id), [], {}, request)


@contextmanager
def rolled_back(**kwargs):
    with suppress(ZeroDivisionError), transaction.atomic(**kwargs):
        yield
        raise ZeroDivisionError


def entry_of(result):
    return Entry.objects.get(pk=result.id)
