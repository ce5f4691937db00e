"""`manage.py reliable_tasks keys`: what is held, why, and how to free it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import TestCase
from django.utils import timezone

from reliable_tasks import events, operations
from reliable_tasks.management.console.output import Output
from reliable_tasks.models import Entry, Key
from tests.app.once_tasks import square, square_in_window
from tests.commands import answer, reliable_tasks
from tests.enqueue.calls import deliver


@pytest.fixture
def held(db, monkeypatch):
    """Give the test an entry that holds a key."""
    monkeypatch.setattr(
        "reliable_tasks.task.publisher", lambda app: type("Nobody", (), {"submit": print})
    )
    return square.apply_async((7,), countdown=60)


TEXT = "tests.app.once_tasks.square(number=7)"


def test_list(held):
    """Each key is listed with its holder, its state and when it is free."""
    ran = reliable_tasks("keys")
    assert ran.code == 0
    assert TEXT in ran.out
    assert held.id in ran.out
    assert "with its entry" in ran.out
    assert reliable_tasks("keys", "--task", "nobody").code == 1


def test_list_for_programs(held):
    """Programs get the same as data."""
    (row,) = reliable_tasks("keys", "list", "--json").json
    assert (row["key"], row["entry"], row["state"]) == (TEXT, held.id, "pending")
    assert (row["frees_in_seconds"], row["free"]) == (None, False)
    assert row["held_seconds"] >= 0


@pytest.mark.parametrize("name", ["text", "digest", "entry"])
def test_explain(held, name):
    """A key is explained by its text, its digest, or the id of its holder."""
    what = {"text": TEXT, "digest": Key.objects.get().pk, "entry": held.id}[name]
    ran = reliable_tasks("keys", "explain", what)
    assert ran.code == 0
    assert f"held by   {held.id} (pending)" in ran.out
    assert "waits for an attempt" in ran.out


def test_explain_a_window(held):
    """A key whose entry has ended says until when it blocks on."""
    result = square_in_window.apply_async((1,), countdown=60)
    Entry.objects.filter(pk=result.id).update(due_at=timezone.now() - timedelta(seconds=1))
    deliver(square_in_window, result.id)
    ran = reliable_tasks("keys", "explain", result.id)
    assert "(succeeded)" in ran.out
    assert "free: in" in ran.out


def test_explain_what_has_expired(held):
    """The key of an entry that has expired is as good as free."""
    Entry.objects.filter(pk=held.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    ran = reliable_tasks("keys", "explain", TEXT)
    assert "has expired: the next sweep ends it, or the next call" in " ".join(ran.out.split())
    assert reliable_tasks("keys", "--json").json[0]["free"] is True
    assert "now" in reliable_tasks("keys").out


def test_explain_what_nobody_holds(held):
    """A key that nobody holds is no error, but there is nothing to explain."""
    ran = reliable_tasks("keys", "explain", "shop.nothing(a=1)")
    assert ran.code == 1
    assert "would be enqueued" in ran.err


def test_release(held):
    """A released key is free at once; its entry goes on and keeps the reason."""
    ran = reliable_tasks("keys", "release", TEXT, "--yes", "--reason", "the customer asked")
    assert ran.code == 0
    assert f"Released {TEXT}." in ran.out
    assert "goes on" in ran.err
    assert Key.objects.count() == 0
    entry = Entry.objects.get(pk=held.id)
    assert entry.state == "pending"
    assert entry.reason.startswith("Key released by ")
    assert entry.reason.endswith("the customer asked")
    assert square.apply_async((7,), countdown=60).id != held.id


def test_release_asks(held, monkeypatch):
    """Without --yes the act is asked for, and no is no."""
    answer(monkeypatch, "n")
    ran = reliable_tasks("keys", "release", TEXT)
    assert (ran.code, Key.objects.count()) == (1, 1)
    assert "Nothing was changed." in ran.err


def test_a_key_that_changes_hands_while_it_is_asked_for_is_left_alone(held, monkeypatch):
    """What is released is what the question named, and not the key of another entry."""
    answer(monkeypatch, "y")
    ask = Output.confirm
    later = []

    def slowly(self, *args, **kwargs):
        operations.cancel([Entry.objects.get(pk=held.id).pk])
        later.append(square.apply_async((7,), countdown=60))
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(Output, "confirm", slowly)
    ran = reliable_tasks("keys", "release", TEXT)
    assert ran.code == 1
    assert f"Left alone: {TEXT}, which entry {held.id} does not hold any more." in ran.err
    assert str(Key.objects.get().entry_id) == later[0].id


def test_release_for_programs(held):
    """Programs are told what was released."""
    ran = reliable_tasks("keys", "release", held.id, "--yes", "--json")
    assert [row["entry"] for row in ran.json["released"]] == [held.id]


@pytest.mark.parametrize("arguments", [["explain"], ["release"], ["list", TEXT]])
def test_what_cannot_be_meant(db, arguments):
    """A command line without its key is refused."""
    assert reliable_tasks("keys", *arguments).code == 2


def test_a_released_key_is_told(held):
    """Releasing is an event of its own."""
    seen = []
    receiver = lambda event, **_: seen.append(event)  # noqa: E731
    events.entry_key_released.connect(receiver)
    with TestCase.captureOnCommitCallbacks(execute=True):
        operations.release_key(Key.objects.get().pk, "stuck", by="ada")
    events.entry_key_released.disconnect(receiver)
    (event,) = seen
    assert (str(event.entry), event.reason) == (held.id, "Key released by ada: stuck")
    assert Key.objects.count() == 0
