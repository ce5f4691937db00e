"""Beside why an entry waits, its page leads to where that is changed."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from reliable_tasks import ledger, operations, overview
from reliable_tasks.admin import reasons
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Pause
from reliable_tasks.why import Reason
from tests import entries

pytestmark = pytest.mark.django_db


def links(client, entry):
    """Return the links of the reasons on an entry's page, by cause."""
    page = client.get(reverse("admin:reliable_tasks_entry_change", args=[entry]))
    items = re.findall(r'data-cause="(\w+)">(.*?)</li>', page.content.decode(), re.DOTALL)
    return {
        cause: unescape(found[1]) if (found := re.search(r'href="([^"]+)"', text)) else ""
        for cause, text in items
    }


@pytest.fixture
def viewer(client):
    """Log somebody in who may look at entries, and no more."""
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_entry"))
    client.force_login(user)
    return client


def test_what_is_paused_leads_to_its_resume(admin_client, viewer):
    """Who may resume work gets to the page of that very pause; who may not, gets no link."""
    entry = entries.enqueue(queue="mail", now=None)
    operations.pause("queue", "mail", "It moves.", by="ann")
    address = reverse("admin:reliable_tasks_pause_end", args=[Pause.objects.get().pk])
    assert links(admin_client, entry)["paused"] == address
    assert admin_client.get(address).status_code == 200
    assert links(viewer, entry)["paused"] == ""


def test_a_lack_of_workers_leads_to_the_workers(admin_client, viewer):
    """Where no worker takes it, its page links the workers, to those who may see them."""
    entry = entries.enqueue(queue="mail", now=None)
    address = reverse("admin:reliable_tasks_workerprocess_changelist")
    assert links(admin_client, entry)["no_worker"] == address
    assert links(viewer, entry)["no_worker"] == ""


def test_a_backlog_leads_to_what_waits(viewer):
    """What became due earlier is listed behind the link: what waits on this queue, and no more."""
    at = overview.now() - timedelta(minutes=1)
    earlier = entries.enqueue(queue="mail", now=at)
    entries.enqueue(now=at)
    entries.running(queue="mail", now=at)
    entry = entries.enqueue(queue="mail", now=None)
    ledger.beat(WorkerReport("w#1", "w", 1, "prefork", 2, ["mail"], {}))
    address = links(viewer, entry)["backlog"]
    listed = viewer.get(address).context["cl"].result_list
    assert {each.pk for each in listed} == {earlier, entry}


def test_a_held_key_leads_to_its_holder(rf, admin_user):
    """An entry that follows another one links it."""
    request = rf.get("/")
    request.user = admin_user
    holder = entries.enqueue(now=None)
    entry = entries.row(entries.enqueue(now=None))
    reason = Reason("key_held", "Held.", "", True, {"holder": holder})
    address = reverse("admin:reliable_tasks_entry_change", args=[holder])
    assert f'href="{address}"' in reasons._item(reason, entry, request)
