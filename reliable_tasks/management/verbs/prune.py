"""``prune``: delete entries that ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db.models import F

from ... import operations, overview
from ...conf import current
from ...ledger.guard import moment_expression
from ...states import ENDED, State
from ..console import shape
from ..console.output import Column, Output
from ..console.parsing import Parser, add_yes, duration, state
from .selection import wrong

NAME: Final = "prune"
HELP: Final = "delete entries that ended long ago, as the KEEP_… settings say or as told"


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument(
        "--state",
        type=state,
        action="append",
        default=[],
        metavar="STATE",
        help="only this state: " + ", ".join(sorted(ENDED)),
    )
    parser.add_argument(
        "--older-than",
        type=duration,
        metavar="TIME",
        help="ended longer ago than, e.g. 12h, 7d (default: the state's KEEP_… setting)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only count; delete nothing")
    add_yes(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Delete, batch by batch. That there is nothing to delete is no failure."""
    ages = _ages(options)
    found = {each: _count(each, age) for each, age in ages.items()}
    total = sum(found.values())
    if options["dry_run"]:
        _report(found, ages, out, dry_run=True)
        return 0
    # What the settings say, every sweeper does unasked.
    told = bool(options["state"])
    parts = ", ".join(f"{number:,} {each}" for each, number in found.items() if number)
    if told and total:
        question = f"Delete {shape.entries(total)} for good ({parts})?"
        if not out.confirm(question, yes=options["yes"]):
            out.note("Nothing was deleted.")
            return 1
    deleted = dict.fromkeys(ages, 0)
    with out.progress("deleted", total) as progress:
        for each, age in ages.items():
            for count in operations.prune(each, age):
                deleted[each] += count
                progress.add(count)
    _report(deleted, ages, out, dry_run=False)
    return 0


def _ages(options: dict[str, Any]) -> dict[State, timedelta]:
    states: list[State] = options["state"]
    age: timedelta | None = options["older_than"]
    keep = {each: current().keep(each) for each in State if each in ENDED}
    for each in states:
        if each not in ENDED:
            raise wrong(
                f"Entries that are {each} have not ended. Prune: {', '.join(sorted(ENDED))}."
            )
        if age is None and keep[each] is None:
            raise wrong(
                f"KEEP_{each.upper()} is None: {each} entries are kept for ever. "
                "Say --older-than to delete some."
            )
    if age is not None and not states:
        raise wrong("--older-than needs --state: say which entries are to be deleted.")
    chosen = {each: age or keep[each] for each in (states or keep)}
    if age is not None:
        return dict.fromkeys(chosen, age)
    return {each: kept for each, kept in chosen.items() if kept is not None}


def _count(each: State, age: timedelta) -> int:
    before = moment_expression(-age.total_seconds())
    old = overview.entries().filter(state=each, finished_at__isnull=False, finished_at__lt=before)
    return old.order_by(F("pk")).count()


def _report(
    numbers: dict[State, int], ages: dict[State, timedelta], out: Output, *, dry_run: bool
) -> None:
    rows = [(each, ages[each], number) for each, number in numbers.items()]
    if out.as_json:
        out.data(
            {
                "dry_run": dry_run,
                "pruned": {each: number for each, _, number in rows},
                "older_than_seconds": {each: age.total_seconds() for each, age, _ in rows},
            }
        )
        return
    verb = "WOULD BE DELETED" if dry_run else "DELETED"
    out.table(
        [Column("STATE"), Column("OLDER THAN", right=True), Column(verb, right=True)],
        [[each, shape.span(age), f"{number:,}"] for each, age, number in rows],
    )
