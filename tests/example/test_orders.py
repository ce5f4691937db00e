"""Placing an order, and carrying it out."""

import email
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import transaction

from example_project.shop import tasks
from example_project.shop.evidence import collect, entries_of, order_entries
from example_project.shop.models import Confirmation, Invoice, Order, Payment
from example_project.shop.orders import EmptyOrder, place_order
from reliable_tasks import State


def test_an_order_and_its_entry_are_saved_together(order):
    """A placed order has one pending entry that names it."""
    (entry,) = entries_of(order)

    assert (entry.task, entry.args, entry.state) == ("shop.charge", [order.pk], State.PENDING)


@pytest.mark.django_db(transaction=True)
def test_a_rollback_leaves_neither_an_order_nor_an_entry(shop):
    """What a rolled-back request ordered never existed."""

    def place_and_fail():
        with transaction.atomic():
            placed = place_order("ada@example.com", {shop["pen"]: 1})
            assert entries_of(placed).exists()
            raise RuntimeError("the request fails")

    with pytest.raises(RuntimeError, match="the request fails"):
        place_and_fail()

    assert not Order.objects.exists()
    assert not order_entries().exists()


def test_an_order_keeps_prices_and_total(shop):
    """The total is the sum of the lines at the prices of that day."""
    order = place_order("ada@example.com", {shop["pen"]: 2, shop["tea"]: 1, shop["mug"]: 0})

    assert order.total == Decimal("80.80")
    assert [(line.product.slug, line.amount) for line in order.lines.order_by("pk")] == [
        ("pen", Decimal("68.00")),
        ("tea", Decimal("12.80")),
    ]


def test_an_empty_order_is_refused(shop):
    """An order without a single piece is an error, not an empty parcel."""
    with pytest.raises(EmptyOrder):
        place_order("ada@example.com", {shop["pen"]: 0})


def test_each_step_does_its_work_and_enqueues_the_next(order, gateway):
    """Charge, invoice and confirmation follow each other, once each, and the account is right."""
    for task in (tasks.charge, tasks.make_invoice, tasks.send_confirmation):
        task.apply((order.pk,), throw=True)

    assert Payment.objects.get().amount == order.total
    assert Invoice.objects.get().amount == order.total
    assert gateway.book.charges() == {str(order.pk): 1}
    assert collect().letters == {order.pk: 1}
    assert {entry.task for entry in entries_of(order)} == {
        "shop.charge",
        "shop.make_invoice",
        "shop.send_confirmation",
    }


def test_a_confirmation_can_be_recognised_when_it_is_sent_again(order):
    """The e-mail's Message-ID is made of the entry's idempotency key, and is on record."""
    tasks.send_confirmation.apply((order.pk,), throw=True)

    (entry,) = entries_of(order).filter(task="shop.send_confirmation")
    (file,) = settings.EMAIL_FILE_PATH.glob("*.log")
    letter = email.message_from_bytes(file.read_bytes())
    assert str(entry.pk) in letter["Message-ID"]
    assert Confirmation.objects.get().message_id == letter["Message-ID"]
