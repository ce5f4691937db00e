"""Lists that are narrowed down look at a window, say so, and go on to the one before."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from django.test import override_settings
from django.urls import reverse
from django.utils.formats import localize

from reliable_tasks import overview
from reliable_tasks.admin import EntryAdmin, reading, window
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries

LIST = "admin:reliable_tasks_entry_changelist"


@pytest.fixture
def small(monkeypatch):
    """Make windows so small that a test fills them."""
    monkeypatch.setattr(window, "WINDOW", 4)
    monkeypatch.setattr(window, "ENDED_WINDOW", 4)


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def listed(client, address=None, **query):
    answer = client.get(address or reverse(LIST), query)
    assert answer.status_code == 200
    notes = [str(note) for note in answer.context["messages"]]
    return [entry.pk for entry in answer.context["cl"].result_list], notes


def older(notes):
    (note,) = notes
    assert note.startswith("Only 4 entries were looked at.")
    return reverse(LIST) + unescape(re.search(r'href="([^"]+)"', note)[1])


def test_a_filter_looks_at_the_newest_and_goes_on_to_the_older(admin_client, small):
    """What a filter finds is in the window; a link goes on from window to window, to the end."""
    mail = {n: entries.enqueue(queue="mail" if n % 3 == 0 else "other") for n in range(10)}
    wanted = [mail[n] for n in (9, 6, 3, 0)]
    found, notes = listed(admin_client, queue="mail")
    assert found == wanted[:2]
    everything = list(found)
    while notes:
        found, notes = listed(admin_client, older(notes))
        everything += found
    assert everything == wanted


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.CANCELLED])
def test_what_ended_is_looked_at_in_the_order_of_its_end(admin_client, small, state):
    """The newest ends come first, whatever was enqueued when, and a link goes on to older ones."""
    made = [entries.in_state(state, now=ago(50 - n)) for n in range(6)]
    for pk, seconds in zip(made, (1, 2, 3, 4, 5, 6), strict=True):
        Entry.objects.filter(pk=pk).update(finished_at=ago(seconds))
    for _ in range(9):
        entries.enqueue()  # newer by their ids: no part of this window
    found, notes = listed(admin_client, state__exact=state.value)
    assert found == made[:4]
    found, notes = listed(admin_client, older(notes))
    assert found == made[3:]  # the last one again: ends may fall on the same moment
    assert notes == []


def test_live_states_are_found_however_old(admin_client, small):
    """An old entry that runs or waits is in the list of its state, behind any number of newer."""
    old = {
        state: entries.in_state(state, now=ago(900)) for state in (State.RUNNING, State.RETRYING)
    }
    for _ in range(9):
        entries.in_state(State.SUCCEEDED)
    for state, pk in old.items():
        assert listed(admin_client, state__exact=state.value) == ([pk], [])


def everything(client, **query):
    """Return what all pages show from window to window, and how many windows there were."""
    found, windows, address = [], 0, f"{reverse(LIST)}?{urlencode(query)}"
    while address:
        windows += 1
        assert windows < 20
        pages = client.get(address).context["cl"].paginator.num_pages
        answers = [client.get(f"{address}&p={n}") for n in range(1, pages + 1)]
        for each in answers:
            found += [entry.pk for entry in each.context["cl"].result_list]
        links = [
            re.search(r'href="([^"]+)"', str(note)) for note in answers[-1].context["messages"]
        ]
        address = reverse(LIST) + unescape(links[0][1]) if links else ""
    return found, windows


@pytest.mark.parametrize("same_time", [False, True])
@pytest.mark.parametrize("counted", [5_000, 3])
def test_all_that_waits_is_reached(admin_client, small, monkeypatch, same_time, counted):
    """Links go on through all live entries, though many wake at once and pages end early."""
    monkeypatch.setattr(reading, "COUNTED", counted)
    monkeypatch.setattr(EntryAdmin, "list_per_page", 2)
    now = ago(60)
    made = [entries.enqueue(now=now if same_time else ago(60 - n)) for n in range(11)]
    found, windows = everything(admin_client, state="pending")
    assert sorted(found) == made
    assert windows >= 3


@pytest.mark.parametrize("query", [{}, {"queue": "celery"}, {"state": "dead"}])
@pytest.mark.parametrize("fingerprint", [{}, {"fingerprint": "0123456789abcdef"}])
def test_a_list_whose_pages_end_goes_on(admin_client, monkeypatch, query, fingerprint):
    """Where more match than the pages hold, the number says so and a link goes on behind them."""
    monkeypatch.setattr(reading, "COUNTED", 3)
    monkeypatch.setattr(EntryAdmin, "list_per_page", 2)
    made = [entries.in_state(State.DEAD, now=ago(60 - n)) for n in range(8)]
    query = {**query, **fingerprint}
    answer = admin_client.get(reverse(LIST), query)
    text = answer.content.decode()
    assert "≥3 entries" in text
    found, windows = everything(admin_client, **query)
    assert set(found) == set(made)
    assert windows >= 3


def test_a_number_that_is_exact_has_no_sign(admin_client):
    """Only a number that may be larger says so, with a separator of thousands as without one."""
    entries.enqueue()
    assert "≥" not in admin_client.get(reverse(LIST)).content.decode()
    assert str(reading.AtLeast(5_000)) == "≥5000"
    with override_settings(USE_THOUSAND_SEPARATOR=True):
        assert localize(reading.AtLeast(5_000)) == "≥5,000"


def test_all_that_died_of_the_same_is_found(admin_client, small):
    """The dead letters of one fingerprint are listed without a window, newest first."""
    made = [entries.in_state(State.DEAD, now=ago(50 - n)) for n in range(9)]
    fingerprint = entries.row(made[0]).fingerprint
    found = listed(admin_client, state__exact="dead", fingerprint=fingerprint)
    assert found == (made[::-1], [])


def test_an_id_is_found_outside_of_any_window(admin_client, small):
    """A search for an id finds the entry, however old it is."""
    pk = entries.enqueue()
    for _ in range(9):
        entries.enqueue()
    assert listed(admin_client, q=str(pk)) == ([pk], [])


def test_the_whole_list_needs_no_window(admin_client, small):
    """Where nothing is filtered, nothing is left out and nothing is said."""
    made = [entries.enqueue() for _ in range(9)]
    assert listed(admin_client) == (made[::-1], [])


@pytest.mark.parametrize("before", ["x", "2026-13-45", "' OR 1=1"])
@pytest.mark.parametrize("query", [{"queue": "celery"}, {"state__exact": "dead"}])
def test_nonsense_in_the_address_is_ignored(admin_client, before, query):
    """A beginning that is no time and no id counts as none."""
    made = {"queue": entries.enqueue(), "state__exact": entries.in_state(State.DEAD)}
    found, _ = listed(admin_client, before=before, **query)
    assert made[next(iter(query))] in found
