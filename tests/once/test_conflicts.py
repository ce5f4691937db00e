"""What a call comes to whose key is held."""

from __future__ import annotations

import pickle
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import AlreadyQueued, OptionError, events, ledger
from reliable_tasks.errors import KeyReused
from reliable_tasks.ledger import keys
from reliable_tasks.ledger.once import _insert_rows
from reliable_tasks.models import Entry, Key
from tests.enqueue.calls import rolled_back
from tests.entries import T0
from tests.once.support import bury, claim, deliver, entry_of, held, keys_of, reschedule

pytestmark = pytest.mark.django_db


def takes_order(order):
    """Take one argument."""


def takes_token(order, token):
    """Take one that nobody is to see."""


def test_a_second_equal_call_is_refused_with_a_receipt(once):
    """The error names the entry that holds the key, its state, its age and the key."""
    task = once()
    first = task.delay(5)
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(order=5, kind="plain")
    error = caught.value
    assert (str(error.entry), error.state) == (first.id, "pending")
    assert 0 <= error.age < 60
    assert error.key == f'{task.name}(kind="plain", order=5)'
    assert first.id in str(error)
    assert "when that entry ends" in str(error)
    assert Entry.objects.count() == Key.objects.count() == 1


def test_the_receipt_survives_pickling(once):
    """A receipt that a worker stores as a result reads the same elsewhere."""
    task = once()
    task.delay(5)
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(5)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.entry, copy.countdown, str(copy)) == (
        caught.value.entry,
        caught.value.countdown,
        str(caught.value),
    )


def test_other_arguments_are_another_key(once):
    """Calls that differ in an argument do not meet."""
    task = once()
    assert len({task.delay(1).id, task.delay("1").id, task.delay(True).id, task.delay(1.0).id}) == 4


def test_keys_choose_what_counts(once):
    """Arguments that `keys` does not name make no other key; defaults count as if passed."""
    task = once(keys=["kind"])
    task.delay(1)
    with pytest.raises(AlreadyQueued):
        task.delay(2, "plain")
    task.delay(1, "other")


def test_the_key_may_be_given_or_made(once):
    """A value of the call's own, or a function of its arguments, can be the key."""
    task = once(key=lambda order, **rest: order % 2)
    task.delay(1)
    with pytest.raises(AlreadyQueued):
        task.delay(3)
    task.delay(2)
    other = once()
    other.apply_async((1,), once={"key": "invoice 7"})
    with pytest.raises(AlreadyQueued):
        other.apply_async((2,), once={"key": "invoice 7"})


def test_a_task_without_once_takes_no_key(make_task):
    """Plain reliable tasks are enqueued as often as they are called."""
    task = make_task()
    assert task.delay(1).id != task.delay(1).id
    assert Key.objects.count() == 0
    assert entry_of(task.delay(1)).options is None


def test_return_gives_the_live_entrys_result(once):
    """With conflict="return" the second call gets the first one's result handle."""
    task = once(conflict="return")
    first = task.delay(5)
    assert task.delay(5).id == first.id
    assert Entry.objects.count() == 1


def test_reject_answers_as_celery_once_does(once):
    """With conflict="reject" the second call gets Celery's REJECTED, with no id and no result."""
    task = once(conflict="reject")
    task.delay(5)
    answer = task.delay(5)
    assert (answer.id, answer.result, answer.state) == (None, None, "REJECTED")


def test_replace_gives_the_waiting_entry_the_new_arguments(once):
    """With conflict="replace" the entry that waits runs with the latest arguments."""
    task = once(keys=["order"], conflict="replace")
    first = task.delay(5, kind="old")
    assert task.delay(5, kind="new").id == first.id
    entry = entry_of(first)
    assert (entry.args, entry.kwargs) == ([5], {"kind": "new"})
    assert Entry.objects.count() == 1


