"""Operations: an act on many entries in batches, each entry touched once, whatever dies."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse

from reliable_tasks import ledger, operations, overview
from reliable_tasks.models import Entry, Key, Operation, OperatorAct, TouchedEntry
from reliable_tasks.operations import Act, Chosen, background
from reliable_tasks.states import State
from tests import entries
from tests.app.once_tasks import square

pytestmark = pytest.mark.django_db

DEAD = Chosen(states=("dead",), task="tests.app.tasks.add")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Make batches small enough to have several."""
    monkeypatch.setattr(background, "BATCH", 4)


def died(count, **given):
    at = overview.now() - timedelta(minutes=1)
    ids = []
    for _ in range(count):
        held = entries.running(now=at, **given)
        entries.bury(held, now=at)
        ids.append(held.entry)
    return ids


def begin(verb=Act.REQUEUE, chosen=DEAD, **given):
    return operations.begin(verb, chosen, "Again.", by="ann", **given).operation


def of(pk):
    return Operation.objects.get(pk=pk)


def states(ids):
    return set(Entry.objects.filter(pk__in=ids).values_list("state", flat=True))


def test_all_that_match_are_touched_once():
    """All that matched are requeued, counted, and noted under one act; others are not."""
    ids, others = died(10), died(2, task="tests.app.tasks.boom")
    operation = begin()
    assert of(operation).total == 10
    background.go_on(operation, 1)
    assert states(ids) == {"pending"}
    assert states(others) == {"dead"}
    assert (of(operation).state, of(operation).done, of(operation).skipped) == ("done", 10, 0)
    (act,) = OperatorAct.objects.all()
    assert set(TouchedEntry.objects.values_list("act", "entry_id")) == {(act.pk, pk) for pk in ids}
    assert entries.row(ids[0]).reason == "Requeued by ann: Again."


@pytest.mark.parametrize(
    ("verb", "state", "after"),
    [(Act.DISCARD, State.DEAD, "cancelled"), (Act.CANCEL, State.PENDING, "cancelled")],
)
def test_every_act_on_entries_can_be_an_operation(verb, state, after):
    """Discards and cancels of many are carried out in the same way."""
    ids = died(6) if state is State.DEAD else [entries.enqueue(now=None) for _ in range(6)]
    operation = begin(verb, Chosen(states=(state.value,), task="tests.app.tasks.add"))
    background.go_on(operation, 1)
    assert states(ids) == {after}
    assert of(operation).done == 6


def test_what_died_after_the_start_is_left_alone():
    """What changes once an operation has begun is not its: it would never end otherwise."""
    ids = died(3)
    operation = begin()
    late = entries.running(now=None)
    entries.bury(late, now=overview.now() + timedelta(seconds=1))
    background.go_on(operation, 1)
    assert states(ids) == {"pending"}
    assert entries.state(late) is State.DEAD


def test_what_somebody_else_changed_counts_as_left_alone():
    """An entry that a person requeued before its turn is not touched, and counted as skipped."""
    ids = died(6)
    operation = begin(Act.DISCARD)
    ledger.requeue(ids[4:5])
    background.go_on(operation, 1)
    assert entries.state(ids[4]) is State.PENDING
    assert (of(operation).done, of(operation).skipped) == (5, 1)


def test_a_batch_that_fails_leaves_nothing_of_it(monkeypatch):
    """A process that dies in a batch leaves a whole number of batches; the rest is done later."""
    ids = died(10)
    operation = begin()
    advance = ledger.advance_operation
    calls = []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise ConnectionResetError("power failure")
        advance(*args, **kwargs)

    monkeypatch.setattr(ledger, "advance_operation", dies)
    with pytest.raises(ConnectionResetError):
        background.go_on(operation, 1)
    assert of(operation).done == Entry.objects.filter(pk__in=ids, state="pending").count() == 4
    background.go_on(operation, 1)
    assert of(operation).done == TouchedEntry.objects.count() == 10


