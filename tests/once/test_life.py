"""How long a key is held: through every move of its entry."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reliable_tasks import AlreadyQueued, ledger, operations
from reliable_tasks.models import Entry, Key
from reliable_tasks.states import State
from tests.enqueue.calls import rolled_back
from tests.entries import new, sweep
from tests.once.support import bury, claim, deliver, entry_of, held, keys_of, reschedule
from tests.statements import verbs

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def after(seconds):
    return timezone.now() + timedelta(seconds=seconds)


def succeed(result):
    ledger.succeed(claim(result))


def die(result):
    bury(claim(result))


def cancel_waiting(result):
    assert ledger.cancel([entry_of(result).pk]).cancelled


def cancel_running(result):
    running = claim(result)
    assert ledger.cancel([running.entry]).asked
    ledger.stop(running)


def expire(result):
    Entry.objects.filter(pk=result.id).update(expires_at=after(-1), wake_at=after(-1))
    assert sweep(now=None).expired


def rescue_to_death(result):
    claim(result)
    Entry.objects.filter(pk=result.id).update(crashes=3, wake_at=after(-1))
    assert sweep(now=None).died


def rescue_cancelled(result):
    running = claim(result)
    ledger.cancel([running.entry])
    Entry.objects.filter(pk=result.id).update(wake_at=after(-1))
    assert sweep(now=None).cancelled


def hand_over(result):
    ledger.hand_over(claim(result))


ENDS = [
    succeed,
    die,
    cancel_waiting,
    cancel_running,
    expire,
    rescue_to_death,
    rescue_cancelled,
    hand_over,
]


def fail_and_wait(result):
    reschedule(claim(result))


def release(result):
    ledger.release(claim(result), why="shutdown")


def rescue(result):
    running = claim(result)
    ledger.rescue_lost([running.entry], running.worker)


def rescue_by_sweep(result):
    claim(result)
    Entry.objects.filter(pk=result.id).update(wake_at=after(-1))
    assert sweep(now=None).rescued


def leave(result):
    running = claim(result)
    assert ledger.release_left(running.worker) == 1


def put_off(result):
    ledger.put_off(claim(result), delay=60)


def publish_again(result):
    Entry.objects.filter(pk=result.id).update(publishes=0, wake_at=after(-1))
    assert sweep(now=None).wakeups


def take_back(result):
    ledger.take_back([entry_of(result).pk], retry_in=5)


GOING_ON = [fail_and_wait, release, rescue, rescue_by_sweep, leave, put_off, publish_again]
GOING_ON.append(take_back)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_key_ends_with_its_entry(once, end):
    """Whatever ends an entry frees its key in the same transaction."""
    task = once()
    first = task.delay(5)
    end(first)
    assert entry_of(first).ended
    assert Key.objects.count() == 0
    assert held(task.delay(5))


@pytest.mark.parametrize("move", [claim, *GOING_ON], ids=lambda move: move.__name__)
def test_a_key_is_kept_as_long_as_its_entry_goes_on(once, move):
    """Claim, retry, rescue, release, a lost message: none of them frees the key."""
    task = once()
    first = task.delay(5)
    move(first)
    assert held(first)
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(5)
    assert str(caught.value.entry) == first.id


@pytest.mark.parametrize(("blocks", "held_by"), [("live", 1), ("waiting", 0), ("unstarted", 0)])
def test_a_key_while_the_body_runs(make_task, blocks, held_by):
    """While a body runs its entry holds the key, unless the key blocks only what waits."""
    during = []

    def body(order):
        during.append([str(key.entry_id) for key in Key.objects.all()])

    task = make_task(body, once={"blocks": blocks})
    first = task.delay(5)
    deliver(task, first.id)
    assert during == [[first.id] * held_by]
    assert Key.objects.count() == 0


def test_no_time_ends_the_key_of_a_long_task(once):
    """A running entry keeps its key however long it runs and whatever timeout it was given."""
    task = once(timeout=0.001)
    first = task.delay(5)
    claim(first)
    Key.objects.update(held_at=after(-1_000_000))
    with pytest.raises(AlreadyQueued, match="running") as caught:
        task.delay(5)
    assert caught.value.countdown == 0


@pytest.mark.parametrize("move", GOING_ON[:5], ids=lambda move: move.__name__)
def test_a_key_that_blocks_until_the_start(once, move):
    """With blocks="unstarted" the first claim frees the key, and no retry takes it again."""
    task = once(blocks="unstarted")
    first = task.delay(5)
    with pytest.raises(AlreadyQueued):
        task.delay(5)
    move(first)
    assert keys_of(first) == []
    assert held(task.delay(5))


@pytest.mark.parametrize("move", GOING_ON[:5], ids=lambda move: move.__name__)
def test_a_key_that_blocks_while_the_entry_waits(once, move):
    """With blocks="waiting" the key is free while a body runs, and held again before a retry."""
    task = once(blocks="waiting")
    first = task.delay(5)
    claim(first)
    assert keys_of(first) == []
    Entry.objects.filter(pk=first.id).update(state=State.PENDING)
    move(first)
    assert held(first)


def test_a_retry_does_not_take_the_key_from_its_successor(once):
    """With blocks="waiting" an entry that waits again leaves the key to who has taken it."""
    task = once(blocks="waiting")
    first = task.delay(5)
    running = claim(first)
    second = task.delay(5)
    reschedule(running)
    assert held(second)
    assert keys_of(first) == []
    succeed(first)  # and its end does not free it either
    assert held(second)


def test_a_window_begins_with_the_success(once):
    """With window= the key blocks for so long after a success, and is free then to the moment."""
    task = once(window=60)
    first = task.delay(5)
    deliver(task, first.id)
    (key,) = keys_of(first)
    assert timedelta(seconds=50) < key.until - timezone.now() <= timedelta(seconds=60)
    with pytest.raises(AlreadyQueued, match=r"succeeded.*free again in") as caught:
        task.delay(5)
    assert 50 < caught.value.countdown <= 60
    Key.objects.update(until=after(-0.01))
    assert held(task.delay(5))


@pytest.mark.parametrize("end", [die, cancel_waiting, cancel_running, expire])
def test_a_window_is_for_what_succeeded(once, end):
    """An entry that ended otherwise did not do the work: its key is free at once."""
    task = once(window=60)
    end(task.delay(5))
    assert held(task.delay(5))


def test_for_ever_outlasts_the_entry(once):
    """With window="forever" a key blocks also when its entry has been pruned."""
    task = once(window="forever")
    first = task.delay(5)
    deliver(task, first.id)
    assert ledger.prune(State.SUCCEEDED, timedelta(0), now=after(5)) == 1
    with pytest.raises(AlreadyQueued, match="ended and pruned") as caught:
        task.delay(5)
    assert (str(caught.value.entry), caught.value.state) == (first.id, None)
    assert ledger.forget_lapsed(batch=10) == 0
    assert (Key.objects.get().until - timezone.now()).days > 300_000


def test_at_most_one_in_a_period(once):
    """With period= the next call is refused until so long after the first was enqueued."""
    task = once(period=60)
    first = task.delay(5)
    Key.objects.update(held_at=after(-20))
    deliver(task, first.id)
    (key,) = keys_of(first)
    assert timedelta(seconds=35) < key.until - timezone.now() <= timedelta(seconds=40)
    with pytest.raises(AlreadyQueued):
        task.delay(5)


def test_a_period_does_not_end_a_key_early(once):
    """An entry that lives longer than the period keeps its key until it ends, and not beyond."""
    task = once(period=60)
    first = task.delay(5)
    Key.objects.update(held_at=after(-100))
    with pytest.raises(AlreadyQueued):
        task.delay(5)
    deliver(task, first.id)
    assert held(task.delay(5))


def test_the_longer_of_window_and_period_counts(once):
    """With both, the key is free when both have passed."""
    task = once(period=60, window=1000)
    first = task.delay(5)
    deliver(task, first.id)
    (key,) = keys_of(first)
    assert key.until > after(900)


def test_a_dead_entry_may_hold_its_key(once):
    """With after_death="hold" a dead entry blocks until it is requeued, pruned or released."""
    task = once(after_death="hold")
    first = task.delay(5)
    die(first)
    with pytest.raises(AlreadyQueued, match=r"dead.*keys release"):
        task.delay(5)
    assert ledger.requeue([entry_of(first).pk]) == [entry_of(first).pk]
    assert held(first)
    die(first)
    assert ledger.prune(State.DEAD, timedelta(0), now=after(5)) == 1
    assert Key.objects.count() == 0


def test_a_dead_entry_that_is_given_up_lets_go_of_its_key(once):
    """With after_death="hold" a dead entry blocks until it is discarded, too."""
    task = once(after_death="hold")
    first = task.delay(5)
    die(first)
    assert held(first)
    assert ledger.discard_dead([entry_of(first).pk]) == [entry_of(first).pk]
    assert Key.objects.count() == 0
    assert held(task.delay(5))


@pytest.mark.parametrize("end", [die, cancel_waiting])
def test_requeue_takes_the_key_again(once, end):
    """An entry that is put back holds its key again."""
    task = once()
    first = task.delay(5)
    end(first)
    assert operations.requeue([entry_of(first).pk]).requeued
    assert held(first)
    with pytest.raises(AlreadyQueued):
        task.delay(5)


EXPIRED_POLICIES = [
    *({"conflict": conflict} for conflict in ("raise", "return", "replace", "reject")),
    {"conflict": "postpone", "wait": 5},
    {"window": "forever"},
    {"blocks": "waiting"},
]


@pytest.mark.parametrize("policy", EXPIRED_POLICIES, ids=str)
def test_an_expired_entry_blocks_nobody(once, policy, django_capture_on_commit_callbacks):
    """A call ends a holder whose expires has passed, as a sweeper would, and takes its key."""
    task = once(keys=["order"], **policy)
    first = task.apply_async((5,), expires=60)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    with django_capture_on_commit_callbacks(execute=True):
        second = task.delay(5)
    assert second.id != first.id
    assert held(second)
    assert (entry_of(first).state, entry_of(first).wake_at) == (State.CANCELLED, None)
    assert entry_of(first).reason == "Expired before an attempt could begin."
    assert first.state == "REVOKED"


def test_of_many_calls_those_with_expired_holders_are_enqueued(once):
    """In enqueue_many, too."""
    task = once()
    first = task.apply_async((5,), expires=60)
    task.delay(6)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    made = task.enqueue_many([(5,), (6,), (7,)])
    assert list(made.conflicts) == [1]
    assert entry_of(first).state == State.CANCELLED
    assert Key.objects.count() == 3


def test_equal_calls_of_a_batch_follow_each_other_where_the_holder_has_expired(once):
    """The second of two equal calls gets the first one's entry, and not that of the expired one."""
    task = once(conflict="return")
    first = task.apply_async((5,), expires=60)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    one, two = task.enqueue_many([(5,), (5,)])
    assert one.id == two.id != first.id
    assert entry_of(one).state == State.PENDING


