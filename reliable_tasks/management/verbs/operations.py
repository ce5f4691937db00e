"""``operations``: acts on many entries that are carried out in the background, and their reins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ... import operations, overview
from ...ledger import ledger_connection
from ...models import Operation
from ...oversight import Steps
from ..console import shape
from ..console.output import Column, Output, clean
from ..console.parsing import Parser, entry_id, pace, positive
from . import acts
from .selection import wrong

NAME: Final = "operations"
HELP: Final = "acts that are carried out in the background: list, show, pause, resume, stop, rate"

_STEER: Final[dict[str, tuple[Callable[..., bool], str]]] = {
    "pause": (operations.pause_operation, "It rests after its current batch."),
    "resume": (operations.resume_operation, "It goes on."),
    "stop": (operations.stop_operation, "It ends after its current batch; what is done stays."),
}
_ACTS: Final = ("list", "show", *_STEER, "rate")
_COLUMNS: Final = (
    Column("OPERATION"),
    Column("ACT"),
    Column("STATE"),
    Column("DONE", right=True),
    Column("LEFT ALONE", right=True, spare=True),
    Column("OF", right=True),
    Column("STARTED", spare=True),
    Column("WHICH", least=12, spare=True),
)
_LABEL: Final = 14


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("act", nargs="?", choices=_ACTS, default="list", help="default: list")
    parser.add_argument(
        "operation", nargs="?", type=entry_id, metavar="ID", help="the operation's id: see list"
    )
    parser.add_argument(
        "pace", nargs="?", type=pace, metavar="N", help="for rate: entries a second, or none"
    )
    parser.add_argument(
        "--going", action="store_true", help="list only those that run or are paused"
    )
    parser.add_argument("--limit", type=positive, default=50, help="at most so many (default: 50)")
    parser.add_argument("--reason", default="", help="why, in words; kept on record")


def run(options: dict[str, Any], out: Output) -> int:
    """List, show or steer."""
    act, pk = options["act"], options["operation"]
    if act == "list":
        if pk is not None:
            raise wrong(f"Say what is to be done with {pk}: operations show, or pause.")
        return _list(options, out)
    if pk is None:
        raise wrong(f"Say which operation: `operations {act} ID`; `operations list` has the ids.")
    if options["pace"] is not None and act != "rate":
        raise wrong(f"A rate is set by `operations rate {pk} {options['pace']:g}`.")
    found = _rows().filter(pk=pk).first()
    if found is None:
        raise wrong(f"There is no operation {pk}; `operations list` shows what there is.")
    return _show(found, out) if act == "show" else _steer(found, options, out)


def _rows() -> Any:
    return Operation.objects.using(ledger_connection().alias).select_related("act").order_by("-pk")


def _list(options: dict[str, Any], out: Output) -> int:
    rows = _rows()
    if options["going"]:
        rows = rows.filter(state__in=(Steps.RUNNING, Steps.PAUSED))
    limit: int = options["limit"]
    found = list(rows[: limit + 1])
    shown = found[:limit]
    if out.as_json:
        out.data([_data(each) for each in shown])
    elif shown:
        at = overview.now()
        out.table(_COLUMNS, [_row(each, at) for each in shown])
        if len(found) > limit:
            out.note(f"These are the newest {limit}; there are more. --limit shows them.")
    else:
        out.note("No operation is under way." if options["going"] else "There are no operations.")
    return 0 if shown else 1


def _show(operation: Operation, out: Output) -> int:
    stalled = operations.stalled(operation)
    if out.as_json:
        out.data({**_data(operation), "stalled": stalled})
        return 0
    out.line(f"{operation.pk}  {operation.verb}, {operation.state}")
    for label, value in (
        ("which", operation.act.target),
        ("how", shape.text_of(operation.params) if operation.params else ""),
        ("progress", _progress(operation)),
        ("rate", "no limit" if operation.rate is None else f"{operation.rate:g} a second"),
        ("by", operation.act.by),
        ("reason", operation.act.reason),
        ("started", shape.moment(operation.started_at)),
        ("last moved", shape.moment(operation.moved_at)),
        ("ended", shape.moment(operation.ended_at) if operation.ended_at else ""),
        ("carried by", f"entry {operation.entry_id}" if operation.entry_id else ""),
    ):
        if value:
            out.line(f"  {label:<{_LABEL}}{clean(value)}")
    if stalled:
        out.line(
            f"  Nothing carries it: its entry has ended. `operations resume {operation.pk}` goes "
            "on where it stopped.",
            out.style.WARNING,
        )
    return 0


def _steer(operation: Operation, options: dict[str, Any], out: Output) -> int:
    by = acts.operator()
    if options["act"] == "rate":
        if options["pace"] is None:
            raise wrong(f"How fast? `operations rate {operation.pk} N`, or `none` for no limit.")
        rate: float | None = options["pace"] or None
        done = operations.set_rate(operation.pk, rate, reason=options["reason"], by=by)
        words = "No limit." if rate is None else f"At most {rate:g} entries a second."
    else:
        steer, words = _STEER[options["act"]]
        done = steer(operation.pk, reason=options["reason"], by=by)
    if out.as_json:
        out.data({"done": done})
    elif done:
        out.line(words)
    else:
        out.note("It has ended already.")
    return 0 if done else 1


def _progress(operation: Operation) -> str:
    left = f", {operation.skipped:,} left alone" if operation.skipped else ""
    return f"{operation.done:,} done{left}, of {operation.total:,}"


def _row(operation: Operation, at: Any) -> list[object]:
    return [
        operation.pk,
        operation.verb,
        operation.state,
        f"{operation.done:,}",
        f"{operation.skipped:,}",
        f"{operation.total:,}",
        shape.relative(operation.started_at, at),
        operation.act.target,
    ]


def _data(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.pk,
        "act": operation.verb,
        "state": operation.state,
        "chosen": operation.chosen,
        "params": operation.params,
        "total": operation.total,
        "done": operation.done,
        "skipped": operation.skipped,
        "rate": operation.rate,
        "by": operation.act.by,
        "reason": operation.act.reason,
        "entry": operation.entry_id,
        "started_at": operation.started_at,
        "moved_at": operation.moved_at,
        "ended_at": operation.ended_at,
    }
