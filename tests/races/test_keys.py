"""One key from two connections."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reliable_tasks import dedup, ledger
from reliable_tasks.dedup import Conflict, Hold
from reliable_tasks.ids import new_id
from reliable_tasks.models import Entry, Key
from reliable_tasks.states import State
from tests.entries import GRACE, LEASE, T0, WORKER, bury, later, new, reschedule, row, state


def hold(**changes):
    digest = dedup.digest_of("value", "races", changes.pop("key", uuid4().hex))
    return Hold(digest=digest, text="races(key)", arguments="0" * 32, **changes)


def entry(wanted, **more):
    kept = '{"once": ' + str(wanted.kept()).replace("'", '"').replace("True", "true") + "}"
    return new(id=new_id(), hold=wanted, options=kept, **more)


def take(wanted, **more):
    made = entry(wanted, **more)
    return lambda: (ledger.enqueue_once(made, grace=GRACE, now=T0), made.id)


def taken(wanted, **more):
    written, pk = take(wanted, **more)()
    assert written is True
    return pk


def change(pk):
    return lambda: ledger.change_waiting(
        pk, args="[2]", kwargs="{}", arguments="1" * 32, delay=5.0, now=T0
    )


def follow(made):
    return lambda: ledger.enqueue_follower(made, grace=GRACE, now=T0)


def take_for(wanted, pk):
    return lambda: ledger.take(wanted, "races", pk, now=T0)


def forget():
    return lambda: ledger.forget_lapsed(batch=100, now=T0)


def free(held):
    return lambda: ledger.free_at_start(held.entry, held.token)


def rescue(held):
    return lambda: ledger.rescue_lost([held.entry], held.worker, now=later(1))


def put_off(held):
    return lambda: ledger.put_off(held, delay=5.0, now=T0)


def release_key(wanted):
    return lambda: ledger.release_key(wanted.digest, reason="stuck")


def many(wanted):
    entries = [entry(each) for each in wanted]
    return lambda: len(ledger.enqueue_many_once(entries, grace=GRACE, now=T0))


def expire(pk):
    return lambda: [each.id for each in ledger.expire([pk], now=later(60))]


def requeue(pk):
    return lambda: ledger.requeue([pk], now=T0)


def requeue_with(pk, wanted):
    call = ledger.OtherCall(args="[18]", kwargs="{}", hold=wanted)
    return lambda: ledger.requeue([pk], call=call, now=T0)


def cancel(pk):
    return lambda: ledger.cancel([pk], now=T0)


def claim(pk):
    found = ledger.claim(pk, WORKER, lease=LEASE, now=T0)
    assert found is not None
    return found


def live(wanted):
    return Entry.objects.filter(key__isnull=False, finished_at=None).count()


def test_the_second_waits_for_the_firsts_commit_and_is_refused(race):
    """Of two open transactions with one key the second waits, and learns who has it."""
    key = hold()
    (first, pk), (second, _) = race.overlap(take(key), take(key))
    assert first is True
    assert isinstance(second, Conflict)
    assert (second.entry, second.state) == (pk, State.PENDING)
    assert live(key) == 1


def test_the_second_is_written_when_the_first_rolls_back(race):
    """Whoever waited for a transaction that rolled back gets the key."""
    key = hold()
    _, (second, pk) = race.overlap(take(key), take(key), commit=False)
    assert second is True
    assert Key.objects.get().entry_id == pk
    assert live(key) == 1


def test_a_herd_of_one_key(race):
    """However many call at once, one entry comes of it, and all others are told of that one."""
    key = hold()
    answers = race.together(*[take(key) for _ in range(6)])
    (winner,) = [pk for written, pk in answers if written is True]
    assert {written.entry for written, _ in answers if written is not True} == {winner}
    assert live(key) == Key.objects.count() == 1


def test_a_herd_after_a_window(race):
    """Also where the row of an ended window is in the way, one of many gets the key."""
    key = hold(window=1.0)
    ledger.succeed(claim(taken(key)), now=later(-10))
    answers = race.together(*[take(key) for _ in range(6)])
    assert [written for written, _ in answers].count(True) == 1
    assert live(key) == Key.objects.count() == 1


@pytest.mark.parametrize("at_once", [500, 4])
def test_bulk_calls_in_opposite_order_do_not_deadlock(race, at_once, monkeypatch):
    """Bulk calls of the same keys in opposite order all end, in however many statements."""
    monkeypatch.setattr("reliable_tasks.ledger.once._PER_STATEMENT", at_once)
    keys = [hold(key=str(n)) for n in range(20)]

    answers = race.together(many(keys), many(keys[::-1]), many(keys))
    assert sorted(answers) == [0, 20, 20]
    assert Entry.objects.count() == Key.objects.count() == 20


ENDS = {
    "succeed": lambda held: ledger.succeed(held, now=T0),
    "bury": bury,
}


@pytest.mark.parametrize("verb", ENDS)
def test_a_call_during_the_end_of_the_holder(race, verb):
    """A call that comes while the holder's end commits waits for it, and gets the key."""
    key = hold()
    pk = taken(key)
    held = claim(pk)
    _, (second, other) = race.overlap(lambda: ENDS[verb](held), take(key))
    assert second is True
    assert Key.objects.get().entry_id == other


