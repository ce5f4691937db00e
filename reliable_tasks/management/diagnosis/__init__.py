"""What ``doctor`` looks at. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from . import backlog, fleet, surroundings
from .finding import OK, PROBLEM, WARNING, Finding

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "examine"]


def examine() -> Iterator[Finding]:
    """Yield what there is to say, as it is found; what needs the ledger only if it is there."""
    yield from surroundings.system_checks()
    ledger_is_ready = True
    for finding in surroundings.database():
        ledger_is_ready = ledger_is_ready and finding.level != PROBLEM
        yield finding
    if ledger_is_ready:
        yield surroundings.clock()
    broker = surroundings.broker()
    yield broker
    if ledger_is_ready:
        yield from fleet.workers()
        yield from fleet.queues()
        yield from backlog.unknown_tasks()
        yield from backlog.overdue(publishing=broker.level == OK)
        yield from backlog.unclaimed()
        yield from backlog.unstoppable()
        yield from backlog.dead()
