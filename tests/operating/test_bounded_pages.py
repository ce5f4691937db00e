"""Pages of the admin read so many rows and no more."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reliable_tasks import operations, overview
from reliable_tasks.admin import timeline
from reliable_tasks.admin.timeline import life_of
from reliable_tasks.models import Attempt
from reliable_tasks.states import Outcome, State
from tests import entries

pytestmark = pytest.mark.django_db

LISTS = [model for model in admin.site._registry if model._meta.app_label == "reliable_tasks"]


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.model_name)
def test_no_address_sorts_a_list_otherwise(admin_client, model):
    """``?o=`` with any column leaves a list in the order that an index serves."""
    address = reverse(f"admin:reliable_tasks_{model._meta.model_name}_changelist")
    entries.in_state(State.DEAD, now=overview.now())

    def orders(**query):
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(address, query).status_code == 200
        sent = (each["sql"] for each in captured.captured_queries)
        return [re.sub(r".* ORDER BY |'[^']*'", "", sql) for sql in sent if "ORDER BY" in sql]

    usual = orders()
    for column in range(1, 9):
        assert orders(o=str(column)) == usual
        assert orders(o=f"-{column}") == usual


def test_a_long_life_is_shown_from_its_end(admin_client, monkeypatch):
    """Of many attempts and acts the newest are read, and it is told that there are more."""
    monkeypatch.setattr(timeline, "MOST", 3)
    entry = entries.in_state(State.DEAD, now=overview.now())
    Attempt.objects.filter(entry_id=entry).delete()
    now = overview.now()
    for number in range(1, 6):
        Attempt.objects.create(
            entry_id=entry, number=number, outcome=Outcome.FAILED, ended_at=now, traceback="x" * 99
        )
    for _ in range(3):
        operations.requeue([entry], "Again.", by="ann")
        operations.cancel([entry], "No.", by="ann")
    titles = [moment.title for moment in life_of(entries.row(entry))]
    attempts = [title for title in titles if title.startswith("Attempt ")]
    assert attempts == [f"Attempt {number} failed" for number in (3, 4, 5)]
    assert sum(title.endswith("by ann") for title in titles) == 3
    assert titles.index("Older attempts are not shown") < titles.index("Attempt 3 failed")
    assert "Older acts are not shown" in titles
    page = admin_client.get(reverse("admin:reliable_tasks_entry_change", args=[entry]))
    assert "Older attempts are not shown" in page.content.decode()


def test_a_short_life_is_shown_whole():
    """Where everything is shown, nothing says that something is missing."""
    entry = entries.in_state(State.DEAD, now=overview.now())
    assert not [each for each in life_of(entries.row(entry)) if "not shown" in each.title]


def test_groups_say_how_many_were_counted(admin_client, monkeypatch):
    """The page of dead letters says so where not all of them were counted."""
    address = reverse("admin:reliable_tasks_deadletter_changelist")
    for _ in range(3):
        entries.in_state(State.DEAD, now=overview.now())
    words = "Only the {} entries that died last were counted."
    assert words.format(2) not in admin_client.get(address).content.decode()
    monkeypatch.setattr(overview, "GROUPED", 2)
    assert words.format(2) in admin_client.get(address).content.decode()
