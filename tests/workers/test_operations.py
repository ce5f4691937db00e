"""Operations and pauses with real workers, while processes are killed."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pytest
from django.db.models import Count

from reliable_tasks import ledger, operations, overview
from reliable_tasks.models import Attempt, Entry, Operation, TouchedEntry
from reliable_tasks.operations import Act, Chosen
from reliable_tasks.states import Outcome, State
from tests.app import tasks
from tests.harness import wait_until
from tests.workers.support import FAST, wait_for

#: RELIABLE_TASKS_TEST_LETTERS=100000 is the promise in full.
LETTERS = int(os.environ.get("RELIABLE_TASKS_TEST_LETTERS", "6000"))


def bury(count):
    """Write dead letters as many failures leave them."""
    at = overview.now() - timedelta(minutes=1)
    given = {"task": "tests.app.tasks.nobody", "queue": "nobody", "state": State.DEAD, "attempt": 1}
    for begin in range(0, count, 2_000):
        made = Entry.objects.bulk_create(
            Entry(finished_at=at, enqueued_at=at, due_at=at, fingerprint="f" * 16, **given)
            for _ in range(min(2_000, count - begin))
        )
        Attempt.objects.bulk_create(
            Attempt(entry=each, number=1, outcome=Outcome.FAILED) for each in made
        )


@pytest.mark.timeout(120 + LETTERS / 50)
def test_dead_letters_are_requeued_once_each_while_workers_are_killed(worker):
    """However often the carrying process is killed, each dead letter is requeued exactly once."""
    bury(LETTERS)
    process = worker(settings=FAST)
    begun = operations.begin(
        Act.REQUEUE, Chosen(states=("dead",), fingerprint="f" * 16), "Again.", by="ann"
    )
    killed = 0

    def operation():
        return Operation.objects.get(pk=begun.operation)

    def kill_at(share):
        wait_until(
            lambda: operation().done >= LETTERS * share,
            120 + LETTERS / 100,
            interval=0.01,
            message=lambda: f"{operation()}\n{process.log[-3000:]}",
        )
        if operation().state != "running":
            return 0
        for pid in process.child_pids():
            os.kill(pid, signal.SIGKILL)
        return 1

    killed += kill_at(0.1)
    killed += kill_at(0.4)
    process.kill()
    killed += 1
    process = worker(settings=FAST)
    wait_until(
        lambda: operation().state == "done",
        60 + LETTERS / 100,
        message=lambda: f"{operation()}\n{process.log[-3000:]}",
    )
    assert killed >= 2
    assert (operation().done, operation().skipped) == (LETTERS, 0)
    assert Entry.objects.filter(queue="nobody", state=State.PENDING).count() == LETTERS
    assert TouchedEntry.objects.filter(act=operation().act_id).count() == LETTERS
    assert not TouchedEntry.objects.values("entry_id").annotate(n=Count("pk")).filter(n__gt=1)


def test_a_paused_queue_waits_and_goes_on(worker):
    """What is enqueued during a pause runs soon after it is resumed, and not before."""
    worker(settings=FAST)
    wait_for(tasks.add.delay(1, 1), "succeeded")
    operations.pause("queue", "celery", "Deploy.")
    held = [tasks.add.delay(1, n) for n in range(5)]
    other = tasks.add.apply_async((1, 1), queue="celery")
    # A wake-up of a paused entry is dropped: then the message has been there, to no effect.
    wait_until(lambda: not ledger.fetched(60).total(), 10)
    assert {Entry.objects.get(pk=each.id).state for each in [*held, other]} == {"pending"}
    operations.resume("queue", "celery")
    for each in [*held, other]:
        wait_for(each, "succeeded", timeout=20)


def test_a_pause_with_an_end_ends_without_anybody(worker):
    """What waits during a pause with an end runs after it without a person."""
    worker(settings=FAST)
    operations.pause("task", "tests.app.tasks.add", ends_at=overview.now() + timedelta(seconds=3))
    result = tasks.add.delay(1, 2)
    entry = wait_for(result, "succeeded", timeout=25)
    assert entry.started_at - entry.enqueued_at > timedelta(seconds=2)
