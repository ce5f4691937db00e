"""``cancel``: end entries that wait, ask those that run to stop."""

from __future__ import annotations

from typing import Any, Final

from ... import operations
from ...ledger import CancelResult
from ...states import ACTIVE
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser, add_act, add_filters, entry_id, positive
from . import acts, background
from .background import add_background
from .selection import Selection

NAME: Final = "cancel"
HELP: Final = "cancel entries that wait; ask those that run to stop"


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ids", nargs="*", type=entry_id, metavar="ID", help="an entry's id")
    parser.add_argument("--all", action="store_true", help="all that wait or run")
    add_filters(parser, sorted(ACTIVE))
    parser.add_argument("--limit", type=positive, help="at most so many, oldest first")
    add_act(parser, "cancelled")
    add_background(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Cancel what was chosen, batch by batch."""
    background.check(options)
    chosen = Selection(options, ACTIVE, ACTIVE)
    acts.check_named(chosen)
    count = chosen.count()
    if options["dry_run"]:
        return acts.preview("cancelled", chosen, count, out)
    if count and not out.confirm(acts.question("Cancel", chosen, count), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    if count and options["background"]:
        return background.begin(operations.Act.CANCEL, chosen, options, out)
    total = CancelResult()
    with out.progress("cancelled", count) as progress:
        for batch in chosen.batches() if count else ():
            done = operations.cancel(batch, options["reason"], by=acts.operator(), **chosen.guards)
            total.cancelled += done.cancelled
            total.asked += done.asked
            total.skipped += done.skipped
            progress.add(len(done.cancelled) + len(done.asked))
    return _account(total, chosen, out)


def _account(total: CancelResult, chosen: Selection, out: Output) -> int:
    touched = [*total.cancelled, *total.asked]
    others = acts.skipped(chosen)
    if touched or total.skipped:
        others = acts.as_json(left := acts.left_alone(total.skipped, chosen))
    if out.as_json:
        out.data(
            {
                "dry_run": False,
                "cancelled": total.cancelled,
                "asked": total.asked,
                "skipped": others,
            }
        )
    elif not touched and not total.skipped:
        out.note(acts.nothing(chosen))
    else:
        if total.cancelled:
            out.line(f"Cancelled {shape.entries(len(total.cancelled))}.")
        if total.asked:
            asked = shape.plural(len(total.asked), "running attempt", "running attempts")
            out.line(f"Asked {asked} to stop.")
        if others:
            out.note(acts.left_words(left))
    return 0 if touched and not (chosen.ids and others) else 1