def test_a_batch_may_use_the_key_of_an_expired_holder_for_other_arguments(once):
    """As a single call may: what will never run keeps no key, whatever its arguments were."""
    task = once(keys=[], same_arguments=True)
    first = task.apply_async((5,), expires=60)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    made = task.enqueue_many([(6,)])
    assert not made.conflicts
    assert entry_of(first).state == State.CANCELLED


def test_a_step_whose_holder_has_expired_does_the_work(once):
    """In a canvas, a call whose key such an entry holds follows nobody."""
    task = once()
    first = task.apply_async((5,), expires=60)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    step = task.apply_async((5,), parent_id="00000000-0000-4000-8000-000000000001")
    assert "follows" not in entry_of(step).options
    assert held(step)


def test_what_runs_keeps_its_key_though_its_expires_has_passed(once):
    """Only what no attempt has begun expires."""
    task = once()
    first = task.apply_async((5,), expires=60)
    claim(first)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    with pytest.raises(AlreadyQueued, match="running"):
        task.delay(5)
    assert held(first)


def test_a_call_that_rolls_back_leaves_the_expired_holder_as_it_was(once):
    """The end of the holder and the entry that takes its key are of one transaction."""
    task = once()
    first = task.apply_async((5,), expires=60)
    Entry.objects.filter(pk=first.id).update(expires_at=after(-1))
    with rolled_back():
        task.delay(5)
    assert held(first)
    assert entry_of(first).state == State.PENDING


