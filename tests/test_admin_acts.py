"""Acts in the admin keep to what was seen: one entry's arguments, what changed, the list before."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from reliable_tasks import ledger, operations
from reliable_tasks.admin import confirming
from reliable_tasks.models import Operation, OperatorAct
from reliable_tasks.states import State
from tests import entries
from tests.test_admin import LIST, act_url, ago, confirmed, died, notes

pytestmark = pytest.mark.django_db

ALONE = "1 entry was left alone: this is not possible in its state, or it has changed meanwhile."


def alone(pk, words):
    """Return what is said of the one entry that was left alone."""
    return f"1 entry was left alone: {pk} {words}."


# ------------------------------------------------------------------- requeue with other arguments
def test_other_arguments_are_for_the_entry_that_was_seen(admin_client):
    """The entry of the form runs again with what was typed, and its page follows."""
    dead = died(args="[7, 8]")
    answer = confirmed(admin_client, "edit", dead)
    assert notes(answer) == ["Requeued 1 entry."]
    assert (entries.row(dead).state, entries.row(dead).args) == ("pending", [1, 2])
    assert answer.redirect_chain[-1][0].endswith(f"/{dead}/change/")


def test_other_arguments_are_given_to_one_entry_only(admin_client):
    """A form that names several entries, or none, changes none of them."""
    ids = [died(args="[7, 8]") for _ in range(2)]
    for answer in (
        confirmed(admin_client, "edit", *ids),
        confirmed(admin_client, "edit", state="dead"),
        admin_client.get(act_url("edit"), {"id": ids}, follow=True),
    ):
        assert notes(answer) == ["Other arguments are given to one entry at a time."]
    assert {entries.state(pk) for pk in ids} == {"dead"}
    assert not OperatorAct.objects.exists()


@pytest.mark.parametrize("change", ["requeued", "died again"])
def test_other_arguments_for_what_has_changed_are_left_alone(admin_client, change):
    """An entry that changed after its form was made is left alone, and its page says so."""
    dead = died(args="[7, 8]")
    made = ago(seconds=30)
    ledger.requeue([dead])
    if change == "died again":
        entries.bury(entries.claim(dead))
    before = entries.snapshot(dead)
    answer = confirmed(admin_client, "edit", dead, as_of=made.isoformat())
    (note,) = notes(answer)
    assert note.startswith(f"1 entry was left alone: {dead} is {entries.state(dead)}")
    assert answer.redirect_chain[-1][0].endswith(f"/{dead}/change/")
    assert entries.snapshot(dead) == before


def test_other_arguments_for_what_lives_lead_to_its_page(admin_client):
    """An old link to the form of an entry that waits by now leads to the entry."""
    waits = entries.in_state(State.PENDING)
    answer = admin_client.get(act_url("edit"), {"id": str(waits)}, follow=True)
    words = "is pending: not possible there, or it has changed meanwhile"
    assert notes(answer) == [alone(waits, words)]


# ----------------------------------------------------------------------------- what changed since
def sent(client, shown, **more):
    """Send the form of an act's page as a browser does."""
    fields = {}
    for name, value in shown.context["fields"]:
        fields.setdefault(name, []).append(value)
    data = {**fields, "confirmed": "yes", "reason": "Because.", "when": "now", **more}
    return client.post(shown.context["action_url"], data, follow=True)


def test_of_a_filter_too_you_are_told_what_changed_meanwhile(admin_client):
    """Of those that matched when the page was made, what somebody else changed is named."""
    ids = [died() for _ in range(3)]
    shown = admin_client.get(act_url("discard"), {"state": "dead"})
    assert shown.context["preview"].count == 3
    ledger.requeue(ids[:2])
    parts = "; ".join(f"{pk} was dead and is pending now" for pk in ids[:2])
    assert notes(sent(admin_client, shown)) == [
        "Discarded 1 entry.",
        f"2 entries were left alone: {parts}.",
    ]


def test_what_changed_is_told_after_a_mistake_in_the_form_too(admin_client):
    """A form that is shown again because of a mistake forgets nothing of what was seen first."""
    ids = [died() for _ in range(3)]
    shown = admin_client.get(act_url("discard"), {"state": "dead"})
    ledger.requeue(ids[:1])
    again = sent(admin_client, shown, reason="")
    assert again.context["preview"].count == 2
    left = alone(ids[0], "was dead and is pending now")
    assert notes(sent(admin_client, again)) == ["Discarded 2 entries.", left]


def test_what_changed_is_told_of_many_too(admin_client, monkeypatch):
    """An act that goes on in the background says as well how many are not among them any more."""
    monkeypatch.setattr(confirming, "AT_ONCE", 2)
    ids = [died() for _ in range(4)]
    shown = admin_client.get(act_url("discard"), {"state": "dead"})
    ledger.requeue(ids[:1])
    assert notes(sent(admin_client, shown)) == [
        "3 entries are dealt with in the background.",
        ALONE,
    ]


@pytest.mark.parametrize("seen", ["", "-5", "x", "9" * 40, "\N{SUPERSCRIPT TWO}"])
def test_a_number_that_is_none_counts_as_none(admin_client, seen):
    """Nonsense in the hidden number of the form is no error, and invents nobody's change."""
    died()
    answer = confirmed(admin_client, "discard", state="dead", seen=seen)
    assert notes(answer) == ["Discarded 1 entry."]


# ------------------------------------------------------------------------------------ the way back
FILTERS = {"queue": "celery", "period": "1h", "state": "dead"}


def listed_at(answer):
    """Return how the list is narrowed down to which an answer led."""
    address, _ = answer.redirect_chain[-1]
    assert address.startswith(reverse(LIST))
    assert answer.status_code == 200
    return dict(parse_qsl(urlsplit(address).query))


