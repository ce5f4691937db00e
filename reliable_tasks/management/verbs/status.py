"""``status``: how the queues and the workers stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from ... import overview
from ...conf import current
from ...ledger import ledger_connection
from ...overview import ALIVE, DRAINING, SILENT, QueueCounts
from ..console import shape
from ..console.output import Column, Output
from ..console.parsing import Parser, duration

NAME: Final = "status"
HELP: Final = "how the queues and the workers stand"

_NUMBERS: Final = ("due", "later", "running", "dead", "succeeded", "cancelled")


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "--since",
        type=duration,
        default=timedelta(hours=1),
        metavar="TIME",
        help="how far back succeeded and cancelled entries count (default: 1h)",
    )


def run(options: dict[str, Any], out: Output) -> int:
    """Print the counts of each queue, the workers, and what needs attention."""
    window: timedelta = options["since"]
    at = overview.now()
    queues = overview.queues(window)
    fleet = Counter(overview.standing(worker, at) for worker in overview.workers())
    served = overview.served_queues(at)
    attention = _attention(queues, fleet, served, at)
    connection = ledger_connection()
    if out.as_json:
        out.data(
            {
                "at": at,
                "database": {"vendor": connection.vendor, "alias": connection.alias},
                "window_seconds": window.total_seconds(),
                "queues": [
                    {**asdict(each), "oldest_due_seconds": _waited(each, at)} for each in queues
                ],
                "total": {name: sum(getattr(q, name) for q in queues) for name in _NUMBERS},
                "workers": {name: fleet[name] for name in (ALIVE, DRAINING, SILENT)},
                "attention": attention,
            }
        )
        return 0
    if queues:
        _print_queues(queues, window, at, out)
    else:
        out.line("The ledger has no live or dead entries, and none that ended lately.")
    out.line()
    out.line(f"Workers   {fleet[ALIVE]} alive, {fleet[DRAINING]} draining, {fleet[SILENT]} silent")
    out.line(f"Database  {connection.vendor} ({connection.alias!r})")
    if attention:
        out.line(f"Attention {'; '.join(attention)}. See: doctor", out.style.WARNING)
    else:
        out.line("Attention nothing needs any")
    return 0


def _print_queues(queues: list[QueueCounts], window: timedelta, at: datetime, out: Output) -> None:
    lately = shape.span(window)
    columns = [
        Column("QUEUE", least=8),
        *(Column(title, right=True) for title in ("DUE", "LATER", "RUNNING", "DEAD")),
        Column(f"SUCCEEDED {lately}", right=True),
        Column(f"CANCELLED {lately}", right=True),
        Column("OLDEST DUE", right=True),
    ]
    rows: list[list[object]] = [
        [each.queue, *(f"{getattr(each, name):,}" for name in _NUMBERS), _oldest(each, at)]
        for each in queues
    ]
    if len(queues) > 1:
        sums = [f"{sum(getattr(each, name) for each in queues):,}" for name in _NUMBERS]
        rows.append(["all queues", *sums, ""])
    out.table(columns, rows)


def _waited(counts: QueueCounts, at: datetime) -> float | None:
    return None if counts.oldest_due_at is None else (at - counts.oldest_due_at).total_seconds()


def _oldest(counts: QueueCounts, at: datetime) -> str:
    return "" if counts.oldest_due_at is None else shape.span(at - counts.oldest_due_at)


def _attention(
    queues: list[QueueCounts], fleet: Counter[str], served: set[str], at: datetime
) -> list[str]:
    found = []
    dead = sum(each.dead for each in queues)
    if dead:
        found.append(f"{dead:,} dead")
    if not fleet[ALIVE]:
        found.append("no worker is alive")
    else:
        found += [
            f"{shape.entries(each.due)} due in {each.queue!r}, which no worker consumes"
            for each in queues
            if each.due and each.queue not in served
        ]
    # Once the sweeper has published it and it still waits, something is slow or stuck.
    patience = timedelta(seconds=max(60.0, 4 * current().PUBLISH_GRACE))
    for each in queues:
        if each.oldest_due_at is not None and at - each.oldest_due_at > patience:
            found.append(f"{each.queue!r} has waited {_oldest(each, at)}")
    return found
