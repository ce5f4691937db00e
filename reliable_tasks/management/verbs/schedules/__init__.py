"""``schedules``: look at schedules, run them, pause them, bring them in line with the code."""

from __future__ import annotations

import argparse
from typing import Any, Final

from ...console.output import Output
from ...console.parsing import Parser, repeat_django_options
from . import backfill, listing, pause, reset, resume, run_now, show, sync

NAME: Final = "schedules"
HELP: Final = "schedules: list, show, run, backfill, pause, resume, reset, sync"

ACTS: Final = {
    act.NAME: act for act in (listing, show, run_now, backfill, pause, resume, reset, sync)
}


def arguments(parser: Parser) -> None:
    """Add a parser for each act; without one, ``list`` is meant."""
    acts = parser.add_subparsers(dest="act", metavar="ACT")
    for act in ACTS.values():
        own = acts.add_parser(act.NAME, help=act.HELP, description=f"{act.HELP}.".capitalize())
        act.arguments(own)
        # The verb has it as well; what is not given here must not undo what was given there.
        own.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )
        repeat_django_options(own)


def run(options: dict[str, Any], out: Output) -> int:
    """Hand the command line to one of the acts."""
    name = options["act"]
    if name is None:
        name, options = listing.NAME, {**listing.DEFAULTS, **options}
    code: int = ACTS[name].run(options, out)
    return code