def test_requeue_is_refused_while_another_entry_has_the_key(once):
    """An entry whose work another one does by now stays as it is, and the account says who."""
    task = once()
    first = task.delay(5)
    die(first)
    second = task.delay(5)
    done = operations.requeue([entry_of(first).pk])
    assert (done.requeued, done.skipped) == ([], [entry_of(first).pk])
    assert str(done.held[entry_of(first).pk].entry) == second.id
    assert entry_of(first).state == State.DEAD
    succeed(second)
    assert operations.requeue([entry_of(first).pk]).requeued


@pytest.mark.parametrize("end", [die, cancel_waiting])
def test_of_equal_entries_that_are_put_back_together_one_is(once, end):
    """Of several ended entries with one key an act requeues the first, and names it to the rest."""
    task = once()
    ids = []
    for _ in range(3):
        result = task.delay(5)
        end(result)
        ids.append(entry_of(result).pk)
    before = entry_of(result).state
    done = operations.requeue(ids[::-1])
    assert done.requeued == ids[:1]
    assert sorted(done.skipped) == ids[1:]
    assert {pk: holder.entry for pk, holder in done.held.items()} == dict.fromkeys(ids[1:], ids[0])
    assert [key.entry_id for key in Key.objects.all()] == ids[:1]
    assert set(Entry.objects.filter(pk__in=ids[1:]).values_list("state", flat=True)) == {before}