def test_what_runs_already_is_not_replaced(once):
    """A call that comes while the entry runs makes a new one: its change is not lost."""
    task = once(keys=["order"], conflict="replace")
    first = task.delay(5, kind="old")
    assert deliver(task, first.id)
    seen = []

    def run(order, kind):
        seen.append((kind, task.delay(order, kind="during").id))

    task.run = run
    second = task.delay(5, kind="first")
    deliver(task, second.id)
    ((_, during),) = seen
    assert during != second.id
    assert Entry.objects.get(pk=during).state == "pending"


def test_postpone_waits_for_quiet(once):
    """With conflict="postpone" each call puts the entry off again, with the latest arguments."""
    task = once(keys=["order"], conflict="postpone", wait=60)
    first = task.delay(5, kind="a")
    due = entry_of(first).due_at
    assert task.delay(5, kind="b").id == first.id
    entry = entry_of(first)
    assert entry.due_at > due
    assert entry.wake_at == entry.due_at
    assert entry.kwargs == {"kind": "b"}
    assert timedelta(0) < entry.due_at - entry.enqueued_at < timedelta(seconds=90)


def test_postpone_has_an_end(once):
    """However many calls there are, an entry is not put off beyond `longest`."""
    task = once(keys=["order"], conflict="postpone", wait=60, longest=61)
    first = task.delay(5)
    task.apply_async((5,), countdown=3600)
    entry = entry_of(first)
    assert entry.due_at - entry.enqueued_at <= timedelta(seconds=61, milliseconds=1)


def test_other_arguments_under_an_idempotency_key_are_an_error(once):
    """A key that stands for one call for ever refuses to stand for another one."""
    task = once(keys=["order"], window="forever", conflict="return")
    first = task.delay(5, kind="a")
    assert task.delay(5, kind="a").id == first.id
    with pytest.raises(KeyReused, match=f"other arguments: entry {first.id} \\(pending\\)"):
        task.delay(5, kind="b")


def test_a_calls_own_options_go_before_the_tasks(once):
    """`once` of a call overrides option by option; False switches dedup off for the call."""
    task = once(keys=["order"])
    first = task.delay(5)
    assert task.apply_async((5, "x"), once={"conflict": "return"}).id == first.id
    free = task.apply_async((5,), once=False)
    assert free.id != first.id
    assert keys_of(free) == []


def test_a_plain_task_may_be_called_once(make_task):
    """A call can ask for dedup that its task does not."""
    task = make_task()
    first = task.apply_async((5,), once=True)
    assert held(first)
    with pytest.raises(AlreadyQueued):
        task.apply_async((5,), once=True)


def test_signatures_carry_the_options(once):
    """`once` set on a signature reaches the call."""
    task = once()
    first = task.delay(5)
    assert task.s(5).set(once={"conflict": "return"}).apply_async().id == first.id


def test_a_call_with_retries_takes_no_key(once):
    """A call that Celery makes for a retry passes: the task that is retried has the key."""
    task = once()
    task.delay(5)
    assert keys_of(task.apply_async((5,), retries=1)) == []


def test_the_same_id_twice_is_one_entry_and_no_conflict(once):
    """A caller that repeats itself with the same id gets its own entry back."""
    task = once()
    first = task.delay(5)
    again = task.apply_async((5,), task_id=first.id)
    assert again.id == first.id
    deliver(task, first.id)
    task.apply_async((5,), task_id=first.id)  # has ended: nothing is written, no key is left
    assert Entry.objects.count() == 1
    assert Key.objects.count() == 0


def test_a_rolled_back_call_leaves_the_key_free(once):
    """A rollback removes the entry and its key."""
    task = once()
    with rolled_back():
        task.delay(5)
    assert held(task.delay(5))


def test_a_conflict_leaves_the_callers_transaction_usable(once):
    """Who catches AlreadyQueued goes on in the same transaction."""
    task = once()
    task.delay(5)
    with transaction.atomic():
        with pytest.raises(AlreadyQueued):
            task.delay(5)
        assert held(task.delay(6))


