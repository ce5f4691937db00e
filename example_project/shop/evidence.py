"""Collects what the account is made of: from the database, the outbox and the gateway."""

import re
from collections import Counter
from pathlib import Path

from django.conf import settings
from django.db.models import F, QuerySet

from example_project.shop import gateway
from example_project.shop.account import DeadEntry, Evidence
from example_project.shop.models import Confirmation, Invoice, Order, OrderLine, Payment
from reliable_tasks.models import Attempt, Entry, EntryQuerySet

#: The tasks that carry out an order; the first argument of each is the order's number.
ORDER_TASKS = ("shop.charge", "shop.make_invoice", "shop.send_confirmation")

_FAILURES = ("failed", "timeout", "retry")
_ORDER_HEADER = re.compile(rb"^X-Order: (\d+)\r?$", re.MULTILINE)


def collect() -> Evidence:
    """Read everything there is to know about all orders.

    Returns:
        The evidence; ``charges`` is None if the gateway does not answer.
    """
    numbers = frozenset(Order.objects.values_list("pk", flat=True))
    poisoned = frozenset(
        OrderLine.objects.filter(product__is_poison=True).values_list("order_id", flat=True)
    )
    attempts = Attempt.objects.filter(entry__task__in=ORDER_TASKS)
    failed = attempts.filter(outcome__in=_FAILURES)
    return Evidence(
        orders=numbers - poisoned,
        poisoned=poisoned,
        payments=_by_order(Payment),
        invoices=_by_order(Invoice),
        confirmations=_by_order(Confirmation),
        letters=_letters(Path(settings.EMAIL_FILE_PATH)),
        charges=_charges(),
        wrong_amounts=_wrong_amounts(Payment) + _wrong_amounts(Invoice),
        unfinished=order_entries().active().count(),
        dead=_dead(),
        retried=failed.values("entry").distinct().count(),
        failures=failed.count(),
        rescued=_rescued(attempts, poisoned),
        released=attempts.filter(outcome="released").count(),
    )


def order_entries() -> EntryQuerySet:
    """Select the entries that carry out orders (and not, say, those of a schedule)."""
    return Entry.objects.filter(task__in=ORDER_TASKS)


def entries_of(order: Order) -> EntryQuerySet:
    """Select the entries of one order, oldest first, their attempts with them."""
    entries = order_entries().for_object(order)
    return entries.order_by("enqueued_at").prefetch_related("attempts")


def _by_order(model: type[Payment] | type[Invoice] | type[Confirmation]) -> Counter[int]:
    return Counter(model.objects.values_list("order_id", flat=True))


def _wrong_amounts(model: type[Payment] | type[Invoice]) -> int:
    return model.objects.exclude(amount=F("order__total")).count()


def _letters(outbox: Path) -> Counter[int]:
    seen: Counter[int] = Counter()
    for file in outbox.glob("*.log"):
        seen.update(int(number) for number in _ORDER_HEADER.findall(file.read_bytes()))
    return seen


def _charges() -> Counter[int] | None:
    try:
        return Counter({int(number): n for number, n in gateway.charges().items()})
    except gateway.GatewayDown:
        return None


def _dead() -> tuple[DeadEntry, ...]:
    return tuple(
        DeadEntry(
            id=str(entry.pk),
            task=entry.task,
            order=entry.args[0] if entry.args else None,
            crashes=entry.crashes,
            reason=entry.reason,
        )
        for entry in order_entries().dead()
    )


def _rescued(attempts: QuerySet[Attempt], poisoned: frozenset[int]) -> int:
    crashed = attempts.filter(outcome="crashed").values_list("entry_id", "entry__args")
    return len({entry for entry, args in crashed if args[0] not in poisoned})
