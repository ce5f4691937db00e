"""The shop's pages."""

import re

import pytest
from django.urls import reverse

from example_project.shop.evidence import entries_of
from example_project.shop.models import Order, Payment
from reliable_tasks.models import Attempt, Entry

FORM = {"email": "ada@example.com", "quantity_pen": "2"}


def test_ordering_is_one_request(client, shop):
    """A filled-in form makes an order and leads to its page."""
    response = client.post("/", FORM)

    order = Order.objects.get()
    assert response.status_code == 302
    assert response.headers["Location"] == order.get_absolute_url()
    assert entries_of(order).count() == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"email": "ada"}, "valid email"),
        ({"email": ""}, "required"),
        ({"quantity_pen": "0"}, "at least one product"),
        ({"quantity_pen": "-1"}, "greater than or equal to 0"),
        ({"quantity_pen": "21"}, "less than or equal to 20"),
        ({"quantity_pen": "two"}, "whole number"),
    ],
)
def test_a_wrong_form_orders_nothing(client, shop, changes, complaint):
    """A form that cannot be understood is shown again with the reason."""
    response = client.post("/", FORM | changes)

    assert response.status_code == 400
    assert complaint in response.content.decode()
    assert not Order.objects.exists()
    assert not Entry.objects.exists()


def test_the_page_of_an_order_links_its_entries_to_the_admin(client, order):
    """Each entry of an order leads to its page in the admin, and the page reloads itself."""
    page = client.get(order.get_absolute_url()).content.decode()

    (entry,) = entries_of(order)
    assert reverse("admin:reliable_tasks_entry_change", args=[entry.pk]) in page
    assert "shop.charge" in page
    assert 'http-equiv="refresh"' in page


def test_the_page_of_a_dead_order_says_why(client, order):
    """A dead entry's reason and attempts are shown, and the page stays still."""
    (entry,) = entries_of(order)
    Entry.objects.filter(pk=entry.pk).update(state="dead", reason="crashed 3 times")
    Attempt.objects.create(entry=entry, number=1, outcome="crashed", error_message="process died")

    page = client.get(order.get_absolute_url()).content.decode()

    assert "crashed 3 times" in page
    assert "process died" in page
    assert 'http-equiv="refresh"' not in page


def test_the_list_shows_how_far_each_order_is(client, order):
    """The list of orders tells what is paid and what is not yet billed."""
    Payment.objects.create(order=order, amount=order.total, charge_id="ch_1")

    page = client.get(reverse("shop:orders")).content.decode()

    assert re.findall(r'<span class="state \w+">(\w+)</span>', page) == [
        "paid",
        "waiting",
        "waiting",
    ]


def test_the_account_is_a_page(client, order, gateway):
    """The page of the account counts anew, and an unpaid order is not right."""
    page = client.get(reverse("shop:account")).content.decode()

    assert "Something is not right" in page
    assert f"none for #{order.pk}" in page


def test_an_unknown_order_is_not_found(client, shop):
    """The page of an order that does not exist is a plain 404."""
    assert client.get("/orders/999/").status_code == 404
