"""How many entries wait on a queue, against how many messages there are for it.

Note [Counting what is missing]: an entry that waits may only be waiting its turn. Publishing it
again every few seconds would drown a queue that is merely long, and never publishing it again would
lose it. So the two sides are counted: where more entries wait than there are messages, in the
broker or fetched by a live worker, that many messages are missing, and as many of the oldest
entries are marked to be published again. Which entry's message was lost need not be known: each
message that is there runs the entry it names, so one whose message is gone becomes the oldest in
time. All that are missing are marked at one time and published at a bounded pace; what is marked
counts as a message. Were they marked a batch at a time, the oldest would be chosen again and again.

Two things would spoil the count. Messages of plain tasks in the same queue hide missing ones: where
there are more messages than entries, an old entry is published again whenever it is looked at. A
message for a task that no worker knows vanishes each time: an entry that was published a few times
to no effect is left out of the count, and published only when it is looked at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db.models import F, Q, QuerySet

from ..models import Entry
from ..states import WAITING
from .guard import explained, ledger_connection, moment_expression
from .pauses import NOTHING, Paused

#: An entry published so often, and never claimed, has another problem than a lost message.
FUTILE: Final = 3

# A wake_at that is no later than due_at is the sign to publish; see ``due``.
_MARKED: Final = Q(wake_at__lte=F("due_at"))
# Rows that one statement marks.
_CHUNK: Final = 500


def waiting_queues(
    *, grace: float, held: Paused = NOTHING, now: datetime | None = None
) -> list[str]:
    """Return the queues on which some published entry has waited for longer than a grace.

    Args:
        grace: seconds since it became due.
        held: what is paused, and so lacks nothing.
        now: a fixed time instead of the database's clock, for tests.
    """
    waiting = _published(-grace, now, held).order_by()
    with explained():
        return list(waiting.values_list("queue", flat=True).distinct())


def missing_on(
    queue: str,
    messages: int,
    *,
    grace: float,
    at_most: int,
    held: Paused = NOTHING,
    now: datetime | None = None,
) -> int:
    """Return how many messages a queue lacks; see Note [Counting what is missing].

    Args:
        queue: the queue.
        messages: how many there are, in the broker and fetched by live workers.
        grace: an entry younger than these seconds may still be on its way.
        at_most: count no further than this.
        held: what is paused, and so lacks nothing.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        A number up to ``at_most``; less than zero if there are more messages than entries.
    """
    marked = _published(0.0, now, held).filter(_MARKED, queue=queue).count()
    messages += marked
    waiting = _published(0.0, now, held).filter(queue=queue)[: messages + at_most].count()
    if waiting <= messages:
        return waiting - messages
    suspects = _published(-grace, now, held).filter(~_MARKED, queue=queue)[:at_most].count()
    return min(waiting - messages, suspects)


def pull_forward(
    queue: str,
    *,
    count: int,
    grace: float,
    held: Paused = NOTHING,
    now: datetime | None = None,
) -> int:
    """Have the sweeper publish the oldest waiting entries of a queue again, now.

    Args:
        queue: the queue.
        count: how many.
        grace: leave entries younger than these seconds alone.
        held: what is paused, and stays where it is.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many there were.
    """
    missing = _published(-grace, now, held).filter(~_MARKED, queue=queue)
    chosen = list(missing.order_by("due_at").values_list("pk", flat=True)[:count])
    pulled = 0
    for start in range(0, len(chosen), _CHUNK):
        rows = missing.filter(pk__in=chosen[start : start + _CHUNK])
        pulled += rows.update(wake_at=F("due_at"))
    return pulled


def _published(since: float, now: datetime | None, held: Paused) -> QuerySet[Entry]:
    # Every live entry has a wake_at: saying so lets the partial index serve.
    rows = Entry.objects.using(ledger_connection().alias).filter(
        state__in=WAITING,
        wake_at__isnull=False,
        publishes__gt=0,
        publishes__lt=FUTILE,
        due_at__lte=moment_expression(since, now),
    )
    return rows.exclude(held.entries) if held else rows
