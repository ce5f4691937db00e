"""Fixtures of the tests of calls."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reliable_tasks import ReliableTask, publish
from tests.app.tasks import add
from tests.celery_app import app
from tests.enqueue.calls import Broker, entry_of


@pytest.fixture
def broker(flush_broker, settings):
    """Give the test an empty broker, which a commit has reached when it returns."""
    settings.RELIABLE_TASKS = {"PUBLISH": "inline"}
    publish.publisher(app)._link.breaker.reset()
    found = Broker()
    yield found
    found.close()


@pytest.fixture
def unsent(monkeypatch):
    """Give the test the list of what is handed to the publisher, and send nothing."""
    submitted = []

    class Publisher:
        def submit(self, wakeups):
            submitted.extend(wakeups)

    monkeypatch.setattr("reliable_tasks.task.publisher", lambda app: Publisher())
    return submitted


@pytest.fixture
def make_task():
    """Give the test a function that makes tasks, which are forgotten when it ends."""
    made = []

    def nothing(*args, **kwargs):
        pass

    def make(function=nothing, **options):
        name = f"tests.made.{uuid4().hex}"
        made.append(name)
        return app.task(base=ReliableTask, name=name, typing=False, **options)(function)

    yield make
    for name in made:
        app.tasks.pop(name, None)


@pytest.fixture
def enqueued(db, unsent):
    """Give the test a function that enqueues and reads the row."""

    def call(*args, task=add, **options):
        return entry_of(task.apply_async(args or (1, 2), **options))

    return call
