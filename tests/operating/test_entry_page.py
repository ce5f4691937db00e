"""What the page of an entry shows beside its life: arguments, result, and who enqueued whom."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from example_project.shop.models import Order
from example_project.shop.tasks import charge
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.app.tasks import add

pytestmark = pytest.mark.django_db


def page(client, entry, **query):
    answer = client.get(reverse("admin:reliable_tasks_entry_change", args=[entry]), query)
    assert answer.status_code == 200
    return answer.content.decode()


def section(text, name):
    """Return one section of the page, or an empty text if it is not there."""
    found = re.search(rf'<section [^>]*"reliable-tasks-{name}".*?</section>', text, re.DOTALL)
    return found[0] if found else ""


def change_page(entry):
    return reverse("admin:reliable_tasks_entry_change", args=[entry])


def test_arguments_are_a_tree_with_the_names_of_parameters(admin_client):
    """Each argument has its parameter's name; what is inside it stands as nested lists."""
    entry = entries.enqueue(args='[{"goods": [7, {"size": null}]}]', kwargs='{"y": "ten"}')
    text = section(page(admin_client, entry), "call")
    assert re.findall(r"<dt>(.*?)</dt>", text) == ["x", "goods", "size", "y"]
    assert text.count("<li>") == 2
    for value in ("<code>7</code>", "<code>null</code>", ">ten</span>"):
        assert value in text


def test_an_argument_links_the_row_that_it_names(admin_client, client):
    """A model argument links its row's page, for those who may see such rows."""
    order = Order.objects.create(email="a@x.com", total=1)
    entry = entries.enqueue(task=charge.name, args=f"[{order.pk}]")
    link = f'<a href="{reverse("admin:shop_order_change", args=[order.pk])}">'
    assert link in section(page(admin_client, entry), "call")
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_entry"))
    client.force_login(user)
    assert link not in section(page(client, entry), "call")


def test_the_result_is_shown_where_the_backend_has_one(admin_client):
    """What a task returned is on its entry's page, escaped; where nothing is kept, it says so."""
    entry = entries.in_state(State.SUCCEEDED)
    assert "has no result of it" in section(page(admin_client, entry), "result")
    add.backend.store_result(str(entry), {"sum": "<b>"}, "SUCCESS")
    text = section(page(admin_client, entry), "result")
    assert "{&quot;sum&quot;: &quot;&lt;b&gt;&quot;}" in text


@pytest.mark.parametrize("state", [each for each in State if each is not State.SUCCEEDED])
def test_only_a_success_has_a_result(admin_client, state):
    """An entry that did not succeed has no section for a result."""
    assert section(page(admin_client, entries.in_state(state)), "result") == ""


def test_a_result_backend_that_is_down_spoils_no_page(admin_client, monkeypatch):
    """A result that cannot be asked for is a remark, not an error."""

    def down(*_: object) -> None:
        raise ConnectionError("the backend is down")

    entry = entries.in_state(State.SUCCEEDED)
    monkeypatch.setattr(type(add.backend), "get_task_meta", down)
    assert "cannot be asked" in section(page(admin_client, entry), "result")


def test_an_entry_links_what_enqueued_it_and_what_it_enqueued(admin_client):
    """Parent, first of the workflow and children are links, with their states."""
    first, parent, entry = (entries.enqueue() for _ in range(3))
    children = [entries.in_state(state) for state in (State.DEAD, State.SUCCEEDED)]
    Entry.objects.filter(pk=entry).update(parent_id=parent, root_id=first)
    Entry.objects.filter(pk__in=children).update(parent_id=entry, root_id=first)
    text = section(page(admin_client, entry), "relatives")
    linked = re.findall(r'href="([^"]+)"', text)
    assert linked == [change_page(each) for each in (parent, first, *children)]
    assert "dead" in text
    assert section(page(admin_client, children[0]), "relatives").count("href") == 2
    assert section(page(admin_client, entries.enqueue()), "relatives") == ""
