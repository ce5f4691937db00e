"""``keys``: which dedup keys are held, by whom, and why; release one by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from ... import ledger, operations
from ...dedup import FOREVER, Conflict
from ...states import ACTIVE, State
from ..console import shape
from ..console.output import Column, Output
from ..console.parsing import Parser, add_yes, positive
from . import acts
from .selection import wrong

NAME: Final = "keys"
HELP: Final = "dedup keys that are held; explain or release one"

_ACTS: Final = ("list", "explain", "release")
_COLUMNS: Final = (
    Column("KEY", least=20),
    Column("ENTRY"),
    Column("STATE"),
    Column("HELD FOR", right=True, spare=True),
    Column("FREE", least=8),
)
# What a window of "forever" leaves is far more than this.
_FOR_EVER: Final = FOREVER / 2


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("act", nargs="?", choices=_ACTS, default="list", help="default: list")
    parser.add_argument(
        "what", nargs="?", metavar="KEY", help="a key's text or digest, or its entry's id"
    )
    parser.add_argument("--task", metavar="NAME", help="only keys of this task")
    parser.add_argument("--limit", type=positive, default=50, help="at most so many (default: 50)")
    parser.add_argument("--reason", default="", help="why, in words; kept on the entry")
    add_yes(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """List, explain or release."""
    act, what = options["act"], options["what"]
    if act == "list":
        if what is not None:
            raise wrong(f"Say what is to be done with {what!r}: keys explain, or keys release.")
        return _list(options, out)
    if what is None:
        raise wrong(f"Say which key: `keys {act} KEY`, with its text, its digest or its entry.")
    found = ledger.holders(_named(what))
    if not found:
        if out.as_json:
            out.data([])
        out.note(f"Nobody holds {what!r}: a call with it would be enqueued.")
        return 1
    return _explain(found, out) if act == "explain" else _release(found, options, out)


def _list(options: dict[str, Any], out: Output) -> int:
    limit: int = options["limit"]
    which = Q(task=options["task"]) if options["task"] else Q()
    found = ledger.holders(which, limit=limit + 1)
    shown = found[:limit]
    if out.as_json:
        out.data([_data(held) for held in shown])
    elif shown:
        out.table(_COLUMNS, [_row(held) for held in shown])
        if len(found) > limit:
            out.note(f"These are held longest; there are more than {limit}. --limit shows them.")
    else:
        out.note("No key is held.")
    return 0 if shown else 1


def _explain(found: list[Conflict], out: Output) -> int:
    if out.as_json:
        out.data([_data(held) for held in found])
        return 0
    for held in found:
        out.line(held.text)
        out.line(f"  held by   {held.entry} ({_state(held)}), task {held.task}")
        age = shape.span(timedelta(seconds=held.age))
        out.line(f"  held for  {age}, since {shape.moment(held.held_at)}")
        out.paragraph(_why(held), "  meaning   ", "            ")
        out.line(f"  digest    {held.digest}")
    return 0


def _release(found: list[Conflict], options: dict[str, Any], out: Output) -> int:
    names = ", ".join(
        f"{held.text} (entry {held.entry}, {held.state or 'pruned'})" for held in found
    )
    if not out.confirm(f"Release {names}?", yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    released = []
    for held in found:
        # Not from an entry that has taken it while the question waited for its answer.
        done = operations.release_key(
            held.digest, options["reason"], by=acts.operator(), entry=held.entry
        )
        if done is None:
            out.note(f"Left alone: {held.text}, which entry {held.entry} does not hold any more.")
        else:
            released.append(done)
    if out.as_json:
        out.data({"released": [_data(held) for held in released]})
    for held in released if not out.as_json else ():
        out.line(f"Released {held.text}.")
        if held.state in ACTIVE:
            out.note(
                f"Entry {held.entry} is {held.state} and goes on; a new one may run beside it."
            )
    return 0 if released else 1


def _named(what: str) -> Q:
    try:
        return Q(digest=UUID(what)) | Q(entry_id=UUID(what))
    except ValueError:
        return Q(text=what)


def _row(held: Conflict) -> list[object]:
    age = shape.span(timedelta(seconds=held.age))
    return [held.text, held.entry, _state(held), age, _when(held)]


def _state(held: Conflict) -> str:
    return held.state or "pruned"


def _when(held: Conflict) -> str:
    if held.lapsed or held.expired:
        return "now"
    if held.frees_in is None:
        return "with its entry"
    if held.frees_in > _FOR_EVER:
        return "never"
    return f"in {shape.span(timedelta(seconds=held.frees_in))}"


def _why(held: Conflict) -> str:
    if held.lapsed:
        return "Free: the next call with this key takes it."
    if held.expired:
        return "Its entry has expired: the next sweep ends it, or the next call, which is enqueued."
    if held.frees_in is not None:
        return (
            f"Its entry has ended; the key blocks on by its window or period, free: {_when(held)}."
        )
    if held.state == State.DEAD:
        return (
            "Its entry is dead and keeps the key (after_death). Requeue the entry, prune it, or "
            "release the key."
        )
    if held.state == State.RUNNING:
        return "An attempt is at work; equal calls are refused until the entry ends."
    return "Its entry waits for an attempt; equal calls are refused meanwhile. See: show, doctor."


def _data(held: Conflict) -> dict[str, Any]:
    return {
        "digest": held.digest,
        "key": held.text,
        "task": held.task,
        "entry": held.entry,
        "state": held.state,
        "held_at": held.held_at,
        "held_seconds": held.age,
        "frees_in_seconds": held.frees_in,
        "free": held.lapsed or held.expired,
    }