def test_an_act_on_all_that_match_leads_back_to_them(admin_client):
    """The list after an act is narrowed down as before it, by a period as well."""
    died()
    listed = admin_client.get(reverse(LIST), FILTERS)
    address = {verb.name: url for verb, url in listed.context["acts_on_all"]}["discard"]
    shown = admin_client.get(address)
    assert shown.context["preview"].count == 1
    assert listed_at(sent(admin_client, shown)) == FILTERS


@pytest.mark.parametrize("count", [1, 2])
def test_an_act_on_the_selected_leads_back_to_the_same_list(admin_client, count):
    """Who selects entries of a filtered list returns to that list."""
    ids = [str(died()) for _ in range(count)]
    url = f"{reverse(LIST)}?{urlencode({**FILTERS, 'q': 'tests.app'})}"
    data = {"action": "discard", "_selected_action": ids, "index": 0}
    shown = admin_client.post(url, data)
    assert shown.context["preview"].count == count
    assert listed_at(sent(admin_client, shown)) == {**FILTERS, "q": "tests.app"}


def test_an_address_with_a_moment_leads_to_the_list_of_that_moment(admin_client):
    """After an act on what was enqueued since a moment, the list shows just that."""
    died()
    since = ago(hours=1).isoformat()
    shown = admin_client.get(act_url("discard"), {"since": since})
    assert listed_at(sent(admin_client, shown)) == {"since": since}


# ----------------------------------------------------------------------------- list and act agree
def test_a_list_of_two_states_shows_what_an_act_on_it_takes(admin_client):
    """An address that names several states lists the entries of all, and marks them all."""
    made = {state: entries.in_state(state, now=ago(minutes=1)) for state in State}
    chosen = {State.DEAD, State.CANCELLED}
    listed = admin_client.get(reverse(LIST), {"state": ["dead", "cancelled"]})
    assert {row.pk for row in listed.context["cl"].result_list} == {made[s] for s in chosen}
    shown = admin_client.get(act_url("requeue"), {"state": ["dead", "cancelled"]})
    assert shown.context["preview"].count == 2
    (by_state,) = [each for each in listed.context["cl"].filter_specs if each.title == "state"]
    marked = {
        each["display"] for each in by_state.choices(listed.context["cl"]) if each["selected"]
    }
    assert marked == {"dead", "cancelled"}


@pytest.mark.parametrize("name", ["task", "queue", "error", "id", "state"])
def test_a_nul_character_chooses_nothing(admin_client, name):
    """An act on what no database can hold is refused in words."""
    answer = admin_client.get(act_url("requeue"), {name: "a\x00b"}, follow=True)
    assert notes(answer) == ["There is no entry with a NUL character."]


def test_the_record_shows_entries_only_to_those_who_may_see_them(admin_client, client):
    """Who may see the record alone sees neither the tasks nor the subjects of what was touched."""
    dead = died(task="tests.app.tasks.boom")
    confirmed(admin_client, "requeue", dead)
    kept = OperatorAct.objects.get()
    address = reverse("admin:reliable_tasks_operatoract_change", args=[kept.pk])
    assert "tests.app.tasks.boom" in admin_client.get(address).content.decode()
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_operatoract"))
    client.force_login(user)
    answer = client.get(address)
    assert answer.status_code == 200
    assert "tests.app.tasks.boom" not in answer.content.decode()


# ------------------------------------------------------------------------------------ operations
@pytest.fixture
def steered():
    """Begin an operation; return the address of its reins and how it stands."""
    died()
    pk = operations.begin(operations.Act.DISCARD, operations.Chosen(states=("dead",))).operation
    address = reverse("admin:reliable_tasks_operation_steer", args=[pk])
    return address, lambda: Operation.objects.get(pk=pk).state


@pytest.mark.parametrize(("to", "after"), [("pause", "paused"), ("stop", "stopped")])
def test_reins_ask_for_the_reason_first(admin_client, steered, to, after):
    """An operation is paused or stopped on a page of its own, with a reason, and by its button."""
    address, state = steered
    shown = admin_client.get(address, {"to": to})
    assert (shown.status_code, state()) == (200, "running")
    for reason in ("", "  "):
        answer = admin_client.post(address, {"to": to, "reason": reason})
        assert (answer.context["form"].errors.keys(), state()) == ({"reason"}, "running")
    answer = admin_client.post(address, {"to": to, "reason": "Too much."}, follow=True)
    assert (notes(answer), state()) == (["Done."], after)
    assert OperatorAct.objects.get(act="steer operation").reason == "Too much."


def test_reins_are_for_those_who_may(client, admin_client, steered):
    """Without its permission not even the page opens; what is no act on an operation is none."""
    address, state = steered
    client.force_login(User.objects.create_user("ann", is_staff=True))
    assert client.get(address, {"to": "stop"}).status_code == 403
    assert client.post(address, {"to": "stop", "reason": "x"}).status_code == 403
    assert admin_client.get(address, {"to": "rate"}).status_code == 404
    assert admin_client.get(address).status_code == 404
    assert state() == "running"


def test_the_rate_is_set_at_once(admin_client, steered):
    """A rate can be set again at any time, and asks for no page."""
    address, _ = steered
    answer = admin_client.post(address, {"to": "rate", "rate": "2.5"}, follow=True)
    assert notes(answer) == ["Done."]
    assert Operation.objects.get().rate == 2.5
    assert notes(admin_client.post(address, {"to": "rate", "rate": "0"}, follow=True)) != ["Done."]
    assert Operation.objects.get().rate == 2.5
