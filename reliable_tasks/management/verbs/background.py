"""``--background``: an act on what was chosen becomes an operation, which workers carry out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from ... import operations, overview
from ...operations import Act, Chosen
from ..console.output import Output
from ..console.parsing import Parser, pace
from . import acts
from .selection import Selection, wrong

#: Most entries that a background act is given by their ids.
MOST_IDS: Final = 1_000


def add_background(parser: Parser) -> None:
    """Add what hands an act to the workers."""
    group = parser.add_argument_group("by the workers")
    group.add_argument(
        "--background",
        action="store_true",
        help="let the workers do it, and return at once: see the verb operations",
    )
    group.add_argument(
        "--rate", type=pace, metavar="N", help="with --background: at most so many a second"
    )


def check(options: dict[str, Any]) -> None:
    """Refuse a rate without an operation that could keep it.

    Raises:
        CommandError: there is one.
    """
    if options["rate"] is not None and not options["background"]:
        raise wrong("A rate needs --background: only the workers keep to one.")


def begin(
    verb: Act,
    selection: Selection,
    options: dict[str, Any],
    out: Output,
    *,
    params: Mapping[str, Any] | None = None,
) -> int:
    """Begin an operation on what was chosen, and tell its id.

    Args:
        verb: the act.
        selection: the entries.
        options: those of the command line.
        out: where to print.
        params: details of a requeue; see :func:`reliable_tasks.operations.begin`.

    Returns:
        The exit code.

    Raises:
        CommandError: an operation cannot choose entries in this way.
    """
    begun = operations.begin(
        verb,
        _chosen(selection, options),
        options["reason"],
        by=acts.operator(),
        params=params,
        rate=options["rate"] or None,
        as_of=selection.as_of,
    )
    if out.as_json:
        out.data({"operation": begun.operation, "total": begun.total})
    else:
        out.line(f"The workers deal with {begun.total:,} of them: operation {begun.operation}.")
        out.note(f"`operations show {begun.operation}` tells how far it has come.")
    return 0 if begun.total else 1


def _chosen(selection: Selection, options: dict[str, Any]) -> Chosen:
    if options["limit"] is not None:
        raise wrong("An operation takes all that match: leave --limit out, or --background.")
    if len(selection.ids) > MOST_IDS:
        raise wrong(f"An operation takes at most {MOST_IDS:,} ids; choose by filters.")
    if selection.ids:
        return Chosen(ids=tuple(str(pk) for pk in selection.ids))
    for name in ("task", "queue"):
        if len(options[name]) > 1:
            raise wrong(f"An operation takes one --{name}; begin one for each.")
    now = overview.now()
    older: timedelta | None = options["older"]
    newer: timedelta | None = options["newer"]
    return Chosen(
        states=tuple(sorted(selection.wanted)),
        task=next(iter(options["task"]), ""),
        queue=next(iter(options["queue"]), ""),
        error=options["error"] or "",
        fingerprint=(options["fingerprint"] or "").lower(),
        worker=options["worker"] or "",
        since=(now - newer).isoformat() if newer is not None else "",
        until=(now - older).isoformat() if older is not None else "",
    )