def test_many_calls_tell_their_conflicts_one_by_one(once):
    """Of many calls the free ones are enqueued; the others are named with their holders."""
    task = once(keys=["order"])
    first = task.delay(2)
    results = task.enqueue_many([(1,), (2,), (3,), (1,), {"order": 3}])
    assert sorted(results.conflicts) == [1, 3, 4]
    assert str(results.conflicts[1].entry) == first.id
    assert results.ids[1] == results.conflicts[1].entry
    assert (results.ids[3], results.ids[4]) == (results.ids[0], results.ids[2])
    assert Entry.objects.count() == Key.objects.count() == 3


def test_many_calls_replace_what_waits(once):
    """In bulk, too, conflict="replace" gives the waiting entry the latest arguments."""
    task = once(keys=["order"], conflict="replace")
    results = task.enqueue_many([(1, "a"), (1, "b")])
    assert Entry.objects.get(pk=results.ids[0]).args == [1, "b"]


def test_beat_gets_the_entry_that_is_there(once):
    """A tick of django-celery-beat whose key is held is no error: the entry stands for it."""
    task = once()
    first = task.delay(5)
    assert task.apply_async((5,), headers={"periodic_task_name": "nightly"}).id == first.id


def test_conflicts_are_events(once):
    """Each conflict is counted and signalled, with what the policy made of it."""
    task = once(conflict="return")
    first = task.delay(5)
    seen = []
    receiver = lambda event, **_: seen.append(event)  # noqa: E731
    events.entry_deduplicated.connect(receiver, sender=task.name)
    task.delay(5)
    (event,) = seen
    assert (str(event.entry), event.did) == (first.id, "return")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kyes": ["order"]}, "no option 'kyes'. Did you mean 'keys'"),
        ({"keys": "order"}, "list of parameter names"),
        ({"keys": ["ordre"]}, None),
        ({"conflict": "explode"}, "must be one of 'raise', 'return'"),
        ({"conflict": "postpone"}, "needs wait="),
        ({"window": -1}, "greater than zero or 'forever'"),
        ({"window": 5, "unlock_before_run": True}, "must block as long as it is live"),
        ({"key": "x", "keys": ["order"]}, "exclude each other"),
        ({"window": "forever", "conflict": "replace"}, "forbids just that"),
        ({"graceful": "yes"}, "True or False"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(once, options, says):
    """A wrong option fails at the call, and says what would be right."""
    task = once(**options)
    if says is None:
        task.delay(1)  # the task takes any name
    else:
        with pytest.raises(OptionError, match=says):
            task.delay(1)


def test_an_unknown_parameter_is_named(make_task):
    """`keys` that name no parameter fail with the parameters that there are."""
    task = make_task(takes_order, once={"keys": ["ordre"]})
    with pytest.raises(OptionError, match="'ordre', which is no parameter of the task"):
        task.delay(1)


def takes_more(a, *rest, b=0, **more):
    """Take all kinds of parameters."""


@pytest.mark.parametrize("how", [{}, {"textual": True}])
def test_keys_may_name_all_extra_names_or_the_rest(make_task, how):
    """`keys` with the name of **more or *rest means all that falls on it."""
    task = make_task(takes_more, once={"keys": ["more", "rest"], **how})
    assert held(task.delay(1, b=1))
    assert held(task.delay(1, 2))
    assert held(task.delay(1, x=1))
    assert held(task.delay(1, x=2))
    assert held(task.delay(1, x=1, y=None))
    assert held(task.delay(1, 2, x=1, y=None))
    for args, kwargs in [
        ((2,), {"b": 2}),
        ((2, 2), {}),
        ((2,), {"x": 1}),
        ((9,), {"y": None, "x": 1}),
    ]:
        with pytest.raises(AlreadyQueued):
            task.delay(*args, **kwargs)


@pytest.mark.parametrize("sensitive", [("more",), ("pin",)])
@pytest.mark.parametrize("how", [{}, {"textual": True}])
def test_sensitive_extra_names_are_not_shown(make_task, sensitive, how):
    """Nor are they where `keys` names **more, whichever of the two is sensitive."""
    task = make_task(takes_more, once={"keys": ["more"], **how}, sensitive=sensitive)
    task.delay(1, pin="12345678")
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(2, pin="12345678")
    assert "12345678" not in caught.value.key
    assert "12345678" not in str(caught.value)
    task.delay(1, pin="87654321")


def test_sensitive_parameters_are_not_shown(make_task):
    """A parameter named sensitive counts in the key and is not readable in it."""
    task = make_task(takes_token, once=True, sensitive=("token",))
    task.delay(1, "secret")
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(1, "secret")
    assert "secret" not in caught.value.key
    task.delay(1, "other secret")


def test_a_key_whose_entry_was_deleted_by_hand_is_free(once):
    """Rows that were deleted behind the ledger's back block nobody."""
    task = once()
    first = task.delay(5)
    Entry.objects.filter(pk=first.id)._raw_delete("default")
    assert held(task.delay(5))


@pytest.mark.parametrize("state", ["succeeded", "cancelled", "dead"])
def test_a_key_whose_entry_was_ended_by_hand_is_free(once, state):
    """Nor do rows that were ended behind its back, which left the key where it was."""
    task = once()
    first = task.delay(5)
    Entry.objects.filter(pk=first.id).update(state=state, wake_at=None)
    assert keys_of(first)
    assert held(task.delay(5))


def test_a_dead_entry_that_was_ended_by_hand_may_hold_its_key(once):
    """But where dead entries keep their keys, so does such a one."""
    task = once(after_death="hold")
    first = task.delay(5)
    Entry.objects.filter(pk=first.id).update(state="dead", wake_at=None)
    with pytest.raises(AlreadyQueued, match="dead"):
        task.delay(5)


def test_a_replaced_entry_answers_for_its_new_arguments(once):
    """After a replacement, a call with the new arguments is the same one, with the old another."""
    task = once(keys=["order"], conflict="replace")
    task.delay(1, kind="old")
    replaced = task.delay(1, kind="new")
    strictly = {"keys": ["order"], "conflict": "return", "same_arguments": True}
    assert task.apply_async((1,), {"kind": "new"}, once=strictly).id == replaced.id
    with pytest.raises(KeyReused):
        task.apply_async((1,), {"kind": "old"}, once=strictly)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "running"},
        {"state": "succeeded", "wake_at": None},
        {"state": "retrying", "cancel_requested_at": T0},
    ],
)
def test_only_what_will_run_with_them_gets_other_arguments(once, change):
    """Nothing of an entry that runs, has ended or is to be cancelled is replaced."""
    first = once(keys=["order"]).delay(1, kind="old")
    Entry.objects.filter(pk=first.id).update(**change)
    entry = entry_of(first)
    assert not ledger.change_waiting(entry.pk, args="[9]", kwargs="{}", arguments="other")
    assert entry_of(first).args == entry.args
    assert [key.arguments for key in keys_of(first)] != ["other"]


