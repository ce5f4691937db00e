"""The same promises on RabbitMQ, where `RELIABLE_TASKS_TEST_AMQP` names one (as in .ci/run)."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest
from celery import Celery
from django.utils import timezone

from reliable_tasks import publish
from reliable_tasks.ids import new_id
from reliable_tasks.link import Link
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules.sending import Sender
from reliable_tasks.states import State
from reliable_tasks.wakeup import WakeUp
from tests.app.tasks import add
from tests.celery_app import app
from tests.harness import wait_until
from tests.schedules.making import every, owe, schedule

URL = os.environ.get("RELIABLE_TASKS_TEST_AMQP", "")
WORKERS_SETTINGS = {"CELERY_BROKER_URL": URL, "CELERY_BROKER_TRANSPORT_OPTIONS": {}}

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not URL, reason="no RabbitMQ is given"),
]


@pytest.fixture
def link():
    """Send this process's messages to RabbitMQ, and look into its empty queue."""
    before = {name: app.conf[name] for name in ("broker_url", "broker_transport_options")}
    app.conf.update(broker_url=URL, broker_transport_options={})
    publish._publishers.clear()
    looking = Link(app, redeclare=True)
    looking.depth("celery")
    looking._producer.channel.queue_purge("celery")
    yield looking
    looking.close()
    for each in publish._publishers.values():
        each._link.close()
    publish._publishers.clear()
    app.conf.update(before)


def succeeded(count: int) -> bool:
    return Entry.objects.filter(state=State.SUCCEEDED).count() == count


def test_entries_run(worker, link):
    """What is enqueued one by one and in bulk runs, each once."""
    worker(concurrency=2, celery=WORKERS_SETTINGS)
    for number in range(20):
        add.delay(1, number)
    add.enqueue_many([(1, number) for number in range(100)])
    wait_until(lambda: succeeded(120), 20)
    assert not Entry.objects.exclude(attempt=1).exists()


def test_a_purged_queue_is_noticed(worker, link):
    """Messages that the broker has lost are counted as missing and published again."""
    add.enqueue_many([(1, number) for number in range(20)])
    assert publish.flush(10)
    wait_until(lambda: link.depth("celery") == 20)
    link._producer.channel.queue_purge("celery")
    worker(concurrency=2, celery=WORKERS_SETTINGS, settings={"PUBLISH_GRACE": 1.0})
    wait_until(lambda: succeeded(20), 20)


@pytest.fixture
def odd_queue(link):
    """Give the test a queue that exists with arguments other than those that we declare."""
    link.is_up()
    channel = link._connection.channel()
    channel.queue_declare("odd", durable=True, auto_delete=False, arguments={"x-max-length": 1000})
    yield "odd"
    link.close()
    link.is_up()
    link._connection.channel().queue_delete("odd")


def test_a_queue_that_the_broker_has_otherwise_stops_nobody(link, odd_queue, caplog):
    """A refused declaration is that queue's affair: it gets its messages, and so do all others."""
    mixed = [WakeUp(str(new_id()), add.name, queue) for queue in ("celery", odd_queue) * 3]
    assert link.deliver(mixed) == 6
    assert not link.breaker.is_open
    wait_until(lambda: (link.depth("celery"), link.depth(odd_queue)) == (3, 3))
    assert link.deliver(mixed) == 6
    wait_until(lambda: (link.depth("celery"), link.depth(odd_queue)) == (6, 6))
    assert caplog.text.count("refuses to declare the queue 'odd'") == 1


def test_what_schedules_owe_to_such_a_queue_waits_alone(link, odd_queue):
    """Celery declares a plain task's queue; if RabbitMQ refuses, only that schedule waits."""
    odd, sound = (
        schedule(every(hours=1), task="no.such", args="[]", queue=name)
        for name in (odd_queue, "celery")
    )
    since = timezone.now() - timedelta(hours=1)
    owe(odd, 3, since)
    owe(sound, 3, since + timedelta(minutes=1))
    sender = Sender(app)
    assert sender.send_owed(10, lambda _: None) == 3
    assert not sender._link.breaker.is_open
    sender.close()
    wait_until(lambda: (link.depth("celery"), link.depth(odd_queue)) == (3, 0))
    owing = Occurrence.objects.filter(send_at__isnull=False)
    assert {row.schedule_id for row in owing} == {odd.pk}
    assert {row.outcome for row in owing} == {"fired"}


def test_a_broker_that_does_not_answer_costs_a_bounded_wait():
    """A listener that accepts and never speaks AMQP is given up on after the timeout."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dumb = Link(Celery("dumb", broker=f"amqp://127.0.0.1:{silent.getsockname()[1]}//"))
        assert not dumb.is_up()
        assert dumb.breaker.is_open
