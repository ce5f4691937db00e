"""``schedules run``: fire schedules once, now, besides their due times."""

from __future__ import annotations

from typing import Any, Final

from ....occurrence import Fate
from ....schedules import operations
from ...console.output import Output
from ...console.parsing import Parser, add_act
from .. import acts
from . import shape
from .choosing import add_names, chosen
from .wording import preview, question

NAME: Final = "run"
HELP: Final = "fire schedules once, now, besides their due times"


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    add_names(parser)
    add_act(parser, "run")


def run(options: dict[str, Any], out: Output) -> int:
    """Fire what was chosen; also what is disabled or paused."""
    rows = chosen(options)
    if options["dry_run"]:
        return preview("run", rows, out)
    if rows and not out.confirm(question("Run", rows, "now"), yes=options["yes"]):
        out.note("Nothing was run.")
        return 1
    done = []
    for each in rows:
        fired = operations.run_now(each, reason=options["reason"], by=acts.operator())
        done.append((each, fired))
        if not out.as_json:
            if fired.outcome == Fate.FIRED:
                kind = "entry" if fired.reliable else "message"
                out.line(f"Ran {each.name!r}: {kind} {fired.entry_id}.")
            else:
                out.note(f"{each.name!r} did not run: {fired.reason}")
    if out.as_json:
        runs = [{"name": each.name, **shape.occurrence(fired)} for each, fired in done]
        out.data({"dry_run": False, "run": runs})
    if not rows:
        out.note("No schedule matches.")
    return 0 if done and all(fired.outcome == Fate.FIRED for _, fired in done) else 1