def test_a_key_whose_window_goes_on_is_not_cleared(once):
    """Clearing looks again by itself: somebody else may have the key since it was read."""
    task = once(window=60)
    first = task.delay(5)
    deliver(task, first.id)
    (key,) = keys_of(first)
    assert key.until is not None
    assert not keys.clear(key.digest)
    assert keys_of(first)
    assert keys.clear(key.digest, now=key.until)


def test_many_keys_are_taken_in_one_order(once):
    """Whatever the order of the calls, so that two batches cannot wait for each other."""
    task = once()
    with CaptureQueriesContext(connection) as captured:
        task.enqueue_many([(n,) for n in range(20)])
    (sql,) = (
        query["sql"]
        for query in captured.captured_queries
        if query["sql"].startswith(f"INSERT INTO {Key._meta.db_table}")
    )
    digests = sorted(Key.objects.values_list("digest", flat=True))
    plain = sql.replace("-", "")
    places = [plain.index(digest.hex) for digest in digests]
    assert len(places) == 20
    assert places == sorted(places)


def test_a_long_batch_takes_its_keys_in_one_order(once, monkeypatch):
    """Also where the batch needs several statements, and of equal calls the first one counts."""
    monkeypatch.setattr("reliable_tasks.ledger.once._PER_STATEMENT", 4)
    task = once(keys=["order"])
    with CaptureQueriesContext(connection) as captured:
        made = task.enqueue_many([(n % 10, n) for n in range(15)])
    assert list(made.conflicts) == [10, 11, 12, 13, 14]
    assert made.ids[10:] == made.ids[:5]
    assert sorted(Entry.objects.values_list("args", flat=True)) == [[n, n] for n in range(10)]
    sql = "".join(
        query["sql"]
        for query in captured.captured_queries
        if query["sql"].startswith(f"INSERT INTO {Key._meta.db_table}")
    ).replace("-", "")
    places = [sql.index(d.hex) for d in sorted(Key.objects.values_list("digest", flat=True))]
    assert places == sorted(places)