@pytest.mark.parametrize("verb", ENDS)
def test_a_call_during_an_end_that_is_rolled_back(race, verb):
    """A call that waited for an end which rolled back is refused: the holder lives."""
    key = hold()
    pk = taken(key)
    held = claim(pk)
    _, (second, _) = race.overlap(lambda: ENDS[verb](held), take(key), commit=False)
    assert isinstance(second, Conflict)
    assert second.entry == pk


def test_a_refused_call_does_not_hold_up_the_end(race):
    """A caller whose transaction stays open after a conflict is in nobody's way."""
    key = hold()
    held = claim(taken(key))
    (refused, _), _ = race.overlap(take(key), lambda: ledger.succeed(held, now=T0), waits=False)
    assert isinstance(refused, Conflict)
    assert state(held) is State.SUCCEEDED
    assert Key.objects.count() == 0


def test_cancel_against_a_call(race):
    """A call that comes while the holder is cancelled waits, and gets the key."""
    key = hold()
    pk = taken(key)
    _, (second, _) = race.overlap(cancel(pk), take(key))
    assert second is True


def test_an_expiry_against_a_call(race):
    """A call that comes while its expired holder is cancelled waits, and gets the key."""
    key = hold()
    pk = taken(key, expires_in=30.0)
    ended, (second, other) = race.overlap(expire(pk), take(key))
    assert (ended, second) == ([pk], True)
    assert Key.objects.get().entry_id == other


def test_two_calls_find_one_holder_expired(race):
    """Of two calls that end an expired holder one does; the other finds nothing to do."""
    pk = taken(hold(), expires_in=30.0)
    assert race.overlap(expire(pk), expire(pk)) == ([pk], [])
    assert state(pk) is State.CANCELLED


def test_an_expiry_against_a_claim(race):
    """A holder that was claimed in the last moment runs on, and keeps its key."""
    pk = taken(hold(), expires_in=30.0)
    held, ended = race.overlap(lambda: claim(pk), expire(pk))
    assert ended == []
    assert state(held) is State.RUNNING
    assert Key.objects.get().entry_id == pk


def test_a_replacement_against_an_expiry(race):
    """A call that comes too late to change an expired holder is told so, and loses nothing."""
    pk = taken(hold(), expires_in=30.0)
    ended, changed = race.overlap(expire(pk), change(pk))
    assert (ended, changed) == ([pk], False)


def test_requeue_against_a_call(race):
    """Of a requeue and a call with its key the first one has it, and the other is told."""
    key = hold()
    pk = taken(key)
    bury(claim(pk))
    answers = race.overlap(requeue(pk), take(key))
    assert answers[0] == [pk]
    assert answers[1][0].entry == pk
    ledger.cancel([pk], now=T0)
    first, requeued = race.overlap(take(key), requeue(pk))
    assert (first[0], requeued) == (True, [])
    assert live(key) == 1


def test_requeue_with_another_key_against_a_call(race):
    """Of a requeue with other arguments and a call with their key, the first one has it."""
    old, key = hold(), hold()
    pk = taken(old)
    bury(claim(pk))
    answers = race.overlap(requeue_with(pk, key), take(key))
    assert answers[0] == [pk]
    assert answers[1][0].entry == pk
    bury(claim(pk))
    first, requeued = race.overlap(take(old), requeue_with(pk, old))
    assert (first[0], requeued) == (True, [])
    assert state(pk) is State.DEAD
    assert row(pk).args == [18]


def test_a_retry_against_a_call(race):
    """With blocks="waiting", a retry leaves the key to the call that has just taken it."""
    key = hold(blocks="waiting")
    held = claim(taken(key))
    free(held)()
    (second, other), _ = race.overlap(take(key), lambda: reschedule(held))
    assert second is True
    assert Key.objects.get().entry_id == other
    assert state(held) is State.RETRYING


