"""Messages from elsewhere for a task with a key: none is lost, whatever it brings."""

from __future__ import annotations

from uuid import uuid4

import pytest
from celery.app.trace import build_tracer

from reliable_tasks.models import Attempt, Entry, Key
from reliable_tasks.states import Outcome, State
from tests.celery_app import app

pytestmark = pytest.mark.django_db


def arrive(task, *args, **kwargs):
    """Run what a message of plain Celery's begins, as a worker's process does; return its entry."""
    pk = str(uuid4())
    request = {
        "id": pk,
        "task": task.name,
        "hostname": "celery@test",
        "is_eager": False,
        "called_directly": False,
        "args": list(args),
        "kwargs": kwargs,
        "delivery_info": {"routing_key": "celery"},
    }
    tracer = build_tracer(task.name, app.tasks[task.name], app=app, hostname="celery@test")
    tracer(pk, list(args), kwargs, request)
    return Entry.objects.get(pk=pk)


def test_arguments_that_do_not_fit_are_a_dead_letter(once):
    """A message with arguments that the task does not take is kept, with the reason."""
    entry = arrive(once(), 1, 2, 3, 4)
    assert entry.state == State.DEAD
    assert entry.args == [1, 2, 3, 4]
    assert "No key can be made" in entry.reason
    assert Attempt.objects.get(entry=entry).outcome == Outcome.REJECTED
    assert app.AsyncResult(str(entry.pk)).state == "FAILURE"
    assert Key.objects.count() == 0


def test_a_key_function_that_fails_makes_a_dead_letter(once):
    """What a `key` function raises of a message becomes the reason of its entry's death."""

    def key(order, **rest):
        return order.customer

    entry = arrive(once(key=key), 5)
    assert entry.state == State.DEAD
    assert "AttributeError" in entry.reason


def test_the_reason_of_such_a_death_shows_no_secret(make_task):
    """A sensitive argument that a `key` function complains of is masked in the reason."""

    def key(token):
        raise ValueError(f"no shop for {token}")

    def body(token):
        """Never called."""

    entry = arrive(make_task(body, once={"key": key}, sensitive=["token"]), "tok-4711-secret")
    assert entry.state == State.DEAD
    assert "no shop for" in entry.reason
    for attempt in Attempt.objects.filter(entry=entry):
        assert "4711" not in attempt.error_message + attempt.traceback
    assert "4711" not in entry.reason


def test_an_idempotency_key_with_other_arguments_is_a_dead_letter(once):
    """A message that uses another one's idempotency key is dead, and its reason names that one."""
    task = once(keys=["order"], window="forever")
    first = arrive(task, 5, "one")
    assert first.state == State.SUCCEEDED
    entry = arrive(task, 5, "other")
    assert entry.state == State.DEAD
    assert str(first.pk) in entry.reason
    assert "with other arguments" in entry.reason
