"""Each step of an entry's life is told where it is taken: nobody has to poll the ledger."""

from __future__ import annotations

import socket
import uuid

import pytest
from celery.exceptions import Ignore

from reliable_tasks import events, ledger, operations, publish
from reliable_tasks.link import Link
from reliable_tasks.models import Entry
from reliable_tasks.sweeping import sweep
from reliable_tasks.testing import run_due
from tests import entries
from tests.app import worker_tasks as tasks
from tests.app.tasks import add, boom
from tests.celery_app import app
from tests.entries import T0, later
from tests.harness import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("flush_broker"),
]


@pytest.fixture
def told(settings):
    """Collect what is told, as (kind, entry), from here on; the publisher is silent meanwhile."""
    settings.RELIABLE_TASKS = {"PUBLISH": "off"}
    seen = []

    def note(event, **_):
        seen.append((type(event).__name__, event.entry))

    signals = [value for name, value in vars(events).items() if name.startswith("entry_")]
    signals.append(events.publish_failed)
    for signal in signals:
        signal.connect(note)
    yield seen
    for signal in signals:
        signal.disconnect(note)


def id_of(result):
    return uuid.UUID(result.id)


def steps(told, entry):
    return [kind for kind, each in told if each == entry]


def arrive(task, task_id, args=(), **headers):
    """Do what a worker does when a message arrives."""
    task.push_request(
        id=str(task_id),
        args=list(args),
        kwargs={},
        hostname="w@localhost",
        called_directly=False,
        is_eager=False,
        delivery_info={"exchange": "", "routing_key": "celery"},
        headers=headers,
        callbacks=[],
    )
    try:
        return task(*args)
    finally:
        task.pop_request()


def test_the_way_to_success_is_told(told, settings):
    """Enqueued, published, claimed, succeeded: each once, in this order."""
    settings.RELIABLE_TASKS = {"PUBLISH_TIMEOUT": 10.0}  # on a busy machine, too
    publish.publisher(app)._link.breaker.reset()
    result = add.delay(1, 2)
    assert publish.flush(10)
    assert arrive(add, result.id, entry=1) == 3
    wait_until(lambda: len(told) == 4)
    assert steps(told, id_of(result)) == ["Enqueued", "Published", "Claimed", "Succeeded"]


def test_failures_are_told(told):
    """A failure that is retried, and the last one, are told apart."""
    result = tasks.always_fail.delay()
    run_due(tasks.always_fail, within=60, raising=False)
    failed = ["Claimed", "Rescheduled"] * tasks.always_fail.max_retries
    assert steps(told, id_of(result))[-6:] == [*failed, "Claimed", "Died"]


def test_a_death_in_the_first_attempt_is_told(told):
    """An entry without retries is told as dead and as nothing else."""
    result = boom.apply()
    assert steps(told, id_of(result)) == ["Claimed", "Died"]


def test_a_release_is_told(told):
    """An attempt that is given back is neither failed nor lost."""
    with pytest.raises(KeyboardInterrupt):
        tasks.interrupted.apply()
    assert steps(told, Entry.objects.get().pk) == ["Claimed", "Released"]


def test_what_a_sweep_does_is_told(told):
    """Rescued, died of it, cancelled and expired: whoever finds it tells of it."""
    lost, poison, stopped = (
        entries.running(crash_budget=budget, now=T0).entry for budget in (3, 1, 3)
    )
    ledger.cancel([stopped], now=T0)
    expired = entries.enqueue(expires_in=1.0, now=T0)
    link = Link(app)
    try:
        sweep(app, link, prune=False, now=later(60))
    finally:
        link.close()
    assert steps(told, lost) == ["Published", "Rescued"]
    assert steps(told, poison) == ["Rescued", "Died"]
    assert steps(told, stopped) == ["Cancelled"]
    assert steps(told, expired) == ["Expired"]


def test_what_a_person_does_is_told(told):
    """A cancel and a requeue are told once they have committed."""
    result = add.apply_async((1, 2), countdown=600)
    operations.cancel([id_of(result)], "not wanted")
    operations.requeue([id_of(result)], "wanted after all")
    assert steps(told, id_of(result)) == ["Enqueued", "Cancelled", "Requeued"]


def test_messages_are_told(told):
    """A message without an entry is told as adopted; one that wakes nothing, as dropped."""
    stranger = uuid.uuid4()
    assert arrive(add, stranger, (1, 2)) == 3
    with pytest.raises(Ignore):
        arrive(add, stranger, (1, 2))
    assert steps(told, stranger) == ["Adopted", "Claimed", "Succeeded", "Dropped"]


def test_a_publish_that_fails_is_told(told, monkeypatch):
    """A broker that refuses is told with the entry that it did not take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        link = Link(app)
        entry = entries.enqueue()
        assert link.deliver([publish.WakeUp(str(entry), add.name, "celery")]) == 0
    assert told == [("PublishFailed", entry)]
