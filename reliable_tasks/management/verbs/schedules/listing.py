"""``schedules list``: the schedules, by name."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Max, Q

from .... import overview
from ....models import Occurrence
from ....schedules import operations
from ....schedules.operations import Survey
from ...console.output import Column, Output
from ...console.parsing import Parser, positive
from ...console.shape import relative
from . import shape
from .choosing import any_of, schedules

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

NAME: Final = "list"
HELP: Final = "schedules by name: when they are due, how they stand, their last and next run"

_LIMIT: Final = 200
DEFAULTS: Final[dict[str, Any]] = {"names": [], "task": [], "standing": None, "limit": _LIMIT}
_COLUMNS: Final = (
    Column("NAME", least=12),
    Column("TASK", least=10, spare=True),
    Column("WHEN", least=16),
    Column("STANDING"),
    Column("LAST DUE", spare=True),
    Column("NEXT"),
)


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="of this name; * at the end: any")
    parser.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="of this task; * at the end"
    )
    parser.add_argument(
        "--standing",
        choices=("enabled", "disabled", "paused"),
        help="only those that stand so",
    )
    parser.add_argument(
        "--limit", type=positive, default=_LIMIT, help=f"at most so many (default: {_LIMIT})"
    )


def run(options: dict[str, Any], out: Output) -> int:
    """Print the schedules that were chosen."""
    rows = schedules()
    if options["names"]:
        rows = rows.filter(any_of("name", options["names"]))
    if options["task"]:
        rows = rows.filter(any_of("task", options["task"]))
    rows = rows.filter(_standing(options["standing"]))
    limit: int = options["limit"]
    found = list(rows[: limit + 1])
    shown, more = found[:limit], len(found) > limit
    last, surveyed = _last_due(shown), operations.survey(shown)
    if out.as_json:
        out.data(
            [
                {
                    **shape.head(each, surveyed[each.pk].standing),
                    "last_due_at": last.get(each.pk),
                    "next_at": _next_at(surveyed[each.pk]),
                }
                for each in shown
            ]
        )
    elif shown:
        at = overview.now()
        out.table(
            _COLUMNS, [_cells(each, last.get(each.pk), surveyed[each.pk], at) for each in shown]
        )
        if more:
            out.note(f"These are the first {limit}; there are more. --limit shows them.")
    else:
        out.note("No schedule matches.")
    return 0 if shown else 1


def _standing(word: str | None) -> Q:
    running = Q(reliable_state__paused_at__isnull=False) & (
        Q(reliable_state__paused_until__isnull=True)
        | Q(reliable_state__paused_until__gt=overview.now())
    )
    match word:
        case "enabled":
            return Q(enabled=True)
        case "disabled":
            return Q(enabled=False)
        case "paused":
            return running
    return Q()


def _last_due(rows: list[PeriodicTask]) -> dict[int, Any]:
    found = Occurrence.objects.filter(schedule_id__in=[each.pk for each in rows])
    return dict(found.order_by().values_list("schedule_id").annotate(Max("due_at")))


def _next_at(of: Survey) -> datetime | None:
    return None if of.next_run is None else of.next_run.fires_at


def _cells(schedule: PeriodicTask, last: datetime | None, of: Survey, at: datetime) -> list[object]:
    following = _next_at(of)
    return [
        schedule.name,
        schedule.task,
        of.standing.words,
        shape.standing_word(of.standing),
        "" if last is None else relative(last, at),
        "" if following is None else relative(following, at),
    ]
