"""How many entries wait on a queue, against how many messages there are for it.

Note [Counting what is missing]: an entry that waits may only be waiting its turn. Publishing it
again every few seconds would drown a queue that is merely long, and never publishing it again would
lose it. So the two sides are counted: where more entries wait than there are messages, in the
broker or fetched by a live worker, that many messages are missing, and as many of the oldest
entries are published again. Which entry's message was lost need not be known: each message that is
there runs the entry it names, so the one whose message is gone becomes the oldest in time.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from ..models import Entry
from ..states import WAITING
from .guard import explained, ledger_connection, moment_expression


def waiting_queues(*, grace: float, now: datetime | None = None) -> list[str]:
    """Return the queues on which some published entry has waited for longer than a grace.

    Args:
        grace: seconds since it became due.
        now: a fixed time instead of the database's clock, for tests.
    """
    with explained():
        return list(_published(-grace, now).order_by().values_list("queue", flat=True).distinct())


def missing_on(
    queue: str, messages: int, *, grace: float, at_most: int, now: datetime | None = None
) -> int:
    """Return how many messages a queue lacks.

    Args:
        queue: the queue.
        messages: how many there are, in the broker and fetched by live workers.
        grace: an entry younger than these seconds may still be on its way.
        at_most: count no further than this.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        A number from 0 to ``at_most``.
    """
    waiting = _published(0.0, now).filter(queue=queue)[: messages + at_most].count()
    if waiting <= messages:
        return 0
    suspects = _published(-grace, now).filter(queue=queue)[:at_most].count()
    return min(waiting - messages, suspects)


def pull_forward(queue: str, *, count: int, grace: float, now: datetime | None = None) -> int:
    """Have the sweeper publish the oldest waiting entries of a queue again, now.

    Args:
        queue: the queue.
        count: how many.
        grace: leave entries younger than these seconds alone.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many there were.
    """
    oldest = _published(-grace, now).filter(queue=queue).order_by("due_at")
    chosen = list(oldest.values_list("pk", flat=True)[:count])
    return (
        Entry.objects.using(ledger_connection().alias)
        .filter(pk__in=chosen, state__in=WAITING)
        .update(wake_at=moment_expression(0.0, now), publishes=0)
    )


def _published(since: float, now: datetime | None) -> QuerySet[Entry]:
    # Every live entry has a wake_at: saying so lets the partial index serve.
    return Entry.objects.using(ledger_connection().alias).filter(
        state__in=WAITING,
        wake_at__isnull=False,
        publishes__gt=0,
        due_at__lte=moment_expression(since, now),
    )
