"""Requeue with other arguments: what the entry is about, and its key, follow from them."""

from __future__ import annotations

import json
import sys
import time
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from reliable_tasks import AlreadyQueued, ledger, operations
from reliable_tasks.errors import ArgumentError
from reliable_tasks.management.console.output import Output
from reliable_tasks.models import Entry, Key, OperatorAct
from reliable_tasks.operations import editing
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.argument_tasks import note_item, use_token
from tests.app.models import Item
from tests.app.once_tasks import square
from tests.app.tasks import add
from tests.commands import answer, reliable_tasks

pytestmark = pytest.mark.django_db

EDIT = "admin:reliable_tasks_entry_act"


def dead(result):
    """Let the entry behind a result die, and return its id."""
    pk = UUID(result.id)
    claim = ledger.claim(pk, entries.WORKER, lease=60.0, ignore_due=True)
    ledger.bury(claim, entries.FAILURE, Outcome.FAILED, reason="Not retried.")
    return pk


def again(pk, *args, **kwargs):
    """Requeue an entry with other arguments."""
    return operations.requeue([pk], "Wrong number.", by="ann", arguments=(args, kwargs))


def test_the_entry_is_about_what_its_new_arguments_name():
    """After order 17 is changed to 18, the entry is about 18 and not about 17 any more."""
    old, new = Item.objects.create(name="17"), Item.objects.create(name="18")
    pk = dead(note_item.delay(old))
    assert entries.row(pk).subject_id == str(old.pk)
    assert again(pk, new.pk).requeued == [pk]
    row = entries.row(pk)
    assert (row.subject_type, row.subject_id) == ("testapp.item", str(new.pk))
    assert row.args == [new.pk]


def test_the_entry_takes_the_key_of_its_new_arguments():
    """The new key is held and the old one is free, also for the requeue after the next death."""
    pk = dead(square.delay(17))
    assert again(pk, 18).requeued == [pk]
    assert Key.objects.get().text == entries.row(pk).key == "tests.app.once_tasks.square(number=18)"
    with pytest.raises(AlreadyQueued):
        square.delay(18)
    other = UUID(square.delay(17).id)
    claim = ledger.claim(pk, entries.WORKER, lease=60.0, ignore_due=True)
    ledger.bury(claim, entries.FAILURE, Outcome.FAILED, reason="Not retried.")
    assert operations.requeue([pk]).requeued == [pk]
    held = set(Key.objects.values_list("entry_id", "text"))
    assert held == {(pk, entries.row(pk).key), (other, entries.row(other).key)}


def test_a_dead_entry_that_kept_its_key_lets_it_go():
    """With after_death="hold" the old key ends in the same transaction, and its policy goes on."""
    pk = dead(square.apply_async((17,), once={"after_death": "hold"}))
    assert Key.objects.get().holds_dead
    assert again(pk, 18).requeued == [pk]
    key = Key.objects.get()
    assert (key.text, key.entry_id, key.holds_dead) == (entries.row(pk).key, pk, True)
    assert key.arguments == entries.row(pk).options["once"]["arguments"]


def test_a_key_that_somebody_holds_keeps_the_entry_as_it_was():
    """If another entry has the key of the new arguments, nothing changes, and one learns who."""
    pk = dead(square.delay(17))
    holder = UUID(square.delay(18).id)
    before = entries.snapshot(pk)
    done = again(pk, 18)
    assert (done.requeued, done.skipped) == ([], [pk])
    assert done.held[pk].entry == holder
    assert entries.snapshot(pk) == before
    assert Key.objects.get().entry_id == holder


def test_a_key_that_the_task_does_not_make_is_refused():
    """A key of the call's own ``once`` cannot be derived again, so the act is refused, whole."""
    pk = dead(square.apply_async((17,), once={"keys": None, "key": "the-first"}))
    before = entries.snapshot(pk)
    with pytest.raises(ArgumentError, match="a once of its own"):
        again(pk, 18)
    assert entries.snapshot(pk) == before
    assert not OperatorAct.objects.exists()


