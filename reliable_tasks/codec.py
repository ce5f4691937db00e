"""Arguments to and from the JSON kept in an entry.

JSON values go through as they are. UUID, Decimal, datetime, date, time, timedelta and members of an
Enum become a small tagged object and come back as what they were. So does what is sensitive: its
tag lets everybody who shows an entry hide it, without knowing the task. Everything else is refused
at the call site with the place and the remedy: what crosses a process boundary is an id, never an
object.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from importlib import import_module
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from django.utils.dateparse import parse_duration
from django.utils.duration import duration_iso_string

from .errors import ArgumentError, CorruptEntry
from .refusal import refusal

_TAG: Final = "__type__"
_VALUE: Final = "value"
_SECRET: Final = "secret"  # noqa: S105 - the name of a tag
#: What stands in the place of a sensitive value wherever arguments are shown.
MASK: Final = "***"
_PLAIN: Final = frozenset({str, int, bool, type(None)})
# An escaped NUL, told from an escaped backslash that "u0000" follows.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """A sensitive value on its way into an entry.

    Attributes:
        value: what the body receives.
    """

    value: Any

    def __repr__(self) -> str:
        return MASK


def _read_duration(text: str) -> timedelta:
    found = parse_duration(text)
    if found is None:
        raise ValueError(f"{text!r} is no ISO 8601 duration")
    return found


def _read_member(kept: Sequence[Any]) -> Enum:
    place, member = kept
    module, _, name = place.partition(":")
    kind = attrgetter(name)(import_module(module))
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        raise TypeError(f"{place} is no Enum")
    return kind(member) if issubclass(kind, Flag) else kind[member]


def module_of(kept: Mapping[str, Any]) -> str | None:
    """Return the module that reading a value would import, None where it imports none.

    Args:
        kept: the value as an entry keeps it.
    """
    if kept.get(_TAG) != "enum":
        return None
    try:
        return str(kept[_VALUE][0]).partition(":")[0]
    except (LookupError, TypeError):
        return ""  # it cannot be read anyway


_WRITERS: Final[dict[type, tuple[str, Any]]] = {
    UUID: ("uuid", UUID.__str__),  # a subclass may show itself in another way
    Decimal: ("decimal", Decimal.__str__),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", duration_iso_string),
}
_READERS: Final[dict[str, Any]] = {
    "uuid": UUID,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": _read_duration,
    "float": float,
    "enum": _read_member,
}


def encode(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Turn a call's arguments into the two JSON texts that the entry keeps.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.

    Returns:
        The JSON of ``args`` and of ``kwargs``.

    Raises:
        ArgumentError: some value cannot be kept; the message names it and the remedy.
    """
    if _TAG in kwargs:
        raise ArgumentError(f"The argument name {_TAG!r} is reserved. Rename it.")
    try:
        return (
            dumps([_plain(value, f"argument {n + 1}") for n, value in enumerate(args)])
            if args
            else "[]",
            dumps({key: _plain(kwargs[key], f"argument {key!r}") for key in kwargs})
            if kwargs
            else "{}",
        )
    except RecursionError:
        raise ArgumentError(
            "An argument contains itself or is nested too deeply. Pass a flat list, or an id."
        ) from None


