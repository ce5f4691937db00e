"""Models and secrets with real workers: nothing but keys travels, nothing secret is seen."""

import json

import pytest
from django.db import transaction
from django_celery_results.models import TaskResult

from reliable_tasks.models import Attempt, Entry
from tests.app.argument_tasks import discard_item, note_item, use_token
from tests.app.models import Effect, Item
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, wait_for

SECRET = "tok-4111-9f3e"


@pytest.fixture(scope="module", autouse=True)
def shared(start_shared):
    """Give the module a worker that stores results with their arguments."""
    return start_shared(
        settings=FAST,
        concurrency=2,
        celery={"CELERY_RESULT_EXTENDED": True},
    )


def test_a_worker_loads_fresh_rows():
    """A worker gets the rows of a call as they are when it runs, in the order of the call."""
    with transaction.atomic():
        rows = [Item.objects.create(name=name) for name in ("a", "b", "c")]
        result = note_item.delay(rows[0], [rows[2], rows[1].pk])
        Item.objects.filter(pk=rows[0].pk).update(name="changed")
    entry = wait_for(result, "succeeded")
    assert Effect.objects.get(entry_id=entry.pk).name == "changed"
    wait_until(lambda: TaskResult.objects.filter(task_id=result.id).exists(), 10)
    stored = TaskResult.objects.get(task_id=result.id)
    assert json.loads(stored.result) == ["changed", "c", "b"]
    assert (entry.subject_type, entry.subject_id) == ("testapp.item", str(rows[0].pk))


def test_a_worker_meets_a_row_that_is_gone():
    """A worker buries or discards what is about a row that is gone, and runs no body."""
    row = Item.objects.create(name="x")
    Item.objects.filter(pk=row.pk).delete()
    dead, dropped = note_item.delay(row), discard_item.delay(row)
    assert "is gone from the database" in wait_for(dead, "dead").reason
    assert "is gone from the database" in wait_for(dropped, "cancelled").reason
    wait_until(lambda: dropped.state == "REVOKED", 10)
    assert not Effect.objects.filter(entry_id=dead.id).exists()


def test_a_worker_shows_no_secret(shared):
    """Neither a worker's log, nor what it answers, nor results and attempts have a secret."""
    results = [use_token.delay(1, SECRET, how) for how in ("", "raise", "nest", "odd", "retry")]
    foreign = app.send_task(use_token.name, (1,), {"token": SECRET}, argsrepr="?", kwargsrepr="?")
    states = [wait_for(result, "succeeded", "dead").state for result in results]
    assert states == ["succeeded", "dead", "dead", "dead", "succeeded"]
    wait_until(lambda: Entry.objects.filter(pk=foreign.id, state="succeeded").exists(), 20)
    every = [*results, foreign]
    ids = {result.id for result in every}
    stored = TaskResult.objects.filter(task_id__in=ids)
    wait_until(lambda: stored.filter(status__in=("SUCCESS", "FAILURE")).count() == 6, 20)
    seen = {
        "log": shared.log,
        "results": repr(list(stored.values())),
        "attempts": repr(list(Attempt.objects.filter(entry_id__in=ids).values())),
        "entries": repr(list(Entry.objects.filter(pk__in=ids).values("reason", "error_message"))),
        "inspect": repr(app.control.inspect(timeout=2).active()),
    }
    for where, text in seen.items():
        assert SECRET not in text, where
    assert "***" in seen["results"]