def test_a_renamed_task_leaves_who_waits_without_its_key(once):
    """Who waits without the key that another entry has stays as it was, and is not cancelled."""
    task = once(blocks="unstarted")
    first = task.delay(5)
    reschedule(claim(first))
    second = task.delay(5)
    pks = [entry_of(each).pk for each in (first, second)]
    done = operations.requeue(pks, task="tests.app.tasks.add")
    assert done.requeued == pks[1:]
    assert done.held[pks[0]].entry == pks[1]
    assert (entry_of(first).state, entry_of(first).task) == (State.RETRYING, task.name)
    assert (entry_of(second).state, entry_of(second).task) == (State.PENDING, "tests.app.tasks.add")
    assert held(second)


BROKEN = [{}, {"digest": "x"}, {"digest": 5}, {"digest": "0" * 32, "arguments": "", "later": 1}]


@pytest.mark.parametrize("kept", BROKEN, ids=str)
def test_a_sweep_goes_on_where_nobody_can_read_what_an_entry_keeps_of_its_key(once, kept):
    """One row that somebody has edited, or a later version has written, keeps no others waiting."""
    task = once(blocks="waiting")
    results = [task.delay(n) for n in range(2)]
    for each in results:
        claim(each)
    Entry.objects.filter(pk=results[0].id).update(options={"once": kept})
    Entry.objects.update(wake_at=after(-1))
    assert len(sweep(now=None).rescued) == 2
    assert held(results[1])


def test_what_lapsed_is_swept(once):
    """The sweeper deletes rows of keys whose window has ended, and no others."""
    task = once(window=60)
    for n in range(3):
        deliver(task, task.delay(n).id)
    task.delay(9)
    Key.objects.filter(text__contains="order=1)").update(until=after(-1))
    assert ledger.forget_lapsed(batch=10) == 1
    assert Key.objects.count() == 3


def test_a_fenced_attempt_frees_no_key(once):
    """An attempt that lost its entry cannot end the key that the next one relies on."""
    from reliable_tasks import Fenced

    task = once()
    first = task.delay(5)
    old = claim(first)
    ledger.rescue_lost([old.entry], old.worker)
    claim(first)
    with pytest.raises(Fenced):
        ledger.succeed(old)
    assert held(first)


