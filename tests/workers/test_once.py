"""Keys with real workers: they live and end with their entries, whatever dies."""

import os
import signal

import pytest
from celery import chain, chord, group
from django.db import transaction

from reliable_tasks import AlreadyQueued, operations
from reliable_tasks.models import Entry, Key
from tests import services
from tests.app import once_tasks as tasks
from tests.celery_app import app
from tests.harness import wait_until
from tests.workers.support import FAST, entry_of, outcomes, settled, wait_for

pytestmark = pytest.mark.usefixtures("transactional_db")


def holders():
    return {str(pk) for pk in Key.objects.values_list("entry_id", flat=True)}


def refused(task, *args):
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(*args)
    return caught.value


def test_a_key_survives_the_death_of_its_worker_and_ends_with_its_entry(worker, folder):
    """SIGKILL of the worker and an emptied broker leave the key with its entry until that ends."""
    first = worker(concurrency=1, settings=FAST)
    result = tasks.hold_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    first.kill()
    services.empty_broker()
    assert str(refused(tasks.hold_once, 1, str(folder)).entry) == result.id
    worker(concurrency=1, settings=FAST)
    folder.wait_for_runs(2)
    assert refused(tasks.hold_once, 1, str(folder)).state == "running"
    folder.go()
    wait_for(result, "succeeded")
    assert outcomes(result) == ["crashed"]
    assert holders() == set()
    again = tasks.hold_once.delay(1, str(folder))
    wait_for(again, "succeeded")


def test_a_key_survives_a_killed_child_and_retries(worker, folder):
    """A lost child, and failures that are retried, leave the key where it is."""
    worker(concurrency=2, settings=FAST)
    result = tasks.hold_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    os.kill(folder.pid(), signal.SIGKILL)
    folder.wait_for_runs(2)
    assert str(refused(tasks.hold_once, 1, str(folder)).entry) == result.id
    retried = tasks.succeed_at.delay(1, 3)
    wait_until(lambda: outcomes(retried))
    folder.go()
    wait_for(result, "succeeded")
    assert wait_for(retried, "succeeded").attempt == 3
    assert holders() == set()


def test_death_revoke_and_expiry_free_the_key(worker, folder):
    """A failure without retries, Celery's revoke, and expiry each end the key with the entry."""
    process = worker(concurrency=1, settings=FAST)
    dead = tasks.fail_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    revoked = tasks.hold_once.delay(2, str(folder))
    expired = tasks.hold_once.apply_async((3, str(folder)), expires=0.5)
    assert len(holders()) == 3
    settled(process, " ready.")
    app.control.revoke(revoked.id)
    wait_for(revoked, "cancelled")
    wait_for(expired, "cancelled")
    folder.go()
    wait_for(dead, "dead")
    assert holders() == set()


def test_unlock_before_run_frees_the_key_before_the_body(worker, folder):
    """With celery_once's unlock_before_run a second entry may be enqueued while the first runs."""
    worker(concurrency=2, settings=FAST)
    first = tasks.unlocked.delay(1, str(folder))
    folder.wait_for_runs(1)
    assert holders() == set()
    second = tasks.unlocked.delay(1, str(folder))
    folder.wait_for_runs(2)
    folder.go()
    for result in (first, second):
        wait_for(result, "succeeded")


def test_a_duplicate_in_a_group_follows_the_holder(worker, folder):
    """Equal members of a group all end: one runs, the other gets its result under its own id."""
    worker(concurrency=2, settings=FAST)
    result = group(tasks.hold_once.si(1, str(folder)) for _ in range(3))()
    folder.wait_for_runs(1)
    folder.go()
    values = result.get(timeout=30, interval=0.05)
    assert len(set(values)) == 1
    assert len(folder.runs()) == 1
    assert {entry_of(each).state for each in result} == {"succeeded"}
    assert values[0] in {each.id for each in result}