def test_many_holders_are_changed_in_one_order(once, monkeypatch):
    """Whatever the order of the calls: each holder stays locked until the batch has ended."""
    task = once(keys=["order"], conflict="replace")
    task.enqueue_many([(n,) for n in range(10)])
    changed = []
    change = ledger.change_waiting

    def note(entry, **how):
        changed.append(entry)
        return change(entry, **how)

    monkeypatch.setattr(ledger, "change_waiting", note)
    made = task.enqueue_many([(n, "new") for n in (3, 9, 1, 0, 2, 8, 7, 4, 6, 5, 3)])
    assert list(made.conflicts) == list(range(11))
    assert changed[:10] != made.ids[:10]
    holders = [holder for _, holder in sorted(Key.objects.values_list("digest", "entry_id"))]
    assert list(dict.fromkeys(changed)) == holders


@pytest.mark.parametrize("conflict", ["raise", "return", "replace"])
def test_a_holder_that_ends_while_many_are_written(once, conflict, monkeypatch):
    """A batch that met a held key goes on though that is free before the batch has ended."""
    task = once(keys=["order"], blocks="live", conflict=conflict)
    first = task.delay(5)
    running = claim(first)

    def write_slowly(*args):
        _insert_rows(*args)
        ledger.succeed(running)

    with monkeypatch.context() as patched:
        patched.setattr("reliable_tasks.ledger.once._insert_rows", write_slowly)
        made = task.enqueue_many([(5, "again"), (6, "new"), (6, "equal")])
    assert made.conflicts[2].entry == made.ids[1]
    if conflict == "replace":  # which looks again
        assert held(made[0])
    else:
        assert str(made.conflicts[0].entry) == first.id


@pytest.mark.parametrize("conflict", ["raise", "return", "replace", "reject"])
@pytest.mark.parametrize("blocks", ["waiting", "unstarted"])
def test_a_call_between_a_claim_and_the_freeing_of_the_key(once, blocks, conflict):
    """A holder that has been claimed blocks no more, also before its worker has freed the key."""
    task = once(keys=["order"], blocks=blocks, conflict=conflict)
    first = task.delay(5)
    assert ledger.claim(entry_of(first).pk, "celery@test#1", lease=60.0) is not None
    assert held(first)
    second = task.delay(5)
    assert second.id != first.id
    assert held(second)
    assert keys_of(first) == []


def test_a_claimed_holder_that_blocks_until_its_end_keeps_its_key(once):
    """What the holder was enqueued with counts, not what the call would have."""
    task = once()
    first = task.delay(5)
    assert ledger.claim(entry_of(first).pk, "celery@test#1", lease=60.0) is not None
    with pytest.raises(AlreadyQueued):
        task.apply_async((5,), once={"blocks": "waiting"})
    assert held(first)


