"""Acts in the admin keep to what was seen: one entry's arguments, what changed, the list before."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.models import OperatorAct
from reliable_tasks.states import State
from tests import entries
from tests.test_admin import act_url, ago, confirmed, died, notes

pytestmark = pytest.mark.django_db

ALONE = "1 entry was left alone: this is not possible in its state, or it has changed meanwhile."


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
    assert notes(answer) == [ALONE]
    assert answer.redirect_chain[-1][0].endswith(f"/{dead}/change/")
    assert entries.snapshot(dead) == before


def test_other_arguments_for_what_lives_lead_to_its_page(admin_client):
    """An old link to the form of an entry that waits by now leads to the entry."""
    waits = entries.in_state(State.PENDING)
    answer = admin_client.get(act_url("edit"), {"id": str(waits)}, follow=True)
    assert notes(answer) == [ALONE]