def test_a_replacement_against_a_claim(race):
    """An entry whose arguments are being replaced is claimed with the new ones, or not yet."""
    key = hold()
    pk = taken(key)

    changed, held = race.overlap(
        change(pk), lambda: ledger.claim(pk, WORKER, lease=LEASE, now=later(5))
    )
    assert changed is True
    assert held is not None
    assert row(pk).args == [2]
    assert change(pk)() is False


def test_a_claim_against_a_replacement(race):
    """A replacement that comes too late changes nothing, and says so."""
    pk = taken(hold())
    held, changed = race.overlap(lambda: claim(pk), change(pk))
    assert changed is False
    assert row(held).args == []


def test_the_start_of_the_holder_against_a_call(race):
    """A call that comes while the holder's start frees the key gets it."""
    key = hold(blocks="unstarted")
    held = claim(taken(key))
    _, (second, _) = race.overlap(free(held), take(key))
    assert second is True


def test_a_late_start_against_a_rescue(race):
    """A start that comes too late leaves the key to its entry, which waits and blocks again."""
    key = hold(blocks="waiting")
    held = claim(taken(key))
    race.overlap(rescue(held), free(held))
    assert state(held) is State.RETRYING
    assert Key.objects.get().entry_id == held.entry


@pytest.mark.parametrize("blocks", ["waiting", "unstarted"])
def test_a_caller_frees_what_has_started(race, blocks):
    """A caller and the start itself free one key; the second finds nothing to do, and no error."""
    key = hold(blocks=blocks)
    held = claim(taken(key))
    freed, _ = race.overlap(lambda: ledger.free_started(held.entry), free(held))
    assert freed is True
    assert take(key)()[0] is True
    free(held)()
    assert Key.objects.count() == 1


def test_a_caller_frees_nothing_that_waits_again(race):
    """A caller that found its holder running, and comes too late for it, leaves it the key."""
    key = hold(blocks="waiting")
    held = claim(taken(key))
    _, freed = race.overlap(rescue(held), lambda: ledger.free_started(held.entry))
    assert freed is False
    assert Key.objects.get().entry_id == held.entry


def test_the_sweepers_tidying_against_a_call(race):
    """A row of an ended window that is swept away just now is in nobody's way."""
    key = hold(window=1.0)
    ledger.succeed(claim(taken(key)), now=later(-10))
    swept, (second, pk) = race.overlap(forget(), take(key))
    assert (swept, second) == (1, True)
    assert Key.objects.get().entry_id == pk


def test_a_call_against_the_sweepers_tidying(race):
    """The sweeper leaves a key alone that a call is taking just now."""
    key = hold(window=1.0)
    ledger.succeed(claim(taken(key)), now=later(-10))
    (first, pk), swept = race.overlap(take(key), forget(), waits=False)
    assert (first, swept) == (True, 0)
    assert Key.objects.get().entry_id == pk


def test_a_follower_that_takes_over_against_a_call(race):
    """Of a follower that takes the key and a new call one has it, and the other is told."""
    key = hold()
    follower = entry(key)
    assert follow(follower)()
    held, (second, _) = race.overlap(take_for(key, follower.id), take(key))
    assert held is None
    assert second.entry == follower.id


def test_a_follower_is_written_once(race):
    """Of two writes of one follower the second changes nothing."""
    follower = entry(hold())
    assert race.overlap(follow(follower), follow(follower)) == (True, False)


def test_a_follower_that_is_put_off_against_a_cancel(race):
    """A cancel that comes while a follower is put off ends it."""
    held = claim(taken(hold()))
    _, cancelled = race.overlap(put_off(held), cancel(held.entry))
    assert cancelled.cancelled == [held.entry]
    assert Key.objects.count() == 0


def test_bulk_against_a_single_call(race):
    """A bulk call that meets a key in an open transaction waits, and leaves that one out."""
    one, other = hold(), hold()
    (first, pk), missing = race.overlap(take(one), many([one, other]))
    assert (first, missing) == (True, 1)
    assert Key.objects.get(digest=one.digest).entry_id == pk


def test_release_against_a_call(race):
    """A call that comes while an operator releases the key waits, and gets it."""
    key = hold()
    taken(key)
    released, (second, _) = race.overlap(release_key(key), take(key))
    assert released is not None
    assert second is True
    assert live(key) == 2  # as the operator wanted
