"""Every page of the admin asks the database a number of times that does not grow with the rows.

The pages are those that are registered, so that a new one is tested without being named here.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse

from reliable_tasks import ledger, overview
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Entry, WorkerProcess
from reliable_tasks.states import State
from tests import entries

#: No page may need more.
MOST = 24
_BIG = ("reliable_tasks_entry", "reliable_tasks_attempt")
MODELS = [model for model in admin.site._registry if model._meta.app_label == "reliable_tasks"]


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def grow(times):
    """Add some of everything, through the ledger's own verbs."""
    for n in range(times):
        for state in State:
            entries.in_state(state, now=ago(30 + n))
        held = entries.running(now=ago(25), worker="w0#1")
        entries.reschedule(held, now=ago(24))
        again = entries.claim(held.entry, now=overview.now() + timedelta(seconds=60), worker="w0#1")
        entries.bury(again, now=ago(1))
    for n in range(times):
        ledger.beat(WorkerReport(f"w{n}#1", "w", 1, "solo", 2, [f"q{n}", "celery"], {}))


def asked(client, address):
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(address)
    assert answer.status_code in {200, 302}, address
    return [each["sql"] for each in captured.captured_queries]


def is_unbounded(sql):
    """Tell whether a statement counts or reads all rows of a large table."""
    if not any(re.search(rf'FROM "?{table}\b', sql) for table in _BIG):
        return False
    return "WHERE" not in sql and "LIMIT" not in sql


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_a_list_costs_the_same_for_few_and_for_many(admin_client, model):
    """A list takes as many statements with sixty rows as with three, none of them unbounded."""
    address = reverse(f"admin:reliable_tasks_{model._meta.model_name}_changelist")
    grow(2)
    asked(admin_client, address)
    few = asked(admin_client, address)
    grow(10)
    many = asked(admin_client, address)
    assert len(many) == len(few) <= MOST, "\n".join(many)
    assert [sql for sql in many if is_unbounded(sql)] == []


@pytest.mark.parametrize("state", list(State))
def test_the_page_of_an_entry_costs_the_same_beside_many(admin_client, state):
    """The page of one entry takes as many statements beside many entries as beside few."""
    grow(1)
    pk = entries.in_state(state, now=ago(9))
    address = reverse("admin:reliable_tasks_entry_change", args=[pk])
    asked(admin_client, address)
    few = asked(admin_client, address)
    grow(10)
    many = asked(admin_client, address)
    assert len(many) == len(few) <= MOST, "\n".join(many)
    assert [sql for sql in many if is_unbounded(sql)] == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_a_page_of_each_kind_is_bounded(admin_client, model):
    """The page of a row of any other kind needs no more statements than a page may."""
    grow(3)
    row = model._default_manager.first()
    if row is None or model is Entry:
        return
    try:
        address = reverse(
            f"admin:reliable_tasks_{model._meta.model_name}_change", args=[quote(row.pk)]
        )
    except NoReverseMatch:
        return
    asked(admin_client, address)
    statements = asked(admin_client, address)
    assert len(statements) <= MOST, "\n".join(statements)
    assert [sql for sql in statements if is_unbounded(sql)] == []


FILTERS = [{"state__exact": state.value} for state in State]
FILTERS += [{"queue": "celery"}, {"queue": "none"}, {"q": "tests.app"}, {"q": "no.such"}]


@pytest.mark.parametrize("query", FILTERS, ids=str)
def test_filters_and_searches_cost_the_same(admin_client, query):
    """A filter or a search takes as many statements with many entries as with few."""
    address = reverse("admin:reliable_tasks_entry_changelist")
    counts = []
    for times in (1, 1, 10):
        grow(times)
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(address, query).status_code == 200
        counts.append(len(captured))
    assert counts[1] == counts[2] <= MOST


def test_workers_are_there_to_be_counted(db):
    """What makes these tests grow does grow the tables."""
    grow(2)
    assert (Entry.objects.count(), WorkerProcess.objects.count()) == (14, 2)