def test_the_release_of_a_key_leaves_a_dead_letter_its_reason(once):
    """Why an entry died is still there after its key was released."""
    task = once(after_death="hold")
    first = task.delay(5)
    bury(claim(first))
    (key,) = keys_of(first)
    assert ledger.release_key(key.pk, reason="by hand")
    assert entry_of(first).reason == "Not retried."
    second = task.delay(5)
    (key,) = keys_of(second)
    assert ledger.release_key(key.pk, reason="by hand")
    assert entry_of(second).reason == "by hand"


def test_a_replacement_changes_what_the_entry_is_about(once):
    """The subject, and the digest that a retry takes its key with, are the new arguments'."""
    first = once(keys=["order"]).delay(1, kind="old")
    pk = entry_of(first).pk
    assert ledger.change_waiting(
        pk, args="[1]", kwargs="{}", arguments="f" * 32, subject_type="shop.order", subject_id="7"
    )
    entry = entry_of(first)
    assert (entry.subject_type, entry.subject_id) == ("shop.order", "7")
    assert entry.options["once"]["arguments"] == "f" * 32
    assert ledger.change_waiting(pk, args="[1]", kwargs="{}", arguments="f" * 32)
    assert (entry_of(first).subject_type, entry_of(first).subject_id) == (None, None)


def test_a_replaced_key_is_taken_again_as_it_was_replaced(once):
    """After a retry, too, the key answers for the arguments that the entry runs with."""
    task = once(keys=["order"], conflict="replace")
    first = task.delay(1, kind="old")
    task.delay(1, kind="new")
    replaced = keys_of(first)[0].arguments
    reschedule(claim(first))
    assert keys_of(first)[0].arguments == replaced


@pytest.mark.parametrize("conflict", [{"conflict": "replace"}, {"conflict": "postpone", "wait": 5}])
def test_a_replacing_calls_own_link_is_called(once, conflict):
    """A call that changes a waiting entry and has a link gets an entry that follows, with it."""
    task = once(keys=["order"], **conflict)
    first = task.delay(1, kind="old")
    second = task.apply_async((1, "new"), link=task.si(77))
    assert second.id != first.id
    assert entry_of(first).args == [1, "new"]
    follower = entry_of(second)
    assert follower.options["follows"] == first.id
    assert follower.options["link"]


@pytest.mark.parametrize("conflict", ["replace", "raise", "return"])
def test_many_calls_of_a_holder_that_has_been_claimed(once, conflict):
    """In bulk, too, a holder that has started blocks no more: the call is enqueued."""
    task = once(keys=["order"], blocks="waiting", conflict=conflict)
    first = task.delay(5)
    assert ledger.claim(entry_of(first).pk, "celery@test#1", lease=60.0) is not None
    made = task.enqueue_many([(5, "new"), (6, "other")])
    assert made.conflicts == {}
    assert [Entry.objects.get(pk=pk).args for pk in made.ids] == [[5, "new"], [6, "other"]]
    assert Key.objects.count() == 2


def test_a_holder_that_starts_while_many_are_written(once, monkeypatch):
    """A call in bulk that comes too late to change its holder is enqueued like a single one."""
    task = once(keys=["order"], conflict="replace")
    first = task.delay(5, "old")
    change_waiting = ledger.change_waiting

    def late(*args, **kwargs):
        monkeypatch.setattr(ledger, "change_waiting", change_waiting)
        claim(first)
        return change_waiting(*args, **kwargs)

    monkeypatch.setattr(ledger, "change_waiting", late)
    made = task.enqueue_many([(5, "new")])
    assert made.conflicts == {}
    assert str(made.ids[0]) != first.id
    assert Entry.objects.get(pk=made.ids[0]).args == [5, "new"]
    assert entry_of(first).args == [5, "old"]