def decode(args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Read a call's arguments back from an entry.

    Args:
        args: JSON text, or what the database driver already parsed from it.
        kwargs: the same for the keyword arguments.

    Returns:
        The arguments as they were given.

    Raises:
        CorruptEntry: the text is not what :func:`encode` writes.
    """
    try:
        positional, named = _revive(loads(args)), _revive(loads(kwargs))
    except (
        *(ValueError, KeyError, TypeError, ArithmeticError),
        *(ImportError, AttributeError),  # of an Enum that has moved
    ) as error:
        raise CorruptEntry(f"The arguments of the entry cannot be read: {error}") from error
    if not isinstance(positional, list) or not isinstance(named, dict):
        raise CorruptEntry(
            "The arguments of the entry cannot be read: args must be a JSON list and kwargs a "
            f"JSON object; they are {type(positional).__name__} and {type(named).__name__}."
        )
    return positional, named


def dumps(value: Any) -> str:
    """Return compact JSON text that every supported database accepts.

    Raises:
        ArgumentError: the text has a character that PostgreSQL cannot store.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if "\\u0000" in text and _NUL.search(text):
        raise ArgumentError("An argument has a NUL character, which databases cannot store.")
    if not text.isascii() and _SURROGATE.search(text):
        raise ArgumentError(
            "An argument has half of a surrogate pair, which databases cannot store. It comes of "
            "text that was read with errors='surrogateescape': decode it, or pass base64."
        )
    return text


def shown(value: Any) -> Any:
    """Return arguments as an entry keeps them, with every sensitive value masked.

    Args:
        value: parsed JSON of ``args`` or ``kwargs``, or of a part.
    """
    if isinstance(value, list):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        if value.get(_TAG) == _SECRET:
            return MASK
        return {key: shown(item) for key, item in value.items()}
    return value


def unsealed(value: dict[str, Any]) -> Any:
    """Return what is in the mark of a sensitive value, and every other JSON object as it is.

    Args:
        value: an object that was read from the JSON of an entry.
    """
    return value[_VALUE] if value.get(_TAG) == _SECRET else value


def loads(value: Any) -> Any:
    """Return the value of JSON text; what a driver has parsed already passes through."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def _plain(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return _plain_float(value, where)
    writer = _WRITERS.get(kind)
    if writer is not None:
        return _tagged(value, writer, where)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _plain_mapping(value, where)
    return _plain_subclass(value, where)


def _tagged(value: Any, writer: tuple[str, Any], where: str) -> dict[str, Any]:
    if isinstance(value, time) and value.tzinfo is not None and value.utcoffset() is None:
        raise ArgumentError(f"{where} {refusal(value)}")  # it would come back naive
    return {_TAG: writer[0], _VALUE: writer[1](value)}


def _plain_float(value: float, where: str) -> Any:
    if not math.isfinite(value):
        raise ArgumentError(f"{where} is {value}, which JSON cannot hold. Pass None or a str.")
    # PostgreSQL writes 1e+23 out in full and -0.0 without its sign: neither would come back.
    if abs(value) >= 1e16 or repr(value) == "-0.0":
        return {_TAG: "float", _VALUE: repr(value)}
    return value


def _plain_subclass(value: Any, where: str) -> Any:
    # Enums of text and numbers, numbers of numpy, datetimes of pandas or of a test's frozen clock:
    # each keeps the value of the type that it extends.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _plain_float(float(value), where)
    if isinstance(value, Secret):
        return {_TAG: _SECRET, _VALUE: _plain_secret(value.value, where)}
    if isinstance(value, Enum):
        return {_TAG: "enum", _VALUE: _member(value, where)}
    for base, writer in _WRITERS.items():
        if isinstance(value, base):
            return _tagged(value, writer, where)
    raise ArgumentError(f"{where} {refusal(value)}")


def _plain_secret(value: Any, where: str) -> Any:
    try:
        return _plain(value, where)
    except ArgumentError:  # whose message may show the value
        raise ArgumentError(
            f"{where} is a {type(value).__qualname__} that the ledger cannot keep; it is "
            "sensitive, so it is not shown. Pass a str, a number, or a list or dict of them."
        ) from None


def _member(value: Enum, where: str) -> list[Any]:
    kind = type(value)
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise ArgumentError(
            f"{where} is a member of {kind.__qualname__}, which no other process can import. "
            "Define the Enum at the top of a module, or pass its value."
        )
    place = f"{kind.__module__}:{kind.__qualname__}"
    return [place, value.value if isinstance(value, Flag) else value.name]


def _plain_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    if _TAG in value:
        raise ArgumentError(f"{where} has the key {_TAG!r}, which is reserved. Rename it.")
    result: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise ArgumentError(
                f"{where} has the key {key!r} of type {type(key).__name__}; JSON keys are str and "
                "the task would receive another key. Use str keys or a list of pairs."
            )
        result[key] = _plain(item, f"{where}[{key!r}]")
    return result


def _revive(value: Any) -> Any:
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if isinstance(value, dict):
        if _TAG in value:
            kept = value[_VALUE]
            return _revive(kept) if value[_TAG] == _SECRET else _READERS[value[_TAG]](kept)
        return {key: _revive(item) for key, item in value.items()}
    return value
