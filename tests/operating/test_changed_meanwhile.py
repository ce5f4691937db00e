"""An act touches what its page has shown, as it stood then; the rest is named, with the reason."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse

from reliable_tasks import ledger, operations, overview
from reliable_tasks.models import Entry, Key, OperatorAct
from reliable_tasks.operations import Act, Chosen, background
from reliable_tasks.states import State
from tests import entries
from tests.app.once_tasks import square
from tests.test_admin import ago, died, notes
from tests.test_admin_acts import sent


def waits():
    """Write an entry that has waited for a minute."""
    return entries.enqueue(now=ago(minutes=1))


def page(client, verb, *ids, **filters):
    """Open the page of an act on entries."""
    address = reverse("admin:reliable_tasks_entry_act", args=[verb])
    return client.get(address, {**filters, "id": [str(pk) for pk in ids]})


def posted_ids(shown):
    """Return the ids that a page's form names."""
    return [UUID(value) for name, value in shown.context["fields"] if name == "id"]


# ------------------------------------------------------------------------- between page and button
def test_what_could_not_be_cancelled_then_is_not_cancelled_now(
    transactional_db, admin_client, second_connection
):
    """A dead entry among the selected, requeued by somebody before the button, goes on."""
    dead, waiting = died(), waits()
    shown = page(admin_client, "cancel", dead, waiting)
    assert shown.context["preview"].others == 1
    assert posted_ids(shown) == [waiting]
    assert second_connection.run(lambda: operations.requeue([dead]).requeued) == [dead]
    assert notes(sent(admin_client, shown)) == ["Cancelled 1 entry."]
    assert entries.state(dead) is State.PENDING


CHANGES = {
    "cancel": (waits, lambda pk: (ledger.cancel([pk]), ledger.requeue([pk]))),
    "requeue": (died, lambda pk: (ledger.requeue([pk]), entries.bury(entries.claim(pk, now=None)))),
    "edit": (died, lambda pk: (ledger.requeue([pk]), entries.bury(entries.claim(pk, now=None)))),
    "discard": (died, lambda pk: (ledger.requeue([pk]), entries.bury(entries.claim(pk, now=None)))),
    "release": (
        lambda: UUID(square.delay(3).id),
        lambda pk: (ledger.cancel([pk]), ledger.requeue([pk])),
    ),
}


@pytest.mark.parametrize("verb", CHANGES)
def test_what_looks_the_same_and_is_not_is_left_alone(
    transactional_db, admin_client, second_connection, verb
):
    """An entry that somebody changed is left alone and named, also where its state is as before."""
    make, change = CHANGES[verb]
    pk = make()
    shown = page(admin_client, verb, pk)
    state = entries.state(pk)
    second_connection.run(lambda: change(pk))
    assert entries.state(pk) is state
    before = entries.snapshot(pk)
    (note,) = notes(sent(admin_client, shown, args="[1, 2]", kwargs="{}"))
    why = f"{pk} is {state} as before, but something has happened to it since"
    assert note == f"1 entry was left alone: {why}."
    assert entries.snapshot(pk) == before
    assert not OperatorAct.objects.filter(done__gt=0).exists()


@pytest.mark.parametrize("verb", CHANGES)
def test_what_has_not_changed_is_touched(transactional_db, admin_client, verb):
    """Nothing but a change of the entry keeps the act of a page from being done."""
    make, _ = CHANGES[verb]
    pk = make()
    before = entries.snapshot(pk), Key.objects.count()
    shown = page(admin_client, verb, pk)
    sent(admin_client, shown, args="[1, 2]", kwargs="{}")
    assert (entries.snapshot(pk), Key.objects.count()) != before
    assert OperatorAct.objects.get().done == 1


