"""What the acts on schedules have in common: the question and the look beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...console.output import Output
from ...console.shape import plural

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_SHOWN = 4


def count(rows: Sequence[PeriodicTask]) -> str:
    """Return so many schedules in words."""
    return plural(len(rows), "schedule", "schedules")


def question(verb: str, rows: Sequence[PeriodicTask], rest: str = "") -> str:
    """Return what is asked before an act."""
    names = [repr(each.name) for each in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        names.append(f"{len(rows) - _SHOWN} more")
    return f"{verb} {count(rows)}{rest and f' {rest}'} ({', '.join(names)})?"


def preview(done: str, rows: Sequence[PeriodicTask], out: Output) -> int:
    """Print which schedules an act would be done to.

    Args:
        done: the act, as a participle: ``paused``.
        rows: the schedules.
        out: where to print.

    Returns:
        The exit code.
    """
    if out.as_json:
        out.data({"dry_run": True, done: [{"name": each.name} for each in rows]})
    elif rows:
        for each in rows:
            out.line(each.name)
        out.line(f"{count(rows)} would be {done}; nothing was changed.")
    else:
        out.note("No schedule matches.")
    return 0 if rows else 1
