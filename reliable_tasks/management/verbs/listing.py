"""``list``: entries, newest first."""

from __future__ import annotations

from typing import Any, Final

from ... import overview
from ...states import State
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser, add_filters, positive
from .selection import filtered

NAME: Final = "list"
HELP: Final = "entries, newest first"


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    add_filters(parser, State)
    parser.add_argument("--limit", type=positive, default=50, help="at most so many (default: 50)")


def run(options: dict[str, Any], out: Output) -> int:
    """Print the entries that the filters choose."""
    limit: int = options["limit"]
    rows = list(filtered(options).only(*shape.LISTED).order_by("-pk")[: limit + 1])
    shown, more = rows[:limit], len(rows) > limit
    if out.as_json:
        out.data([shape.listed(entry) for entry in shown])
    elif shown:
        at = overview.now()
        out.table(shape.LIST_COLUMNS, [shape.row(entry, at) for entry in shown])
        if more:
            out.note(f"These are the newest {limit}; there are more. --limit shows them.")
    else:
        out.note("No entry matches.")
    return 0 if shown else 1
