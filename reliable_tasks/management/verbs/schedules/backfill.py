"""``schedules backfill``: fire the due times of a range that have not fired."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ....schedules import operations
from ....schedules.operations import BackfillResult
from ....schedules.when import zone_of
from ...console.output import Output
from ...console.parsing import Parser, add_act, positive
from ...console.shape import plural
from .. import acts
from ..selection import wrong
from . import shape
from .choosing import in_zone, moment, one

NAME: Final = "backfill"
HELP: Final = "fire the due times of a range that have not fired"

_LIMIT: Final = 1000
_SHOWN: Final = 10


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    parser.add_argument("name", metavar="NAME", help="the schedule's name")
    parser.add_argument(
        "--from", dest="start", type=moment, required=True, metavar="WHEN", help="2026-03-29T02:30"
    )
    parser.add_argument(
        "--to", dest="end", type=moment, required=True, metavar="WHEN", help="included; in the past"
    )
    parser.add_argument(
        "--limit", type=positive, default=_LIMIT, help=f"at most so many (default: {_LIMIT})"
    )
    parser.add_argument(
        "--unknown-too",
        action="store_true",
        help="also what may have fired before its occurrence was pruned",
    )
    add_act(parser, "fired")


def run(options: dict[str, Any], out: Output) -> int:
    """Fire what is missing in the range."""
    schedule = one(options["name"])
    start, end = in_zone(options["start"], schedule), in_zone(options["end"], schedule)

    def act(*, dry_run: bool) -> BackfillResult:
        try:
            return operations.backfill(
                schedule,
                start,
                end,
                limit=options["limit"],
                reason=options["reason"],
                by=acts.operator(),
                unknown_too=options["unknown_too"],
                dry_run=dry_run,
            )
        except ValueError as error:
            raise wrong(str(error)) from error

    planned = act(dry_run=True)
    if options["dry_run"] or not planned.fired:
        _account(planned, schedule, out, dry_run=options["dry_run"])
        return 0 if planned.fired else 1
    number = plural(len(planned.fired), "due time", "due times")
    question = f"Fire {number} of {schedule.name!r}, {_range(planned.fired, schedule)}?"
    if not out.confirm(question, yes=options["yes"]):
        out.note("Nothing was fired.")
        return 1
    done = act(dry_run=False)
    _account(done, schedule, out, dry_run=False)
    return 0 if done.fired and not done.refused else 1


def _range(times: list[datetime], schedule: Any) -> str:
    zone = zone_of(schedule)
    first, last = (f"{each.astimezone(zone):{shape.TIME} %Z}" for each in (times[0], times[-1]))
    return first if first == last else f"{first} to {last}"


def _account(done: BackfillResult, schedule: Any, out: Output, *, dry_run: bool) -> None:
    if out.as_json:
        out.data(
            {
                "dry_run": dry_run,
                "fired": done.fired,
                "already": done.already,
                "unknown": done.unknown,
                "refused": {at.isoformat(): why for at, why in done.refused.items()},
                "more": done.more,
            }
        )
        return
    zone = zone_of(schedule)
    for each in done.fired[:_SHOWN]:
        out.line(f"{each.astimezone(zone):{shape.TIME} %Z}  {each:{shape.TIME}} UTC")
    if len(done.fired) > _SHOWN:
        out.line(f"… and {len(done.fired) - _SHOWN:,} more")
    verb = "would be fired; nothing was changed" if dry_run else "fired"
    out.line(f"{plural(len(done.fired), 'due time', 'due times')} {verb}.")
    if done.already:
        out.note(f"{plural(len(done.already), 'had', 'had')} fired before and stays as it is.")
    if done.unknown:
        count = plural(len(done.unknown), "due time", "due times")
        out.note(
            f"{count}, up to {done.unknown[-1]:{shape.TIME}} UTC, may have fired: occurrences that "
            "old have been pruned. --unknown-too fires these as well."
        )
    for at, why in done.refused.items():
        out.note(f"{at:{shape.TIME}} UTC was refused: {why}")
    if done.more:
        out.note("The range holds more than the limit; the oldest were taken. --limit takes more.")