def test_pause_resume_and_stop():
    """A paused operation touches nothing, a resumed one goes on, and a stopped one ends."""
    ids = died(10)
    operation = begin()
    assert operations.pause_operation(operation, by="bob")
    background.go_on(operation, 1)
    background.go_on(operation, of(operation).turn)
    assert states(ids) == {"dead"}
    assert operations.resume_operation(operation, by="bob")
    carrier = of(operation).entry_id
    assert Entry.objects.get(pk=carrier).args == [str(operation), of(operation).turn]
    assert background._one_batch(operation, of(operation).turn, 0).handled == 4
    assert operations.stop_operation(operation, by="bob")
    background.go_on(operation, of(operation).turn)
    assert Entry.objects.filter(pk__in=ids, state="pending").count() == 4
    assert of(operation).state == "stopped"
    assert not operations.resume_operation(operation)
    assert not operations.set_rate(operation, 5.0)
    words = OperatorAct.objects.filter(act="steer operation").values_list("target", flat=True)
    assert {text.split()[0] for text in words} == {"pause", "resume", "stop"}


def test_an_old_turn_does_nothing():
    """Of two processes that carry the same operation, only the one whose turn it is goes on."""
    died(10)
    operation = begin()
    background.hand_on(operation, 1)
    assert background._one_batch(operation, 1, 0) is None
    assert background._one_batch(operation, 2, 0).handled == 4
    before = Entry.objects.filter(task="reliable_tasks.carry_out").count()
    background.hand_on(operation, 1)
    assert Entry.objects.filter(task="reliable_tasks.carry_out").count() == before


def test_a_turn_ends_and_hands_on(monkeypatch):
    """After its seconds a turn enqueues exactly one successor, which carries the rest."""
    ids = died(10)
    operation = begin()
    monkeypatch.setattr(background, "TURN_SECONDS", 0.0)
    for turn in (1, 2, 3, 4):
        background.go_on(operation, turn)
    assert states(ids) == {"pending"}
    assert of(operation).state == "done"
    carriers = Entry.objects.filter(task="reliable_tasks.carry_out")
    assert sorted(args[1] for args in carriers.values_list("args", flat=True)) == [1, 2, 3, 4]


def test_a_rate_bounds_a_turn():
    """A rate of one a second handles five in a turn, and the next turn waits for its time."""
    died(12)
    operation = begin(rate=1.0)
    background.go_on(operation, 1)
    assert of(operation).done == 5
    successor = Entry.objects.get(pk=of(operation).entry_id)
    assert 3 < (successor.due_at - overview.now()).total_seconds() <= 5
    with pytest.raises(ValueError, match="above zero"):
        operations.set_rate(operation, 0)
    assert operations.set_rate(operation, None)
    background.go_on(operation, of(operation).turn)
    assert of(operation).done == 12


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_a_slow_rate_rests_as_long_as_it_takes(rate):
    """A rate of less than one entry in a turn is kept too: one entry, then 1 / rate seconds."""
    died(3)
    operation = begin(rate=rate)
    background.go_on(operation, 1)
    assert of(operation).done == 1
    successor = Entry.objects.get(pk=of(operation).entry_id)
    rest = (successor.due_at - overview.now()).total_seconds()
    assert 1 / rate - 3 < rest <= 1 / rate


def test_another_rate_ends_the_rest_of_the_old_one():
    """Who speeds a slow operation up need not wait for the end of its rest."""
    died(3)
    operation = begin(rate=0.001)
    background.go_on(operation, 1)
    assert operations.set_rate(operation, None)
    successor = Entry.objects.get(pk=of(operation).entry_id)
    assert successor.due_at <= overview.now()
    assert successor.args == [str(operation), of(operation).turn]
    background.go_on(operation, of(operation).turn)
    assert of(operation).state == "done"


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 1e300, 1e-300, 0.0, -1.0])
def test_a_rate_that_nothing_can_keep_is_refused(rate, admin_client):
    """Neither an act nor the admin takes a rate with which an operation would fail for ever."""
    died(1)
    with pytest.raises(ValueError, match="out of bounds"):
        begin(rate=rate)
    operation = begin(rate=5.0)
    with pytest.raises(ValueError, match="out of bounds"):
        operations.set_rate(operation, rate)
    url = reverse("admin:reliable_tasks_operation_steer", args=[operation])
    answer = admin_client.post(url, {"to": "rate", "rate": str(rate)}, follow=True)
    assert "The rate must be a number above zero, at most 1,000,000" in answer.content.decode()
    assert of(operation).rate == 5.0


