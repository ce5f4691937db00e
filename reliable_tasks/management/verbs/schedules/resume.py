"""``schedules resume``: end a pause."""

from __future__ import annotations

from typing import Any, Final

from ....schedules import operations
from ...console.output import Output
from ...console.parsing import Parser, add_yes
from .. import acts
from .choosing import add_names, chosen
from .wording import preview, question

NAME: Final = "resume"
HELP: Final = "end a pause: due times fire again from now on"


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    add_names(parser)
    parser.add_argument("--reason", default="", help="why, in words; kept on record")
    parser.add_argument("--dry-run", action="store_true", help="show which; change nothing")
    add_yes(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Resume what was chosen and is paused."""
    paused = [each for each in chosen(options) if operations.standing(each).paused]
    if options["dry_run"]:
        return preview("resumed", paused, out)
    if len(paused) > 1 and not out.confirm(question("Resume", paused), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    reason, by = options["reason"], acts.operator()
    done = [each.name for each in paused if operations.resume(each, reason, by=by)]
    if out.as_json:
        out.data({"dry_run": False, "resumed": done})
    for name in () if out.as_json else done:
        out.line(f"Resumed {name!r}.")
    if not done and not out.as_json:
        out.note("Nothing to do: none of them is paused.")
    return 0 if done else 1