def test_replace_keeps_the_key(once):
    """A body that puts another task in its place keeps its entry, and so its key."""
    task, other = once(), once()

    def put(order, kind="plain"):
        raise task.replace(other.si(7))

    task.run = put
    first = task.delay(5)
    deliver(task, first.id)
    entry = entry_of(first)
    assert (entry.state, entry.task) == (State.PENDING, other.name)
    assert held(first)
    deliver(other, first.id)
    assert Key.objects.count() == 0


def _statements(act):
    with CaptureQueriesContext(connection) as captured:
        act()
    return [each for each in verbs(captured, "reliable_tasks") if each not in _FRAME]


_FRAME = {"BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"}


def test_a_free_key_costs_no_round_trip(once):
    """On PostgreSQL, enqueue and success with a key are one statement each, as without."""
    task = once()
    counts = [_statements(lambda: task.delay(5))]
    running = claim(task.apply_async((6,)))
    counts.append(_statements(lambda: ledger.succeed(running)))
    if connection.vendor == "postgresql":
        assert counts == [["WITH"], ["WITH"]]
    else:
        # In a transaction, as here, MariaDB looks first: see Note [Lock order].
        look = ["SELECT"] if connection.vendor == "mysql" else []
        assert counts == [[*look, "INSERT", "INSERT"], ["UPDATE", "DELETE"]]


def test_a_conflict_costs_one_more_look(once):
    """A call that finds its key held tries, reads who holds it, and writes nothing."""
    task = once(conflict="return")
    task.delay(5)
    found = _statements(lambda: task.delay(5))
    tries = {"postgresql": ["WITH"], "sqlite": ["INSERT"], "mysql": []}
    assert found == [*tries[connection.vendor], "SELECT"]


def test_a_task_without_a_key_costs_nothing_more(make_task):
    """From enqueue to every kind of end, no statement touches the keys of who has none."""
    task = make_task()

    def live():
        succeed(task.delay(1))
        die(task.delay(2))
        cancel_waiting(task.delay(3))
        fail_and_wait(task.delay(4))
        rescue_by_sweep(task.delay(5))

    with CaptureQueriesContext(connection) as captured:
        live()
    assert not [query for query in captured if Key._meta.db_table in query["sql"]]


def test_a_replaced_entry_blocks_while_it_waits(once):
    """With blocks="waiting", self.replace() takes the key again."""
    task, other = once(blocks="waiting"), once()

    def put(order, kind="plain"):
        raise task.replace(other.si(7))

    task.run = put
    first = task.delay(5)
    deliver(task, first.id)
    assert (entry_of(first).state, entry_of(first).task) == (State.PENDING, other.name)
    assert held(first)
    with pytest.raises(AlreadyQueued):
        task.delay(5)


@pytest.mark.parametrize("conflict", [{"conflict": "replace"}, {"conflict": "postpone", "wait": 5}])
@pytest.mark.parametrize("many", [False, True])
def test_what_took_over_an_entry_keeps_its_own_arguments(once, conflict, many):
    """A call that would change a waiting entry leaves alone what self.replace() made of it."""
    task, other = once(keys=["order"], **conflict), once()

    def put(order, kind="plain"):
        raise task.replace(other.si(7))

    task.run = put
    first = task.delay(5)
    Entry.objects.filter(pk=first.id).update(due_at=after(-1))
    deliver(task, first.id)
    assert (entry_of(first).task, entry_of(first).args) == (other.name, [7])
    if many:
        assert list(task.enqueue_many([(5, "new")]).conflicts) == [0]
    else:
        with pytest.raises(AlreadyQueued):
            task.delay(5, "new")
    assert entry_of(first).args == [7]


def test_a_replaced_entry_does_not_take_the_key_from_its_successor(once):
    """With blocks="waiting", self.replace() leaves the key to who has taken it meanwhile."""
    task = once(blocks="waiting")
    first = task.delay(5)
    running = claim(first)
    second = task.delay(5)
    successor = new(id=running.entry, task=task.name, options=json.dumps(running.options))
    ledger.replace(running, successor, grace=5.0)
    assert entry_of(first).state == State.PENDING
    assert held(second)
    assert keys_of(first) == []
