"""Looks at the ledger while the demo runs. Reads only."""

from collections import Counter
from collections.abc import Iterable

from django.db.models import Count

from example_project.demo.customers import Crowd
from example_project.demo.display import Bar
from example_project.shop.evidence import order_entries
from example_project.shop.models import Confirmation, OrderLine
from example_project.shop.routine import CHORES
from reliable_tasks import State
from reliable_tasks.models import Entry

_SHOWN = (State.PENDING, State.RUNNING, State.RETRYING, State.SUCCEEDED, State.DEAD)


class Watch:
    """One look at the entries of the orders.

    Args:
        states: number of the orders' entries by state.
        chores: number of the schedules' entries that have not ended.
    """

    def __init__(self, states: Counter[str], chores: int = 0) -> None:
        self.states = states
        self.chores = chores

    @property
    def ended(self) -> bool:
        """Whether no entry waits or runs any more."""
        live = (State.PENDING, State.RUNNING, State.RETRYING)
        return not self.chores and not any(self.states[state] for state in live)

    def note(self) -> str:
        """Say how many entries are in which state."""
        return "entries: " + ", ".join(f"{self.states[s]} {s.value}" for s in _SHOWN)


def look() -> Watch:
    """Count the entries of the orders by state."""
    rows = order_entries().values_list("state").annotate(Count("pk"))
    chores = Entry.objects.filter(task__in=[chore.task for chore in CHORES])
    return Watch(Counter(dict(rows.order_by())), chores.active().count())


def bars(crowd: Crowd) -> list[Bar]:
    """Draw how many orders were placed and how many were carried out."""
    wholesome = crowd.total - 1
    done = Confirmation.objects.values("order").distinct().count()
    return [
        Bar("placed", len(crowd.placed), crowd.total),
        Bar("confirmed", done, wholesome),
    ]


def running_wholesome() -> int:
    """Count the running entries of orders without poison."""
    poisoned = set(_poisoned())
    running = order_entries().running().values_list("args", flat=True)
    return sum(1 for args in running if args[0] not in poisoned)


def _poisoned() -> Iterable[int]:
    return OrderLine.objects.filter(product__is_poison=True).values_list("order_id", flat=True)
