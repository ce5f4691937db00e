"""``discard``: give dead entries up for good."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from ... import operations
from ...states import State
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser, add_act, add_filters, entry_id, positive
from . import acts, background
from .background import add_background
from .selection import Selection

NAME: Final = "discard"
HELP: Final = "give dead entries up: they become cancelled"


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ids", nargs="*", type=entry_id, metavar="ID", help="an entry's id")
    parser.add_argument("--all", action="store_true", help="all dead entries")
    add_filters(parser, [State.DEAD])
    parser.add_argument("--limit", type=positive, help="at most so many, oldest first")
    add_act(parser, "discarded")
    add_background(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Discard what was chosen, batch by batch."""
    background.check(options)
    chosen = Selection(options, {State.DEAD}, {State.DEAD})
    acts.check_named(chosen)
    count = chosen.count()
    if options["dry_run"]:
        return acts.preview("discarded", chosen, count, out)
    if count and not out.confirm(acts.question("Discard", chosen, count), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    if count and options["background"]:
        return background.begin(operations.Act.DISCARD, chosen, options, out)
    discarded: list[UUID] = []
    skipped: list[UUID] = []
    with out.progress("discarded", count) as progress:
        for batch in chosen.batches() if count else ():
            done = operations.discard(batch, options["reason"], by=acts.operator(), **chosen.guards)
            discarded += done.discarded
            skipped += done.skipped
            progress.add(len(done.discarded))
    left = acts.left_alone(skipped, chosen)
    others = acts.as_json(left) if discarded or skipped else acts.skipped(chosen)
    if out.as_json:
        out.data({"dry_run": False, "discarded": discarded, "skipped": others})
    elif not discarded:
        out.note(acts.left_words(left) if left else acts.nothing(chosen))
    else:
        out.line(f"Discarded {shape.entries(len(discarded))}.")
        if others:
            out.note(acts.left_words(left))
    return 0 if discarded and not (chosen.ids and others) else 1
