"""Tasks of the test suite."""

from __future__ import annotations

from celery import shared_task
from django.db import transaction

from reliable_tasks import ReliableTask
from tests.app.models import Effect


@shared_task(base=ReliableTask)
def add(x: int, y: int) -> int:
    """Return the sum."""
    return x + y


@shared_task(base=ReliableTask, max_retries=0)
def boom(message: str = "boom") -> None:
    """Fail at once, without a retry."""
    raise ValueError(message)


@shared_task(base=ReliableTask, bind=True, atomic=True)
def write_effect(self: ReliableTask, name: str) -> int:
    """Write one row in the transaction that finishes the entry, and return its pk."""
    effect = Effect.objects.create(name=name, entry_id=self.request.id, attempt=self.attempt)
    return int(effect.pk)


from tests.app import argument_tasks, once_tasks, worker_tasks  # noqa: E402, F401 - found here


@shared_task(base=ReliableTask, bind=True, atomic=True, max_retries=0)
def hook_fails(self: ReliableTask, after_commit: bool) -> str:
    """Write a row; fail in an on_commit hook, or before the commit."""
    Effect.objects.create(name="hook", entry_id=self.request.id, attempt=self.attempt)

    def fail() -> None:
        raise ValueError("the hook failed")

    if not after_commit:
        fail()
    transaction.on_commit(fail)
    return "done"
