"""What a sync did, in lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .changes import Act, Change, Difference, SyncReport
from .definition import when_from


def lines(report: SyncReport) -> Iterator[str]:
    """Yield a line for what was done to each schedule, and for each edit that was kept.

    Args:
        report: what a sync returned.
    """
    for change in report.changes:
        if change.act != Act.UNCHANGED:
            yield _act(change, report.dry_run)
        for each in change.kept:
            yield (
                f"Schedule {change.name!r}: {each.field} stays {text(each, each.row)} as it was "
                f"edited; the code says {text(each, each.code)}."
            )


def _act(change: Change, dry_run: bool) -> str:
    verb = f"would be {change.act}" if dry_run else str(change.act)
    what = f"Schedule {change.name!r} {verb}"
    match change.act:
        case Act.UPDATED:
            edits = ", ".join(
                f"{each.field} from {text(each, each.row)} to {text(each, each.code)}"
                for each in change.set
            )
            return f"{what}: {edits}."
        case Act.DISABLED:
            return f"{what}: no code declares it any more."
    return f"{what}."


def text(of: Difference, value: Any) -> str:
    """Return one side of a difference in words.

    Args:
        of: the difference.
        value: its row's or its code's value.
    """
    if of.field == "when":
        return "never" if value is None else str(when_from(value))
    return json.dumps(value, ensure_ascii=False, default=str)
