"""Placing an order."""

from collections.abc import Mapping
from decimal import Decimal

from django.db import transaction

from example_project.shop.models import Order, OrderLine, Product
from example_project.shop.tasks import charge


class EmptyOrder(ValueError):
    """Nothing was chosen: an order needs at least one product."""


def place_order(email: str, quantities: Mapping[Product, int]) -> Order:
    """Save an order and enqueue its payment, in one transaction.

    If the transaction commits, the order will be charged, whatever dies afterwards. If it rolls
    back, there is neither an order nor an entry.

    Args:
        email: where the confirmation goes.
        quantities: how many pieces of which product; products with none are left out.

    Returns:
        The saved order.

    Raises:
        EmptyOrder: no product with at least one piece.
    """
    chosen = {product: n for product, n in quantities.items() if n > 0}
    if not chosen:
        raise EmptyOrder("choose at least one product")
    total = sum((product.price * n for product, n in chosen.items()), Decimal(0))
    with transaction.atomic():
        order = Order.objects.create(email=email, total=total)
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=product, quantity=n, unit_price=product.price)
            for product, n in chosen.items()
        )
        charge.delay(order)
    return order
