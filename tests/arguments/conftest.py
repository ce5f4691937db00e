"""Fixtures of the tests of arguments."""

from __future__ import annotations

import pytest

from reliable_tasks.errors import ReliableTasksError
from reliable_tasks.models import Entry
from tests.app.models import Item
from tests.enqueue.calls import deliver
from tests.enqueue.conftest import broker, make_task, unsent

__all__ = ["broker", "make_task", "unsent"]


@pytest.fixture
def got():
    """Give the test the list into which bodies put what they received."""
    return []


@pytest.fixture
def run(transactional_db, unsent):
    """Give the test a function that enqueues a call and runs its attempt as a worker does."""

    def enqueue_and_run(task, *args, **kwargs):
        result = task.apply_async(args, kwargs)
        deliver(task, result.id)
        return Entry.objects.get(pk=result.id)

    return enqueue_and_run


@pytest.fixture
def refusal(db, unsent):
    """Give the test a function that returns what a call is refused with, and that nothing stays."""

    def text(task, *args, **kwargs):
        with pytest.raises(ReliableTasksError) as caught:
            task.apply_async(args, kwargs)
        assert not Entry.objects.exists()
        return str(caught.value)

    return text


@pytest.fixture
def item(transactional_db):
    """Give the test a row."""
    return Item.objects.create(name="before")
