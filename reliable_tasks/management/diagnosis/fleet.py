"""The doctor's look at workers and the queues that they consume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ... import overview
from ...conf import current
from ...overview import ALIVE, DRAINING, SILENT
from .finding import OK, PROBLEM, WARNING, Finding

# Only entries that are live or dead are of interest here.
_NO_WINDOW: Final = timedelta(0)


def workers() -> Iterator[Finding]:
    """Say how many workers live, and which have fallen silent."""
    at = overview.now()
    standing = {worker: overview.standing(worker, at) for worker in overview.workers()}
    count = Counter(standing.values())
    facts = {name: count[name] for name in (ALIVE, DRAINING, SILENT)}
    if not count[ALIVE]:
        yield Finding(
            "workers",
            PROBLEM,
            "no worker is alive",
            "Entries are kept and none is run.",
            "Start one: celery -A <project> worker",
            facts,
        )
    else:
        yield Finding(
            "workers", OK, f"{count[ALIVE]} alive, {count[DRAINING]} draining", "", "", facts
        )
    silent = [worker for worker, how in standing.items() if how == SILENT]
    if silent:
        names = ", ".join(f"{each.identity}" for each in silent[:5])
        more = f" and {len(silent) - 5} more" if len(silent) > 5 else ""
        yield Finding(
            "workers",
            WARNING,
            f"{count[SILENT]} silent for longer than a lease "
            f"({current().LEASE_SECONDS:g} s): {names}{more}",
            "They were killed, hang, or cannot reach the database. What they ran is rescued.",
            "See why they ended, if you did not end them. They are forgotten after a day.",
            {"silent": [each.identity for each in silent]},
        )


def queues() -> Iterator[Finding]:
    """Say which queues have entries that no living worker consumes."""
    at = overview.now()
    served = overview.served_queues(at)
    # What waits for its time will be due one day, and then nobody will be there either.
    stranded = [
        counts
        for counts in overview.queues(_NO_WINDOW)
        if (counts.due or counts.later) and counts.queue not in served
    ]
    for counts in stranded:
        yield Finding(
            "queues",
            PROBLEM,
            f"queue {counts.queue!r} has {counts.due + counts.later:,} waiting (due now: "
            f"{counts.due:,}), and no living worker consumes it",
            "They wait until some worker does.",
            f"Start one: celery -A <project> worker -Q {counts.queue}",
            {"queue": counts.queue, "due": counts.due, "later": counts.later},
        )
    if not stranded:
        yield Finding("queues", OK, "every queue with waiting entries has a worker")
