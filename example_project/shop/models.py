"""What the shop sells, and what became of each order.

Payments, invoices and confirmations have deliberately no unique constraint on their order: that
there is exactly one of each has to be the work of the tasks, or the account would prove nothing.
"""

from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.urls import reverse


class Product(models.Model):
    """Something to buy."""

    name = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)
    description = models.CharField(max_length=200)
    price = models.DecimalField(
        max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))]
    )
    is_poison = models.BooleanField(
        default=False, help_text="Charging an order with this product kills the process."
    )

    class Meta:
        ordering = ("is_poison", "pk")

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """One customer's purchase. It never changes; what follows from it is in other tables."""

    email = models.EmailField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"Order {self.pk}"

    def get_absolute_url(self) -> str:
        """Return the address of the order's page."""
        return reverse("shop:order", args=[self.pk])


class OrderLine(models.Model):
    """A product within an order, at the price of that day."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    unit_price = models.DecimalField(max_digits=8, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} of {self.product}"

    @property
    def amount(self) -> Decimal:
        """Price of the whole line."""
        return self.unit_price * self.quantity


class Payment(models.Model):
    """Money that the gateway says it took."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="payments")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    charge_id = models.CharField(max_length=40, help_text="The gateway's own name for the charge.")
    paid_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.amount} for order {self.order_id}"


class Invoice(models.Model):
    """The paper that goes with a payment."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="invoices")
    number = models.CharField(max_length=20)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    issued_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.number


class Confirmation(models.Model):
    """Evidence that the customer was written to."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="confirmations")
    message_id = models.CharField(max_length=100)
    sent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.message_id} for order {self.order_id}"


class Routine(models.Model):
    """What one run of a schedule left behind: there must be one for each, and no more."""

    entry = models.UUIDField(null=True, help_text="The entry that wrote it.")
    written_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"{self.written_at:%Y-%m-%d %H:%M:%S}"


class SalesReport(Routine):
    """The state of the business at one moment; written every night."""

    orders = models.PositiveIntegerField()
    payments = models.PositiveIntegerField()
    turnover = models.DecimalField(max_digits=12, decimal_places=2)


class StockCheck(Routine):
    """How much has left the shelves; written every hour."""

    units_sold = models.PositiveIntegerField()


class Reminder(Routine):
    """How many orders wait for their payment; written every minute."""

    unpaid = models.PositiveIntegerField()
