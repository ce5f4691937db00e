"""Canonical keys: equal calls have equal digests, and no two different ones share one. Pure.

What is digested is the JSON that the entry keeps of its arguments, with types told apart (``1``,
``"1"``, ``true`` and ``1.0`` are four keys) and with one spelling for each value (the order of a
dict's keys, the zone of an instant, trailing zeros of a Decimal make no other key).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

#: Characters that the readable form is cut to; the digest has the rest.
READABLE: Final = 255
_TAG, _VALUE = "__type__", "value"
_SHOWN: Final = 60


def digest_of(kind: str, task: str, what: Any) -> UUID:
    """Return the digest that a key is stored under.

    Args:
        kind: what the key was made of; keys of different kinds never meet.
        task: the task's name; neither do keys of different tasks.
        what: JSON, as the codec writes it.

    Returns:
        122 bits of a SHA-256, as a UUID, which databases index best.
    """
    # With the marks of version 5, a digest of a name: MariaDB's type refuses a quarter of all
    # numbers that have no such mark, and some of those of version 8.
    return UUID(_sha256([kind, task, _one_spelling(what)]), version=5)


def argument_digest(arguments: Mapping[str, Any]) -> str:
    """Return a digest of all bound arguments, to tell a repetition from another call."""
    return _sha256(_one_spelling(arguments))


def readable(task: str, arguments: Mapping[str, Any], hidden: Collection[str], digest: UUID) -> str:
    """Return a key as people read it: ``app.ship(order=5)``.

    Args:
        task: the task's name.
        arguments: what the key was made of, as the codec writes it.
        hidden: parameters whose values are not shown.
        digest: the key's digest, which ends the text where it has to be cut.
    """
    shown = (
        f"{name}={'…' if name in hidden else _brief(value)}"
        for name, value in sorted(arguments.items())
    )
    return shorten(f"{task}({', '.join(shown)})", digest)


def shorten(text: str, digest: UUID) -> str:
    """Cut a text to what the column holds, ended by some of its digest so that it stays its own."""
    # Databases cannot store a NUL.
    text = text.replace("\x00", "�")
    return text if len(text) <= READABLE else f"{text[: READABLE - 13]}…{digest.hex[:12]}"


def _brief(value: Any) -> str:
    plain = value[_VALUE] if isinstance(value, dict) and _TAG in value else value
    text = plain if value is not plain else json.dumps(plain, ensure_ascii=False, sort_keys=True)
    text = str(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _sha256(what: Any) -> str:
    text = json.dumps(what, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _one_spelling(value: Any) -> Any:
    if isinstance(value, Mapping):
        if _TAG in value:
            return {_TAG: value[_TAG], _VALUE: _same_value(value[_TAG], value[_VALUE])}
        return {name: _one_spelling(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_one_spelling(item) for item in value]
    if isinstance(value, float):
        # PostgreSQL's jsonb writes 1.0 as it came; repr is the shortest text that reads back.
        return {_TAG: "float", _VALUE: repr(value)}
    return value


def _same_value(kind: str, value: Any) -> Any:
    if kind == "decimal":
        return _without_zeros(Decimal(value))
    if kind == "datetime":
        moment = datetime.fromisoformat(value)
        return _in_utc(moment) if moment.tzinfo else value
    return value


def _in_utc(moment: datetime) -> str:
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError:  # within a day of either end of the calendar
        return repr(moment - datetime.min.replace(tzinfo=UTC))


def _without_zeros(number: Decimal) -> str:
    # Not normalize(): it rounds to the 28 digits of its context, and overflows far below the
    # largest exponent that there is.
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):  # NaN or infinite
        return str(number)
    if not number:
        return "0"
    kept = len(digits)
    while not digits[kept - 1]:
        kept -= 1
    return str(Decimal((sign, digits[:kept], exponent + len(digits) - kept)))
