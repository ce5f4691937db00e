"""How many entries wait on a queue, against how many messages the broker holds for it.

Note [Counting what is missing]: an entry that waits may only be waiting its turn. Publishing it
again every few seconds would drown a queue that is merely long, and never publishing it again would
lose it. So the two sides are counted: where more entries wait than the broker holds messages, that
many messages are missing, and as many of the oldest entries are published again. Which entry's
message was lost need not be known: any message wakes a worker for one entry, and the entry whose
message is gone becomes the oldest sooner or later.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from ..models import Entry
from ..states import WAITING
from .guard import explained, ledger_connection, moment_expression


def waiting_queues(*, now: datetime | None = None) -> list[str]:
    """Return the queues on which some entry waits and is due."""
    with explained():
        return list(_due(now).order_by().values_list("queue", flat=True).distinct())


def queues_to_look_at(*, now: datetime | None = None) -> list[str]:
    """Return the queues of entries that were published and are to be looked at again now."""
    looked = _due(now).filter(publishes__gt=0, wake_at__lte=moment_expression(0.0, now))
    with explained():
        return list(looked.order_by().values_list("queue", flat=True).distinct())


def waiting_on(queue: str, *, at_most: int, now: datetime | None = None) -> int:
    """Return how many due entries wait on a queue.

    Args:
        queue: the queue.
        at_most: count no further than this.
        now: a fixed time instead of the database's clock, for tests.
    """
    return _due(now).filter(queue=queue)[:at_most].count()


def pull_forward(queue: str, *, count: int, now: datetime | None = None) -> int:
    """Have the sweeper look at the oldest waiting entries of a queue now.

    Args:
        queue: the queue.
        count: how many.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many there were.
    """
    at = moment_expression(0.0, now)
    later = _due(now).filter(queue=queue, wake_at__gt=at).order_by("due_at")
    chosen = list(later.values_list("pk", flat=True)[:count])
    return (
        Entry.objects.using(ledger_connection().alias)
        .filter(pk__in=chosen, state__in=WAITING)
        .update(wake_at=at)
    )


def _due(now: datetime | None) -> QuerySet[Entry]:
    # finished_at is named so that the partial index on live entries can serve.
    return Entry.objects.using(ledger_connection().alias).filter(
        state__in=WAITING, finished_at__isnull=True, due_at__lte=moment_expression(0.0, now)
    )
