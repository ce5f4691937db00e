"""What ``doctor`` looks at. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from ...link import Link
from ...operations import celery_app
from . import backlog, fleet, schedules, surroundings
from .finding import OK, PROBLEM, WARNING, Finding

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "examine"]


def examine() -> Iterator[Finding]:
    """Yield what there is to say, as it is found; what needs the ledger only if it is there."""
    yield from surroundings.system_checks()
    ready = True
    for finding in surroundings.database():
        ready = ready and finding.level != PROBLEM
        yield finding
    if ready:
        yield surroundings.clock()
    app = celery_app()
    link = Link(app)
    try:
        broker = surroundings.broker(app, link)
        yield broker
        if ready:
            yield from _ledger(link, publishing=broker.level == OK)
    finally:
        link.close()


def _ledger(link: Link, *, publishing: bool) -> Iterator[Finding]:
    yield from fleet.workers()
    yield from fleet.queues()
    yield from schedules.beats()
    yield from schedules.schedules()
    yield from backlog.unknown_tasks()
    yield from backlog.overdue(publishing=publishing)
    if publishing:
        yield from backlog.unclaimed(link)
    yield from backlog.unstoppable()
    yield from backlog.dead()