def test_a_chord_with_duplicates_calls_its_body(worker, folder):
    """Duplicates count in a chord: its body gets a result for each member."""
    worker(concurrency=2, settings=FAST)
    other = tasks.hold_once.delay(9, str(folder))
    header = [tasks.square.si(2), tasks.square.si(3), tasks.square.si(2)]
    result = chord(header, tasks.total.s())()
    assert result.get(timeout=30, interval=0.05) == 17
    folder.go()
    wait_for(other, "succeeded")


def test_a_chain_goes_on_behind_a_duplicate(worker, folder):
    """A step whose key is held waits for the holder, and hands its result on."""
    worker(concurrency=2, settings=FAST)
    holder = tasks.hold_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    last = chain(tasks.square.si(5), tasks.hold_once.si(1, str(folder)), tasks.add_text.s("!"))()
    wait_until(lambda: entry_exists(last.parent))
    folder.go()
    assert last.get(timeout=30, interval=0.05) == f"{holder.id}!"
    assert len(folder.runs()) == 1
    assert holders() == set()


def entry_exists(result):
    return Entry.objects.filter(pk=result.id).exists()


def test_a_follower_dies_with_its_holder(worker, folder):
    """If the holder dies, the duplicate is dead too, and its reason names the holder."""
    worker(concurrency=2, settings=FAST)
    holder = tasks.fail_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    (follower,) = group([tasks.fail_once.si(1, str(folder))])()
    folder.go()
    wait_for(holder, "dead")
    assert holder.id in wait_for(follower, "dead", timeout=30).reason
    assert len(folder.runs()) == 1
    # Put back by itself, it does the work: it follows nobody any more.
    assert operations.requeue([entry_of(follower).pk]).requeued
    folder.wait_for_runs(2)


def test_a_follower_does_the_work_of_a_cancelled_holder(worker, folder):
    """If the holder is cancelled before it runs, the duplicate takes the key and runs."""
    holder = tasks.hold_once.apply_async((1, str(folder)), countdown=600)
    (follower,) = group([tasks.hold_once.si(1, str(folder))])()
    assert holders() == {holder.id}
    worker(concurrency=2, settings=FAST)
    wait_until(lambda: entry_of(follower).attempt)
    operations.cancel([entry_of(holder).pk])
    folder.wait_for_runs(1)
    assert holders() == {follower.id}
    folder.go()
    wait_for(follower, "succeeded")
    assert holders() == set()


def test_a_group_member_in_a_window_has_the_last_result(worker):
    """Within a window a group gets the result of the entry that has ended."""
    worker(concurrency=2, settings=FAST)
    first = tasks.square_in_window.delay(7)
    assert first.get(timeout=20, interval=0.05) == 49
    result = group([tasks.square_in_window.si(7), tasks.square_in_window.si(8)])()
    assert result.get(timeout=30, interval=0.05) == [49, 64]


def test_adopted_messages_are_deduplicated(worker, folder):
    """A message of send_task whose key is held runs nothing, and its id gets the result."""
    worker(concurrency=2, settings=FAST)
    holder = tasks.hold_once.delay(1, str(folder))
    folder.wait_for_runs(1)
    sent = app.send_task(tasks.hold_once.name, (1, str(folder)))
    other = app.send_task(tasks.hold_once.name, (2, str(folder)))
    folder.wait_for_runs(2)
    assert holders() == {holder.id, other.id}
    folder.go()
    assert sent.get(timeout=30, interval=0.05) == holder.id
    assert other.get(timeout=30, interval=0.05) == other.id
    assert len(folder.runs()) == 2


def test_a_commit_frees_who_waits_for_it(worker, folder, second_connection):
    """A call that waited for another transaction's commit is refused, and nothing hangs."""
    worker(concurrency=1, settings=FAST)
    with transaction.atomic():
        first = tasks.square.delay(1)
        waiting = second_connection.start(lambda: refused(tasks.square, 1))
    error = waiting.exception(timeout=20)
    if error is None:
        assert str(waiting.result().entry) == first.id
    assert first.get(timeout=20, interval=0.05) == 1
