"""``schedules pause``: skip due times from now on, each with the reason."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from .... import overview
from ....schedules import operations
from ...console.output import Output
from ...console.parsing import Parser, add_yes, duration
from .. import acts
from ..selection import wrong
from . import shape
from .choosing import add_names, chosen, in_zone, moment
from .wording import count, preview, question

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

NAME: Final = "pause"
HELP: Final = "skip due times from now on, with a reason and perhaps an end"


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    add_names(parser)
    parser.add_argument("--reason", required=True, help="why, in words; kept on what is skipped")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="length", type=duration, metavar="TIME", help="e.g. 90, 2h, 1d")
    end.add_argument("--until", type=moment, metavar="WHEN", help="e.g. 2026-03-29T02:30")
    parser.add_argument("--dry-run", action="store_true", help="show which; change nothing")
    add_yes(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Pause what was chosen; what is paused already stays as it is."""
    rows = chosen(options)
    if options["dry_run"]:
        return preview("paused", rows, out)
    if len(rows) > 1 and not out.confirm(question("Pause", rows), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    new = []
    for each in rows:
        until = _until(options, each)
        try:
            if operations.pause(each, options["reason"], until=until, by=acts.operator()):
                new.append(each.name)
        except ValueError as error:
            raise wrong(str(error)) from error
        if not out.as_json:
            out.line(_told(each.name, until, new))
    if out.as_json:
        out.data({"dry_run": False, "paused": [each.name for each in rows], "new": new})
    elif len(rows) > 1:
        out.line(f"Paused {count(new)}.")
    if not rows:
        out.note("No schedule matches.")
    return 0 if new else 1


def _told(name: str, until: datetime | None, new: list[str]) -> str:
    if name not in new:
        return f"{name!r} is paused already; that pause stays as it is."
    end = "" if until is None else f" until {until:{shape.TIME} %Z}"
    return f"Paused {name!r}{end}."


def _until(options: dict[str, Any], schedule: PeriodicTask) -> datetime | None:
    if options["length"] is not None:
        length: timedelta = options["length"]
        return overview.now() + length
    at: datetime | None = options["until"]
    return None if at is None else in_zone(at, schedule)