def test_who_was_left_alone_is_named_with_the_reason(db, admin_client):
    """The answer tells the state before and now, what is gone, and how many more there are."""
    ids = [died() for _ in range(8)]
    shown = page(admin_client, "discard", *ids)
    ledger.requeue(ids[:1])
    Entry.objects.filter(pk=ids[1]).delete()
    ledger.discard_dead(ids[2:7])
    done, left = notes(sent(admin_client, shown))
    assert done == "Discarded 1 entry."
    assert left.startswith("7 entries were left alone: ")
    assert f"{ids[0]} was dead and is pending now" in left
    assert f"{ids[1]} is not in the ledger any more" in left
    assert f"{ids[2]} was dead and is cancelled now" in left
    assert left.endswith("; and 2 more.")


def test_what_a_filter_chose_is_pinned_too(db, admin_client):
    """Of a filter as well, what was counted is touched, and what came in since is not."""
    first, second = died(), died()
    shown = page(admin_client, "requeue", state="dead")
    assert shown.context["preview"].count == 2
    third = died()
    ledger.discard_dead([first])
    assert notes(sent(admin_client, shown)) == [
        "Requeued 1 entry.",
        f"1 entry was left alone: {first} was dead and is cancelled now.",
    ]
    assert [entries.state(pk) for pk in (first, second, third)] == ["cancelled", "pending", "dead"]


def test_a_key_that_somebody_has_by_now_is_named(db, admin_client):
    """A dead entry whose key another one took since is left alone, and the answer says which."""
    pk = UUID(square.delay(4).id)
    entries.bury(entries.claim(pk, now=None), now=None)
    shown = page(admin_client, "requeue", pk)
    holder = square.delay(4).id
    assert notes(sent(admin_client, shown)) == [
        f"1 entry was left alone: {pk} is dead, because entry {holder} has its key."
    ]


@pytest.mark.parametrize(
    "marks", ["x", "a.b.c", f"{'0' * 32}.dead.1.{'9' * 40}..", "0.dead.1.2.3."]
)
def test_a_form_that_is_not_whole_is_refused(db, admin_client, marks):
    """Nonsense in the form's hidden field is refused in words, and nothing is touched."""
    pk = died()
    answer = sent(admin_client, page(admin_client, "discard", pk), marks=marks)
    assert notes(answer) == ["This form is not whole. Open its page again."]
    assert entries.state(pk) is State.DEAD


def test_arguments_that_a_call_replaced_are_a_change(db):
    """A waiting entry with a key whose arguments another call replaced has another mark."""
    pk = UUID(square.delay(5).id)
    (before,) = ledger.marks_of(Entry.objects.all()).values()
    changed = ledger.change_waiting(pk, args="[5]", kwargs="{}", arguments="f" * 32)
    assert changed
    (after,) = ledger.marks_of(Entry.objects.all()).values()
    assert before != after
    assert before._replace(arguments="") == after._replace(arguments="")


# ------------------------------------------------------------------------- what goes by a time only
def test_many_are_not_cancelled_that_were_requeued_since(db, monkeypatch):
    """An operation that cancels leaves alone what a person put back after it was asked for."""
    dead, waiting = died(), waits()
    seen_at = overview.now()
    Entry.objects.filter(pk=dead).update(enqueued_at=seen_at - timedelta(hours=1))
    operations.requeue([dead], due_at=seen_at)
    Entry.objects.filter(pk=dead).update(requeued_at=seen_at + timedelta(milliseconds=5))
    begun = operations.begin(Act.CANCEL, Chosen(task="tests.app.tasks.add"), as_of=seen_at)
    assert begun.total == 1
    background.go_on(begun.operation, 1)
    assert [entries.state(pk) for pk in (dead, waiting)] == ["pending", "cancelled"]
    assert ledger.cancel([dead], as_of=seen_at).skipped == [dead]
    assert ledger.cancel([dead], as_of=seen_at + timedelta(seconds=1)).cancelled == [dead]


def test_a_requeue_notes_when(db):
    """A requeue writes the time at which it was done."""
    pk = died()
    assert entries.row(pk).requeued_at is None
    before = overview.now()
    operations.requeue([pk], due_at=before + timedelta(days=1))
    assert before <= entries.row(pk).requeued_at <= overview.now()
