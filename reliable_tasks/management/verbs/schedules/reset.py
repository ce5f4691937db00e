"""``schedules reset``: count runs from zero."""

from __future__ import annotations

from typing import Any, Final

from ....schedules import operations
from ...console.output import Output
from ...console.parsing import Parser, add_yes
from .. import acts
from .choosing import add_names, chosen
from .wording import preview, question

NAME: Final = "reset"
HELP: Final = "count runs from zero, for schedules that may run only so often (max_runs)"


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    add_names(parser)
    parser.add_argument("--reason", default="", help="why, in words; kept on record")
    parser.add_argument("--dry-run", action="store_true", help="show which; change nothing")
    add_yes(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Let what was chosen count its runs from zero."""
    rows = chosen(options)
    if options["dry_run"]:
        return preview("reset", rows, out)
    if len(rows) > 1 and not out.confirm(question("Reset", rows), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    reason, by = options["reason"], acts.operator()
    done = [each.name for each in rows if operations.reset_runs(each, reason=reason, by=by)]
    if out.as_json:
        out.data({"dry_run": False, "reset": done})
        return 0 if done else 1
    for name in done:
        out.line(f"{name!r} counts its runs from zero.")
    if not done:
        out.note("Nothing to do: none of them has run since it was enabled or reset.")
    return 0 if done else 1
