"""What happens after an order is placed: charge, then invoice, then confirmation.

Each step enqueues the next one inside its own atomic body, so a step and its successor commit
together or not at all. None of them asks "has this been done already?": they need not.
"""

import os
import signal
from typing import Any

from celery import shared_task
from django.core.mail import EmailMessage
from django.db.models import Sum

from example_project.shop import gateway
from example_project.shop.gateway import GatewayDown
from example_project.shop.models import (
    Confirmation,
    Invoice,
    Order,
    OrderLine,
    Payment,
    Reminder,
    SalesReport,
    StockCheck,
)
from reliable_tasks import ReliableTask


@shared_task(
    base=ReliableTask,
    name="shop.charge",
    bind=True,
    atomic=True,
    autoretry_for=(GatewayDown,),
    retry_backoff=1,
    retry_backoff_max=4,
)
def charge(self: Any, order: Order) -> None:
    """Take the money for an order and book the payment."""
    _swallow(order)
    # The gateway is outside the transaction: if this attempt dies after the call, the next one
    # asks with the same key and gets the same charge.
    receipt = gateway.take(str(order.pk), order.total, key=self.idempotency_key)
    Payment.objects.create(order=order, amount=receipt.amount, charge_id=receipt.charge_id)
    make_invoice.delay(order)


@shared_task(base=ReliableTask, name="shop.make_invoice", atomic=True)
def make_invoice(order: Order) -> None:
    """Write the invoice of a paid order."""
    number = f"{order.placed_at:%Y}-{order.pk:06}"
    Invoice.objects.create(order=order, number=number, amount=order.total)
    send_confirmation.delay(order)


@shared_task(base=ReliableTask, name="shop.send_confirmation", bind=True, atomic=True)
def send_confirmation(self: Any, order: Order) -> None:
    """Write to the customer.

    No transaction takes an e-mail back, so a crash between sending and finishing sends a second
    one. It carries the same Message-ID, and mail programs show it once.
    """
    message_id = f"<{self.idempotency_key}@shop.example.com>"
    EmailMessage(
        subject=f"Your order {order.pk}",
        body=f"Thank you. We have received your payment of {order.total} EUR.",
        to=[order.email],
        headers={"Message-ID": message_id, "X-Order": str(order.pk)},
    ).send()
    Confirmation.objects.create(order=order, message_id=message_id)


# The three below are called by schedules: see SCHEDULES in the settings.
@shared_task(base=ReliableTask, name="shop.report_sales", bind=True, atomic=True)
def report_sales(self: Any) -> None:
    """Write down how business goes."""
    SalesReport.objects.create(
        entry=self.request.id,
        orders=Order.objects.count(),
        payments=Payment.objects.count(),
        turnover=Payment.objects.aggregate(sum=Sum("amount"))["sum"] or 0,
    )


@shared_task(base=ReliableTask, name="shop.check_stock", bind=True, atomic=True)
def check_stock(self: Any) -> None:
    """Write down how much has left the shelves."""
    units = OrderLine.objects.aggregate(sum=Sum("quantity"))["sum"] or 0
    StockCheck.objects.create(entry=self.request.id, units_sold=units)


@shared_task(base=ReliableTask, name="shop.remind", bind=True, atomic=True)
def remind(self: Any) -> None:
    """Write down how many orders wait for their payment."""
    unpaid = Order.objects.filter(payments__isnull=True).count()
    Reminder.objects.create(entry=self.request.id, unpaid=unpaid)


def _swallow(order: Order) -> None:
    """Die on the spot if the order holds poison, as a process does that runs out of memory."""
    if OrderLine.objects.filter(order=order, product__is_poison=True).exists():
        os.kill(os.getpid(), signal.SIGKILL)
