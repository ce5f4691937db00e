"""Dead letters by what they died of: how often, since when, and the newest of each."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.urls import reverse

from reliable_tasks import ledger, overview
from reliable_tasks.failure import Failure
from reliable_tasks.states import Outcome
from tests import entries

pytestmark = pytest.mark.django_db

PAGE = "admin:reliable_tasks_deadletter_changelist"


def die(minutes, error="GatewayDown", message="503", **given):
    """Write an entry that died so many minutes ago."""
    at = overview.now() - timedelta(minutes=minutes)
    held = entries.running(now=at, **given)
    failure = Failure(f"app.errors.{error}", message, f"Trace of {message}", error.ljust(16, "0"))
    ledger.bury(held, failure, Outcome.FAILED, reason="Not retried.", now=at)
    return held.entry


def groups(client, **query):
    """Return each group as the page shows it: its heading, and the rest as text."""
    text = client.get(reverse(PAGE), query).content.decode()
    parts = re.split(r"<h2[^>]*>", text)[1:]
    return [
        (re.sub(r"<[^>]+>", "", unescape(part.partition("</h2>")[0])).strip(), unescape(part))
        for part in parts
    ]


def test_each_group_tells_how_often_and_since_when(admin_client):
    """The largest group is first; each says its number, error, task, and when the first died."""
    for minutes in (50, 40, 30):
        die(minutes)
    die(20, "CardDeclined", "no")
    (first, _), (second, _) = groups(admin_client)
    since = overview.now() - timedelta(minutes=50)
    assert re.match(r"3 . GatewayDown in tests\.app\.tasks\.add since", first)
    assert f"{since:%H:%M}" in first or f"{since - timedelta(minutes=1):%H:%M}" in first
    assert re.match(r"1 . CardDeclined in", second)


def test_each_group_shows_the_newest_of_its_own(admin_client):
    """The message, the traceback and the link of a group are those of what died last."""
    die(50, message="old")
    newest = die(10, message="new")
    die(5, "CardDeclined", "other")
    (_, text), _ = groups(admin_client)
    assert "Trace of new" in text
    assert "old" not in text
    assert "other" not in text
    assert reverse("admin:reliable_tasks_entry_change", args=[newest]) in text


def test_groups_are_narrowed_down_by_task_and_queue(admin_client):
    """Of one task, or on one queue, only what died there is counted and shown."""
    die(9, queue="mail", message="by mail")
    die(8)
    die(7, task="tests.app.tasks.boom")
    ((heading, text),) = groups(admin_client, queue="mail")
    assert heading.startswith("1 ")
    assert "Trace of by mail" in text
    ((heading, _),) = groups(admin_client, task="tests.app.tasks.boom")
    assert "in tests.app.tasks.boom" in heading
    assert groups(admin_client, queue="none") == []


def test_a_group_leads_to_its_entries_and_acts(admin_client):
    """The links of a group list, and act on, its dead letters and no others."""
    mine = {die(n) for n in (9, 8)}
    die(7, "CardDeclined", "no")
    (_, text), _ = groups(admin_client)
    addresses = re.findall(r'href="([^"]*fingerprint=[^"]*)"', text)
    assert len(addresses) == 3
    for address in addresses:
        answer = admin_client.get(address)
        if "/act/" in address:
            assert answer.context["preview"].count == 2
        else:
            assert {row.pk for row in answer.context["cl"].result_list} == mine
