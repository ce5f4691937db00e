"""What the arguments of the verbs are read with: durations, states, ids."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ...operations import FASTEST, SLOWEST
from ...states import State

Parser = argparse.ArgumentParser

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def duration(text: str) -> timedelta:
    """Read ``90`` (seconds), ``45s``, ``10m``, ``1h30m``, ``7d`` or ``2w``."""
    parts = _PART.findall(text.lower())
    rest = _PART.sub("", text.lower()).strip()
    plain_in_between = any(not unit for _, unit in parts) and len(parts) > 1
    if not parts or rest or plain_in_between:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no length of time; write 90 (seconds), 45s, 10m, 1h30m, 7d or 2w."
        )
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit or "s"] for number, unit in parts))
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than any clock counts.") from None


def state(text: str) -> State:
    """Read the name of a state."""
    try:
        return State(text.lower())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"there is no state {text!r}.{hint(text, [each.value for each in State])}"
        ) from None


def entry_id(text: str) -> UUID:
    """Read an entry's id."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no entry's id; one looks like 019335f1-1f2c-7a3b-8c4d-5e6f70819203."
        ) from None


def positive(text: str) -> int:
    """Read a whole number greater than zero."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number greater than zero.")
    return int(text)


def pace(text: str) -> float:
    """Read entries a second, above zero; ``none`` is no limit, which is 0."""
    if text.lower() == "none":
        return 0.0
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not SLOWEST <= found <= FASTEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of entries a second; write 50, 0.5 or none."
        )
    return found


def hint(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean …?" or what there is, for the end of an error message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(names)}."


def add_act(parser: Parser, verb: str) -> None:
    """Add what every act on entries takes."""
    parser.add_argument("--reason", default="", help="why, in words; kept on the entry")
    parser.add_argument(
        "--dry-run", action="store_true", help=f"show what would be {verb}; change nothing"
    )
    add_yes(parser)


def add_yes(parser: Parser) -> None:
    """Add the answer to the question that would be asked."""
    parser.add_argument(
        *("--yes", "-y", "--no-input", "--noinput"),
        dest="yes",
        action="store_true",
        help="do not ask",
    )


def add_filters(parser: Parser, states: Iterable[State]) -> None:
    """Add what entries are chosen by."""
    add = parser.add_argument_group("which entries").add_argument
    allowed = ", ".join(states)
    many: dict[str, Any] = {"action": "append", "default": []}
    add("--state", type=state, metavar="STATE", help=f"in this state: {allowed}", **many)
    add("--task", metavar="NAME", help="of this task; a * at the end stands for any rest", **many)
    add("--queue", metavar="NAME", help="in this queue", **many)
    add(
        "--error",
        metavar="CLASS",
        help="whose last failure is of this class, with or without its module",
    )
    add("--fingerprint", metavar="HEX", help="whose last failure is alike: see doctor and show")
    add("--worker", metavar="NAME", help="last run by workers whose name begins so")
    add("--older", type=duration, metavar="TIME", help="enqueued longer ago than, e.g. 10m, 2h, 7d")
    add("--newer", type=duration, metavar="TIME", help="enqueued since, e.g. 10m, 2h, 7d")


# Django's own options, which may stand before the verb or after it.
_DJANGO: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (("--settings",), {}),
    (("--pythonpath",), {}),
    (("-v", "--verbosity"), {"type": int, "choices": [0, 1, 2, 3]}),
    (("--traceback",), {"action": "store_true"}),
    (("--no-color",), {"action": "store_true"}),
    (("--force-color",), {"action": "store_true"}),
    (("--skip-checks",), {"action": "store_true"}),
)


def repeat_django_options(parser: Parser) -> None:
    """Let Django's own options stand behind a verb too."""
    for flags, kind in _DJANGO:
        parser.add_argument(*flags, **kind, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
