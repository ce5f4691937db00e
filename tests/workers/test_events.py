"""Celery's live stream of events, as monitors such as Flower read it."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.app.argument_tasks import use_token
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, wait_for

SECRET = "tok-4111-9f3e"


@pytest.fixture
def stream(transactional_db, flush_broker):
    """Give the test the list of all events that come meanwhile."""
    heard, ends, begun = [], threading.Event(), threading.Event()

    def listen():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": heard.append})
            with receiver.consumer_context() as (own, _, _):
                begun.set()
                while not ends.is_set():
                    with contextlib.suppress(socket.timeout):
                        own.drain_events(timeout=0.2)

    listener = threading.Thread(target=listen)
    listener.start()
    assert begun.wait(20)
    yield heard
    ends.set()
    listener.join(20)


def test_live_events_do_not_tell_a_sensitive_argument(stream, worker, monkeypatch):
    """Received, started, retried, failed, succeeded: no event has it, nor one that is adopted."""
    monkeypatch.setitem(app.conf.changes, "task_send_sent_event", True)
    worker(
        concurrency=1,
        settings=FAST,
        celery={"CELERY_TASK_SEND_SENT_EVENT": True},
        arguments=("--without-gossip", "--without-mingle", "-E"),
    )
    ends = {"": "succeeded", "raise": "dead", "retry": "succeeded", "retry with": "dead"}
    results = {how: use_token.delay(1, token=SECRET, how=how, key=SECRET) for how in ends}
    for how, result in results.items():
        wait_for(result, ends[how])
    monkeypatch.setitem(app.conf.changes, "task_send_sent_event", False)
    foreign = app.send_task(use_token.name, args=(1, SECRET), kwargs={"key": SECRET})
    wait_until(
        lambda: {("task-succeeded", foreign.id)} <= {(e["type"], e.get("uuid")) for e in stream}
    )
    kinds = {event["type"] for event in stream}
    assert {"task-received", "task-started", "task-succeeded", "task-failed"} <= kinds
    told = [event for event in stream if SECRET in repr(event)]
    assert not told
    assert any("***" in repr(event) for event in stream if event["type"] == "task-received")