def test_a_requeue_is_spread_over_the_whole():
    """Due times of a spread requeue run evenly from now to its end, across all batches."""
    ids = died(10)
    operation = begin(params={"spread": 100.0})
    background.go_on(operation, 1)
    started = of(operation).started_at
    due = sorted((entries.row(pk).due_at - started).total_seconds() for pk in ids)
    assert due == pytest.approx([10.0 * n for n in range(10)], abs=0.01)


def test_keys_are_released_as_an_operation(monkeypatch, django_capture_on_commit_callbacks):
    """Keys held when it began are released under one act; their entries go on; later ones stay."""
    ids = [UUID(square.delay(n).id) for n in range(6)]
    without = entries.enqueue(now=None)
    operation = begin(Act.RELEASE_KEY, Chosen(states=("pending",)))
    assert of(operation).total == 6
    assert operations.release_keys_of(ids[:1]) == ids[:1]
    again = UUID(square.delay(0).id)
    background.go_on(operation, 1)
    assert (of(operation).state, of(operation).done, of(operation).skipped) == ("done", 5, 1)
    assert list(Key.objects.values_list("entry_id", flat=True)) == [again]
    assert states([*ids, without, again]) == {"pending"}
    act = of(operation).act
    touched = TouchedEntry.objects.filter(act=act).values_list("entry_id", "result")
    assert set(touched) == {(pk, "key released") for pk in ids[1:]}
    assert entries.row(ids[1]).reason == "Key released by ann: Again."


def test_a_key_that_changed_hands_is_left_alone():
    """A key that another entry has taken since somebody looked is not released."""
    first = UUID(square.delay(1).id)
    (key,) = Key.objects.all()
    assert operations.release_keys_of([first]) == [first]
    second = UUID(square.delay(1).id)
    assert operations.release_keys_of([first]) == []
    assert ledger.release_key(key.pk, reason="x", entry=first) is None
    assert operations.release_keys_of([second], as_of=key.held_at - timedelta(seconds=1)) == []
    assert Key.objects.get().entry_id == second
    assert entries.row(second).reason == ""
    kept = OperatorAct.objects.order_by("pk").values_list("act", "done", "skipped", "details")
    text = "tests.app.once_tasks.square(number=1)"
    assert list(kept) == [
        ("release key", 1, 0, {"keys": [text]}),
        ("release key", 0, 1, None),
        ("release key", 0, 1, None),
    ]


def test_acts_that_are_none_on_entries_are_refused():
    """A pause of entries is no act, and a choice by unknown words is an error."""
    with pytest.raises(ValueError, match="no act on entries"):
        operations.begin(Act.PAUSE, DEAD)
    with pytest.raises(ValueError, match="cannot be chosen by colour"):
        Chosen.from_json({"colour": "red"})


def test_a_choice_survives_json():
    """What is chosen is the same after it was kept in the ledger."""
    chosen = Chosen(states=("dead",), task="a.b", since="2031-05-06T07:08:09+00:00")
    assert Chosen.from_json(chosen.as_json()) == chosen
    assert "dead entries of task a.b" in chosen.words()


def test_touched_entries_go_with_their_entry_and_the_act_stays():
    """A prune takes the note of what touched an entry away with it; the record stays whole."""
    ids = died(2)
    operations.discard(ids, "Old.", by="ann")
    assert TouchedEntry.objects.count() == 2
    assert sum(operations.prune(State.CANCELLED, timedelta(0))) == 2
    assert TouchedEntry.objects.count() == 0
    assert OperatorAct.objects.get().done == 2
