"""``pause`` and ``resume``: keep a queue's or task's entries from being claimed for a while."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, Final

from ... import operations, overview
from ...oversight import Kind
from ..console import shape
from ..console.output import Column, Output
from ..console.parsing import Parser, duration
from . import acts

_COLUMNS: Final = tuple(
    Column(title) for title in ("PAUSED", "NAME", "SINCE", "UNTIL", "BY", "REASON")
)


def _pause_arguments(parser: Parser) -> None:
    parser.add_argument("kind", nargs="?", choices=[each.value for each in Kind])
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the queue or task")
    parser.add_argument("--reason", default="", help="why, in words")
    parser.add_argument(
        *("--for",), dest="length", type=duration, metavar="TIME", help="how long, e.g. 90, 10m"
    )


def _pause(options: dict[str, Any], out: Output) -> int:
    if options["kind"] is None or options["name"] is None:
        return _list(out)
    length = options["length"]
    ends_at = None if length is None else overview.now() + length
    done = operations.pause(
        options["kind"], options["name"], options["reason"], by=acts.operator(), ends_at=ends_at
    )
    found = operations.concerned(options["kind"], options["name"])
    words = f"{options['kind']} {options['name']}"
    held = f"{_number(found, 'waiting')} wait there, {_number(found, 'running')} run on"
    yes, no = f"Paused {words}: {held}.", f"The {words} is paused already."
    return _tell(out, done, yes, no, found)


def _resume_arguments(parser: Parser) -> None:
    parser.add_argument("kind", choices=[each.value for each in Kind])
    parser.add_argument("name", metavar="NAME", help="of the queue or task")
    parser.add_argument("--reason", default="", help="why, in words")


def _resume(options: dict[str, Any], out: Output) -> int:
    done = operations.resume(
        options["kind"], options["name"], options["reason"], by=acts.operator()
    )
    found = operations.concerned(options["kind"], options["name"])
    words = f"{options['kind']} {options['name']}"
    freed = f"{_number(found, 'waiting')} wait there, {_number(found, 'due')} of them due"
    return _tell(out, done, f"Resumed {words}: {freed}.", f"The {words} is not paused.", found)


def _list(out: Output) -> int:
    rows = list(overview.pauses())
    if out.as_json:
        names = ("kind", "name", "reason", "by", "paused_at", "ends_at")
        out.data([{name: getattr(each, name) for name in names} for each in rows])
    elif not rows:
        out.line("Nothing is paused.")
    else:
        out.table(
            _COLUMNS,
            [
                (
                    each.kind,
                    each.name,
                    shape.moment(each.paused_at),
                    shape.moment(each.ends_at) if each.ends_at else "-",
                    each.by,
                    each.reason,
                )
                for each in rows
            ],
        )
    return 0


def _number(found: operations.Concerned, name: str) -> str:
    return f"{'' if found.exact else 'at least '}{getattr(found, name):,}"


def _tell(out: Output, done: bool, yes: str, no: str, found: operations.Concerned) -> int:
    if out.as_json:
        out.data({"done": done, **asdict(found)})
    else:
        (out.line if done else out.note)(yes if done else no)
    return 0 if done else 1


pause: Final = SimpleNamespace(
    NAME="pause",
    HELP="keep the entries of a queue or task from running; without a name, list what is paused",
    arguments=_pause_arguments,
    run=_pause,
)
resume: Final = SimpleNamespace(
    NAME="resume", HELP="end a pause", arguments=_resume_arguments, run=_resume
)