def test_a_task_that_is_not_known_here_is_refused():
    """Where nobody can tell what follows from the arguments, they are not changed."""
    pk = dead(square.delay(17))
    Entry.objects.filter(pk=pk).update(task="old.name")
    with pytest.raises(ArgumentError, match="no reliable task of this process"):
        again(pk, 18)
    assert entries.state(pk) is State.DEAD


def test_a_plain_entry_of_an_unknown_task_can_still_be_changed():
    """Without key and subject nothing follows from the arguments, whoever knows the task."""
    held = entries.running(now=None, task="old.name")
    entries.bury(held)
    assert again(held.entry, 5).requeued == [held.entry]
    assert entries.row(held.entry).args == [5]


def test_sensitive_arguments_stay_hidden():
    """What the task declares sensitive is marked in the new arguments as in the old ones."""
    pk = dead(use_token.delay(1, "sesame-17"))
    again(pk, 1, "sesame-18")
    row = entries.row(pk)
    assert row.args[1]["value"] == "sesame-18"
    assert row.args[1]["__type__"]


def test_the_page_says_who_holds_the_key(admin_client):
    """The form comes back with the typed arguments and the entry that holds their key."""
    pk = dead(square.delay(17))
    holder = square.delay(18).id
    page = {"id": str(pk), "args": "[18]", "kwargs": "{}", "reason": "Typo.", "confirmed": "yes"}
    answer = admin_client.post(reverse(EDIT, args=["edit"]), page)
    assert answer.status_code == 200
    assert holder in answer.content.decode()
    assert "[18]" in answer.content.decode()
    own = dead(square.apply_async((1,), once={"keys": None, "key": "first"}))
    answer = admin_client.post(reverse(EDIT, args=["edit"]), {**page, "id": str(own)})
    assert "a once of its own" in answer.content.decode()


# ------------------------------------------------------------------------------- what was changed
def kept():
    """Return what the one act on record says of the arguments."""
    return OperatorAct.objects.get().details["arguments"]


def test_what_was_changed_is_on_record():
    """The record says for each argument that is another one what it was and what it is."""
    old, new = Item.objects.create(name="17"), Item.objects.create(name="18")
    pk = dead(note_item.delay(old))
    done = again(pk, new)
    (change,) = kept()
    assert change == {
        "entry": str(pk),
        "task": "tests.app.argument_tasks.note_item",
        "name": "item",
        "before": old.pk,
        "after": new.pk,
    }
    assert done.changed == [change]


def test_an_argument_is_the_same_however_it_is_given():
    """By place or by name, an argument that stays is no change; one that comes or goes is."""
    pk = dead(add.delay(1, 2))
    again(pk, 1, y=3)
    (change,) = kept()
    assert change == {
        "entry": str(pk),
        "task": "tests.app.tasks.add",
        "name": "y",
        "before": 2,
        "after": 3,
    }


def test_arguments_of_an_unknown_task_go_by_their_place():
    """Where nobody knows the parameters' names, their places stand for them."""
    held = entries.running(now=None, task="old.name", args="[1, 2]", kwargs='{"x": 3}')
    entries.bury(held)
    again(held.entry, 1)
    assert [(each["name"], each["before"]) for each in kept()] == [("argument 1", 2), ("x", 3)]
    assert all("after" not in each for each in kept())


def test_the_record_never_has_a_secret():
    """That a sensitive argument changed is on record, and neither what it was nor what it is."""
    pk = dead(use_token.delay(1, "sesame-17"))
    again(pk, 2, "sesame-18")
    assert [(each["name"], each["before"], each["after"]) for each in kept()] == [
        ("user", 1, 2),
        ("token", "***", "***"),
    ]
    assert "sesame" not in json.dumps(OperatorAct.objects.get().details)


def test_what_only_one_side_hides_is_hidden_on_both():
    """What was marked as sensitive once stays hidden, also if it comes back unmarked."""
    pk = dead(use_token.delay(1, "sesame-17"))
    Entry.objects.filter(pk=pk).update(task="old.name")
    row = entries.row(pk)
    call = ledger.OtherCall(args='[1, "sesame-18"]', kwargs="{}")
    (change,) = editing.changes(row, "old.name", call)
    assert (change["before"], change["after"]) == ("***", "***")


