"""A message that no entry stands behind outlives an outage of the ledger."""

from __future__ import annotations

import json
import uuid

import pytest
import redis
from celery.exceptions import Ignore
from django.db import OperationalError

from reliable_tasks import arrival, ledger
from reliable_tasks.models import Entry
from tests.app.tasks import add
from tests.celery_app import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def no_ledger(monkeypatch):
    """Let every claim fail as without a database."""

    def claim(*args, **kwargs):
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(ledger, "claim", claim)
    monkeypatch.setattr(arrival, "_PAUSE_BEFORE_SENDING_BACK", 0.0)


@pytest.fixture
def arrived(flush_broker):
    """Put the test where a worker is when a message of plain Celery arrives."""
    request = {
        "id": str(uuid.uuid4()),
        "args": [1, 2],
        "kwargs": {},
        "hostname": "w@localhost",
        "called_directly": False,
        "is_eager": False,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0},
        "headers": {"tenant": "acme"},
        "timelimit": [30, 20],
        "callbacks": [],
        "group": None,
    }
    add.push_request(**request)
    yield request
    add.pop_request()


def test_it_goes_back_to_the_broker(no_ledger, arrived, redis_url):
    """While the ledger cannot be reached, the message is sent again under its id, all of it."""
    with pytest.raises(Ignore):
        add(1, 2)
    with redis.Redis.from_url(redis_url) as client:
        (message,) = map(json.loads, client.lrange("celery", 0, -1))
    assert message["headers"]["id"] == arrived["id"]
    assert message["headers"]["task"] == add.name
    assert message["headers"]["timelimit"] == [30, 20]
    assert message["headers"]["tenant"] == "acme"
    assert not Entry.objects.exists()


def test_nothing_is_hidden_when_the_broker_is_gone_too(no_ledger, arrived, monkeypatch, caplog):
    """Where it cannot be sent either, Celery records the failure and the log has the arguments."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    monkeypatch.setitem(app.conf, "task_publish_retry", False)
    with pytest.raises(OperationalError, match="closed the connection"):
        add(1, 2)
    assert "args [1, 2]" in caplog.text
