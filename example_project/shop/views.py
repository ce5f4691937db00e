"""The shop's pages, rendered on the server."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from example_project.shop.account import audit, is_right
from example_project.shop.evidence import collect, entries_of, order_entries
from example_project.shop.forms import OrderForm
from example_project.shop.models import Confirmation, Invoice, Order, Payment
from example_project.shop.orders import place_order
from example_project.shop.routine import collect_routine, judge

SHOWN = 100  # orders on the page of orders


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way of an order, for its page."""

    name: str
    task: str
    evidence: str
    state: str  # "done", "waiting", or the state of its entry


@require_http_methods(["GET", "POST"])
def shelves(request: HttpRequest) -> HttpResponse:
    """Show the products; take an order."""
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        placed = place_order(form.cleaned_data["email"], form.quantities())
        return redirect(placed)
    status = 400 if form.errors else 200
    return render(request, "shop/shelves.html", {"form": form}, status=status)


@require_GET
def orders(request: HttpRequest) -> HttpResponse:
    """List the latest orders and how far each has come."""
    latest = list(_with_progress(Order.objects.all())[:SHOWN])
    dead = {entry.args[0] for entry in order_entries().dead()}
    context = {"orders": latest, "dead": dead, "total": Order.objects.count()}
    return render(request, "shop/orders.html", context)


@require_GET
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one order: its steps, and the entries that take them."""
    found = get_object_or_404(Order.objects.prefetch_related("lines__product"), pk=pk)
    entries = list(entries_of(found))
    steps = _steps(found, {entry.task: entry.state for entry in entries})
    context = {
        "order": found,
        "steps": steps,
        "entries": entries,
        "settled": all(step.state in {"done", "dead", "cancelled"} for step in steps)
        or any(entry.state in {"dead", "cancelled"} for entry in entries),
    }
    return render(request, "shop/order.html", context)


@require_GET
def account(request: HttpRequest) -> HttpResponse:
    """Check all orders against the gateway, the outbox and the ledger, now."""
    evidence = collect()
    findings = [*audit(evidence), *judge(collect_routine())]
    context = {"evidence": evidence, "findings": findings, "right": is_right(findings)}
    return render(request, "shop/account.html", context)


def _with_progress(selected: QuerySet[Order]) -> QuerySet[Order]:
    mine = {"order": OuterRef("pk")}
    return selected.annotate(
        paid=Exists(Payment.objects.filter(**mine)),
        invoiced=Exists(Invoice.objects.filter(**mine)),
        confirmed=Exists(Confirmation.objects.filter(**mine)),
    )


def _steps(order: Order, states: dict[str, str]) -> list[Step]:
    payments = ", ".join(payment.charge_id for payment in order.payments.all())
    invoices = ", ".join(invoice.number for invoice in order.invoices.all())
    mails = ", ".join(f"to {order.email}" for _ in order.confirmations.all())
    return [
        _step("Payment", "shop.charge", payments, states),
        _step("Invoice", "shop.make_invoice", invoices, states),
        _step("E-mail", "shop.send_confirmation", mails, states),
    ]


def _step(name: str, task: str, evidence: str, states: dict[str, str]) -> Step:
    state = "done" if evidence else states.get(task, "waiting")
    return Step(name, task, evidence, state)
