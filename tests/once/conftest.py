"""Fixtures of the tests of dedup."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reliable_tasks import QueueOnce, ReliableTask
from tests.celery_app import app


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
def make_task(unsent):
    """Give the test a function that makes tasks, which are forgotten when it ends."""
    made = []

    def order(order=0, kind="plain", **more):
        return order

    def make(function=order, *, base=ReliableTask, **options):
        name = f"tests.made.{uuid4().hex}"
        made.append(name)
        return app.task(base=base, name=name, **options)(function)

    yield make
    for name in made:
        app.tasks.pop(name, None)


@pytest.fixture
def once(make_task):
    """Give the test a function that makes a task with a policy."""

    def make(**options):
        return make_task(once=options or True)

    return make


@pytest.fixture
def queue_once(make_task):
    """Give the test a function that makes a task on the base with celery_once's interface."""

    def make(function=None, **options):
        given = () if function is None else (function,)
        return make_task(*given, base=QueueOnce, **options)

    return make
