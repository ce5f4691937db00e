"""What is on the broker: an id, and no more than Celery needs early."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

from django.utils import timezone

from reliable_tasks import (
    sweeping,
)
from reliable_tasks.link import Link
from reliable_tasks.wakeup import MARK
from tests.app.tasks import add
from tests.celery_app import app
from tests.enqueue.calls import (
    transactions,
)

SECRET = "4111-1111-1111-1111"


def body_of(message):
    return json.loads(base64.b64decode(message["body"]))


@transactions
def test_the_message_is_an_id_and_no_arguments(broker, make_task):
    """No argument of a call ever leaves the database for the broker."""
    task = make_task()
    result = task.delay(SECRET, card=SECRET)
    (raw,) = broker.raw()
    (message,) = broker.messages()
    assert SECRET.encode() not in raw
    assert SECRET.encode() not in base64.b64decode(message["body"])
    assert message["headers"] == {"task": task.name, "id": result.id, MARK: 1}
    assert body_of(message)[:2] == [[], {}]
    assert len(raw) < 500


@transactions
def test_times_are_never_on_the_wire(broker):
    """Neither countdown nor eta nor expiry is given to the broker, now or when they are due."""
    add.apply_async((1, 2), countdown=60, expires=3600)
    add.apply_async(
        (1, 2),
        eta=timezone.now() + timedelta(seconds=60),
        expires=timezone.now() + timedelta(hours=1),
    )
    expiring = add.apply_async((1, 2), expires=3600)
    assert broker.ids() == {expiring.id}
    report = sweeping.sweep(app, Link(app), now=timezone.now() + timedelta(seconds=61))
    assert report.published == 2
    assert len(broker.raw()) == 3
    for raw in broker.raw():
        for word in (b"eta", b"expires", b"countdown"):
            assert word not in raw


@transactions
def test_what_celery_needs_early_is_on_the_wire(broker):
    """Time limits, a shadow name and the caller's headers reach the worker with the message."""
    add.apply_async(
        (1, 2), time_limit=30, shadow="sum", headers={"traceparent": "00-1"}, priority=0
    )
    (message,) = broker.messages()
    headers = message["headers"]
    assert (headers["timelimit"], headers["shadow"]) == ([30, None], "sum")
    assert headers["traceparent"] == "00-1"
    assert message["properties"]["priority"] == 0


@transactions
def test_each_entry_goes_to_its_queue(broker):
    """A message lies on the queue of its entry."""
    slow, normal = add.apply_async((1, 2), queue="slow"), add.delay(1, 2)
    assert (broker.ids("slow"), broker.ids()) == ({slow.id}, {normal.id})
