"""One sweep: publish what nobody published or claimed, rescue, expire, prune; count messages.

Every worker does this again and again, in its :class:`~reliable_tasks.sweeper.Sweeper`, and any
number may at once. ``manage.py reliable_tasks sweep`` does the same alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from celery import Celery

from . import events, ledger, results
from .conf import current
from .faults import reach
from .ledger import Swept
from .link import Link
from .states import ENDED

# To put off the next look at an entry costs far less than to publish it.
_LOOKS: Final = 4
#: How many entries whose messages are missing one count marks, to be published at the usual pace.
MOST_PULLED: Final = 50_000


@dataclass(slots=True)
class SweepReport:
    """What one sweep did, in numbers.

    Attributes:
        published: wake-ups handed to the broker.
        unpublished: wake-ups the broker did not take.
        rescued: entries taken over from a lost process, to run again.
        died: entries taken over for the last time.
        cancelled: entries whose cancel was carried out.
        expired: entries whose ``expires`` had passed.
        put_off: entries looked at that only wait their turn.
        pruned: old entries deleted.
        full: the pass took as many entries as one may; there may be more.
        paced: it published as many as one may in a turn.
    """

    published: int = 0
    unpublished: int = 0
    rescued: int = 0
    died: int = 0
    cancelled: int = 0
    expired: int = 0
    put_off: int = 0
    pruned: int = 0
    full: bool = field(default=False, repr=False)
    paced: bool = field(default=False, repr=False)

    @property
    def idle(self) -> bool:
        """Whether it only looked."""
        moved = self.published + self.unpublished + self.rescued + self.died
        return not (moved or self.cancelled or self.expired)


@dataclass(slots=True)
class Reconciled:
    """What a count of entries against messages came to.

    Attributes:
        pulled: entries to be published again because a message is missing.
        shared: queues with more messages than entries, so that none can be seen to be missing.
    """

    pulled: int = 0
    shared: set[str] = field(default_factory=set)


def sweep(
    app: Celery,
    link: Link,
    *,
    rescuing: bool = True,
    shared: Collection[str] = (),
    prune: bool = True,
    now: datetime | None = None,
) -> SweepReport:
    """Do one pass over everything that is due.

    Args:
        app: the Celery app to publish with.
        link: the connection to publish over.
        rescuing: take over running entries whose lease has ended.
        shared: queues that :func:`reconcile` found messages of plain tasks on.
        prune: delete what is older than the ``KEEP_…`` settings, too.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done.
    """
    settings = current()
    factor = spread()
    report = SweepReport()
    reach("sweep.begin")
    swept = ledger.sweep_due(
        limit=settings.SWEEP_BATCH,
        looks=settings.SWEEP_BATCH * (_LOOKS if link.counts else 1),
        recheck=settings.PUBLISH_RECHECK * factor,
        longest=settings.PUBLISH_RECHECK_MAX * factor,
        publishing=link.is_up(),
        counted=link.counts,
        shared=shared,
        rescuing=rescuing,
        now=now,
    )
    report.full = swept.touched >= settings.SWEEP_BATCH
    report.paced = len(swept.wakeups) >= settings.SWEEP_BATCH
    reach("sweep.committed")
    _publish(link, swept, report, now)
    tell(app, swept)
    report.rescued, report.died = len(swept.rescued), len(swept.died)
    report.cancelled, report.expired = len(swept.cancelled), len(swept.expired)
    report.put_off = swept.put_off
    if prune:
        report.pruned = prune_old(now=now)
    return report


def _publish(link: Link, swept: Swept, report: SweepReport, now: datetime | None) -> None:
    report.published = link.deliver(swept.wakeups)
    reach("sweep.published")
    if report.published < len(swept.wakeups):
        report.unpublished = len(swept.wakeups)
        lost = [UUID(wakeup.entry) for wakeup in swept.wakeups]
        reach("takeback.begin")
        ledger.take_back(lost, retry_in=current().BREAKER_SECONDS, now=now)
        reach("takeback.written")


def reconcile(link: Link, *, now: datetime | None = None) -> Reconciled:
    """Count whether there is a message for every entry that waits; see the ledger's ``backlog``.

    Args:
        link: the connection to the broker.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many entries the next sweep publishes again, and on which queues nobody can tell.
    """
    settings = current()
    fetched: Counter[str] | None = None
    found = Reconciled()
    paused = ledger.paused(now=now)
    if paused.some_ended:
        ledger.forget_ended(now=now)
    for queue in ledger.waiting_queues(grace=settings.PUBLISH_GRACE, held=paused, now=now):
        held = link.depth(queue)
        if held is None:  # of this queue, or the broker is down
            if link.breaker.is_open:
                break
            continue
        if fetched is None:
            fetched = ledger.fetched(settings.LEASE_SECONDS, now=now)
        missing = ledger.missing_on(
            queue,
            held + fetched[queue],
            grace=settings.PUBLISH_GRACE,
            at_most=MOST_PULLED,
            held=paused,
            now=now,
        )
        if missing > 0:
            reach("reconcile.counted")
            found.pulled += ledger.pull_forward(
                queue, count=missing, grace=settings.PUBLISH_GRACE, held=paused, now=now
            )
            reach("reconcile.pulled")
        elif missing < 0:
            found.shared.add(queue)
    return found


def spread() -> float:
    """Return a factor by which to vary a time between two looks."""
    # Workers ask the broker for messages in a rhythm of their own. Were ours a fixed multiple of
    # it, the same worker could be served each time, though it does not know the task.
    return random.uniform(0.8, 1.2)  # noqa: S311 - no secret


def tell(app: Celery, swept: Swept) -> None:
    """Emit the events of a pass, and give Celery's result backend the endings nobody else reports.

    Args:
        app: the Celery app whose result backend it is.
        swept: what the pass did; its transaction has committed.
    """
    for taken in (*swept.rescued, *swept.died):
        events.emit(
            events.Rescued(
                entry=taken.id,
                task=taken.task,
                attempt=taken.attempt,
                worker=taken.worker,
                crashes=taken.crashes,
            )
        )
    for taken in swept.died:
        events.emit(
            events.Died(
                entry=taken.id,
                task=taken.task,
                attempt=taken.attempt,
                outcome="crashed",
                error=ledger.CRASH,
                reason=taken.reason,
            )
        )
        results.store_loss(app, taken)
    for taken in swept.cancelled:
        events.emit(events.Cancelled(entry=taken.id, task=taken.task, reason=taken.reason))
        results.store_cancel(app, taken.id, taken.task, taken.reason)
    for taken in swept.expired:
        results.tell_expired(app, taken)


def prune_old(*, now: datetime | None = None) -> int:
    """Delete one batch of each kind of ended entries that is older than its ``KEEP_…`` setting.

    Returns:
        How many were deleted.
    """
    settings = current()
    return sum(
        ledger.prune(state, age, batch=settings.PRUNE_BATCH, now=now)
        for state in sorted(ENDED)
        if (age := settings.keep(state)) is not None
    )