def test_long_values_are_cut_on_record():
    """A value of any length keeps the record readable."""
    pk = dead(add.delay("x" * 5_000, 1))
    again(pk, "y" * 5_000, 1)
    (change,) = kept()
    assert max(len(change["before"]), len(change["after"])) < 1_100


def test_the_pages_show_what_was_changed(admin_client, client):
    """The entry's life and the act's page say what was changed, to those who may see entries."""
    pk = dead(square.delay(17))
    again(pk, 18)
    act = OperatorAct.objects.get()
    life = reverse("admin:reliable_tasks_entry_change", args=[pk])
    page = reverse("admin:reliable_tasks_operatoract_change", args=[act.pk])
    for address in (life, page):
        assert "number: 17 → 18" in admin_client.get(address).content.decode()
    ann = User.objects.create_user("ann", is_staff=True)
    ann.user_permissions.set(Permission.objects.filter(codename="view_operatoract"))
    client.force_login(ann)
    text = client.get(page).content.decode()
    assert "→" not in text
    assert "&quot;before&quot;" not in text


# ------------------------------------------------------------------------------- the command line
def test_the_command_requeues_with_other_arguments():
    """One entry is put back with other arguments; key and record follow as in the admin."""
    pk = dead(square.delay(17))
    ran = reliable_tasks("requeue", pk, "--args", "[18]", "--reason", "Typo.", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Requeued 1 entry with other arguments.\n  number: 17 → 18\n"
    row = entries.row(pk)
    assert (row.state, row.args, row.key) == ("pending", [18], Key.objects.get().text)
    assert [(each["before"], each["after"]) for each in kept()] == [(17, 18)]
    assert OperatorAct.objects.get().reason == "Typo."


def test_what_the_command_is_not_given_stays():
    """With one of the two, the other arguments stay as they are."""
    pk = dead(add.delay(1, y=2))
    ran = reliable_tasks("requeue", pk, "--kwargs", '{"y": 3}', "--yes", "--json")
    change = {"entry": str(pk), "task": "tests.app.tasks.add", "name": "y", "before": 2, "after": 3}
    assert ran.json == {
        "dry_run": False,
        "requeued": [str(pk)],
        "skipped": [],
        "changed": [change],
    }
    assert (entries.row(pk).args, entries.row(pk).kwargs) == ([1], {"y": 3})


def test_the_command_shows_first():
    """A dry run says what would be changed, and changes nothing."""
    pk = dead(square.delay(17))
    ran = reliable_tasks("requeue", pk, "--args", "[18]", "--dry-run")
    assert (ran.code, ran.lines) == (
        0,
        ["number: 17 → 18", "1 entry would be requeued; nothing was changed."],
    )
    found = reliable_tasks("requeue", pk, "--args", "[18]", "--dry-run", "--json").json
    assert (found["requeued"], found["changed"][0]["after"]) == ([str(pk)], 18)
    assert entries.state(pk) is State.DEAD


def test_the_command_asks(monkeypatch):
    """Without --yes the question says what would be changed; no answer changes nothing."""
    pk = dead(square.delay(17))
    answer(monkeypatch, "n")
    ran = reliable_tasks("requeue", pk, "--args", "[18]")
    assert ran.code == 1
    assert "Requeue tests.app.once_tasks.square with number: 17 → 18? [y/N]" in ran.err
    assert entries.state(pk) is State.DEAD


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--args", "[1"], "--args: This is no JSON"),
        (["--args", "{}"], "--args: A JSON array."),
        (["--kwargs", "[]"], "--kwargs: A JSON object."),
        (["--args", "[1, 2, 3]"], "The task does not take these: too many positional arguments"),
        (["--args", '[{"__type__": "colour", "value": 1}]'], "colour"),
        (["--args", "[1]", "--spread", "10m"], "needs no --spread"),
        (["--args", "[1]", "--background"], "needs no --background"),
    ],
)
def test_the_command_refuses_what_is_none(given, words):
    """What the task cannot be called with is refused before anything is touched."""
    pk = dead(square.delay(17))
    ran = reliable_tasks("requeue", pk, *given, "--yes")
    assert ran.code == 2
    assert words in ran.err
    assert entries.state(pk) is State.DEAD
    assert not OperatorAct.objects.exists()


