"""The shop's tables in the admin: to be read; only the products may be changed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from example_project.shop.models import (
    Confirmation,
    Invoice,
    Order,
    OrderLine,
    Payment,
    Product,
    Reminder,
    SalesReport,
    StockCheck,
)
from reliable_tasks.admin import SubjectAdminMixin


class ReadOnlyMixin:
    """What happened, happened."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """The shelves."""

    list_display = ("name", "price", "is_poison")


class OrderLineInline(ReadOnlyMixin, admin.TabularInline):
    """Lines within their order."""

    model = OrderLine
    fields = ("product", "quantity", "unit_price")


@admin.register(Order)
class OrderAdmin(ReadOnlyMixin, SubjectAdminMixin, admin.ModelAdmin):
    """Orders with their lines and their entries."""

    list_display = ("__str__", "email", "total", "placed_at", "entries_by_state")
    search_fields = ("email",)
    inlines = (OrderLineInline,)


@admin.register(Payment)
class PaymentAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Payments."""

    list_display = ("order", "amount", "charge_id", "paid_at")
    list_select_related = ("order",)


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Invoices."""

    list_display = ("number", "order", "amount", "issued_at")
    list_select_related = ("order",)


@admin.register(Confirmation)
class ConfirmationAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """Confirmations."""

    list_display = ("order", "message_id", "sent_at")
    list_select_related = ("order",)


@admin.register(SalesReport)
class SalesReportAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """What every night leaves."""

    list_display = ("written_at", "orders", "payments", "turnover")


@admin.register(StockCheck)
class StockCheckAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """What every hour leaves."""

    list_display = ("written_at", "units_sold")


@admin.register(Reminder)
class ReminderAdmin(ReadOnlyMixin, admin.ModelAdmin):
    """What every minute leaves."""

    list_display = ("written_at", "unpaid")