def test_the_command_gives_arguments_to_one_entry_only():
    """Several entries, or those of a filter, get no arguments."""
    ids = [dead(square.delay(n)) for n in (1, 2)]
    for chosen in (ids, ["--all"]):
        ran = reliable_tasks("requeue", *chosen, "--args", "[3]", "--yes")
        assert (ran.code, "one entry at a time" in ran.err) == (2, True)
    assert {entries.state(pk) for pk in ids} == {"dead"}


def test_the_command_refuses_what_is_sensitive():
    """Who does not see a secret cannot type it again: the entry is left as it is."""
    pk = dead(use_token.delay(1, "sesame-17"))
    ran = reliable_tasks("requeue", pk, "--args", '[1, "x"]', "--yes")
    assert ran.code == 1
    assert "sensitive arguments, which are not shown" in ran.err
    assert entries.state(pk) is State.DEAD


def test_the_command_says_who_holds_the_key():
    """If another entry has the key of the new arguments, nothing changes, and one learns which."""
    pk = dead(square.delay(17))
    holder = square.delay(18).id
    ran = reliable_tasks("requeue", pk, "--args", "[18]", "--yes")
    assert ran.code == 1
    assert f"Left alone: {pk} is dead: its key is held by {holder}." in ran.err
    found = reliable_tasks("requeue", pk, "--args", "[18]", "--yes", "--json").json
    assert found["skipped"] == [{"id": str(pk), "state": "dead", "held_by": holder}]


def test_the_command_leaves_alone_what_is_not_dead():
    """Other arguments for what waits are given by nobody."""
    pk = UUID(square.delay(17).id)
    ran = reliable_tasks("requeue", pk, "--args", "[18]", "--yes")
    assert (ran.code, entries.row(pk).args) == (1, [17])
    assert f"{pk} is pending" in ran.err


# --------------------------------------------------------------------- between question and answer
def test_what_changes_while_a_command_asks_is_left_alone(monkeypatch):
    """What somebody requeued while the question waited for its answer is not cancelled."""
    pk = UUID(square.delay(17).id)
    answer(monkeypatch, "y")
    ask = Output.confirm

    def slowly(self, *args, **kwargs):
        operations.cancel([pk])
        operations.requeue([pk])
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(Output, "confirm", slowly)
    ran = reliable_tasks("cancel", pk)
    assert ran.code == 1
    assert f"Left alone: {pk} is pending, and has changed since." in ran.err
    assert entries.state(pk) is State.PENDING


def test_what_dies_while_a_command_asks_is_not_among_them(monkeypatch):
    """A requeue of all that match takes those that the question counted."""
    first, second = dead(square.delay(1)), UUID(square.delay(2).id)
    answer(monkeypatch, "y")
    ask = Output.confirm

    def slowly(self, *args, **kwargs):
        time.sleep(0.005)  # the clock of SQLite counts milliseconds
        entries.bury(entries.claim(second, now=None), now=None)
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(Output, "confirm", slowly)
    ran = reliable_tasks("requeue", "--all")
    assert "Requeue 1 entry" in ran.err
    assert [entries.state(pk) for pk in (first, second)] == ["pending", "dead"]


def test_nobody_imports_a_module_by_typing_its_name():
    """An Enum of a module that is not loaded is refused before anything is imported."""
    row = entries.row(dead(square.delay(17)))
    for module in ("antigravity", "", "os.path.nowhere"):
        typed = [{"__type__": "enum", "value": [f"{module}:Colour", "RED"]}]
        with pytest.raises(ArgumentError, match="No such module is loaded"):
            operations.read_arguments(row, json.dumps([{"deeper": typed}]))
    assert "antigravity" not in sys.modules
