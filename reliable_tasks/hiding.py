"""Keeps sensitive values out of what is told of a failure. Pure.

Note [Where a text can stand]: in an exception's arguments, in its attributes (a file's name, a
command, a ValidationError's parameters), in its notes, and in what is told with it: its cause, its
context, the members of a group. All that is masked in place, so that handlers and ``except``
clauses see the very exception. Where a class words its text of something else, the exception is
given a class of the same name, derived from its own, whose text is masked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from .failure import Failure
from .verdict import RetryAsked, Verdict

_MASK = "***"
_DEEPEST: Final = 10
_CONTAINERS: Final = (list, tuple, set, frozenset, dict)
# What can be written out without any effect, and without asking a database.
_SIMPLE: Final = (int, float, Decimal, UUID, PurePath, date, timedelta)
# Of builtin exceptions; they are not in an instance's dictionary.
_MEMBERS: Final = (
    *("filename", "filename2", "strerror", "object", "reason"),
    *("code", "value", "msg", "text", "name", "path"),
)


def hide_in_error(error: BaseException, texts: Sequence[str]) -> None:
    """Mask texts in an exception and in those that led to it, before anybody formats them.

    Args:
        error: the exception; it is changed in place.
        texts: what must not be shown.
    """
    if not texts:
        return
    spelled = _spellings(texts)
    chain = list(_chain(error))
    for each in chain:
        _mask(each, spelled)
    for each in chain:
        if _shows(each, spelled):
            _reword(each, spelled)


def hide_in_verdict(decision: Verdict, texts: Sequence[str]) -> Verdict:
    """Return a verdict without the texts, also where an exception's class has its own wording.

    Args:
        decision: the verdict.
        texts: what must not be shown.
    """
    if not texts:
        return decision
    spelled = _spellings(texts)
    failure = decision.failure
    clean = Failure(
        error_class=failure.error_class,
        message=_in_text(failure.message, spelled),
        traceback=_in_text(failure.traceback, spelled),
        fingerprint=failure.fingerprint,
    )
    return replace(decision, failure=clean, reason=_in_text(decision.reason, spelled))


def _spellings(texts: Sequence[str]) -> list[str]:
    """Return the texts as they may stand in a message, longest first: plain and escaped."""
    found = set(texts)
    for text in texts:
        found |= {repr(text)[1:-1], repr(text.encode("utf-8", "backslashreplace"))[2:-1]}
        found |= {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return sorted(found, key=len, reverse=True)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that may be told with it."""
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseException):
            yield each
            left += [each.__cause__, each.__context__, *each.args, *vars(each).values()]
            left += getattr(each, "exceptions", ())
        elif type(each) in _CONTAINERS:
            left += each.values() if isinstance(each, dict) else each


def _mask(error: BaseException, spelled: Sequence[str]) -> None:
    hidden = tuple(_hidden(arg, spelled, whatever=True) for arg in error.args)
    if any(new is not old for new, old in zip(hidden, error.args, strict=True)):
        error.args = hidden
    for name in {**vars(error), **dict.fromkeys(_MEMBERS)}:
        if name == "changes" and isinstance(error, RetryAsked):
            continue  # what the next attempt gets
        # An attribute may be a property, or one that cannot be set.
        with suppress(Exception):
            value = getattr(error, name)
            masked = _hidden(value, spelled)
            if masked is not value:
                setattr(error, name, masked)


def _hidden(value: Any, spelled: Sequence[str], *, whatever: bool = False, depth: int = 0) -> Any:
    """Return a value without the texts; the same object if it has none of them."""
    if isinstance(value, str):
        clean = _in_text(value, spelled)
        return value if clean == value else clean
    if isinstance(value, bytes | bytearray):
        return _in_bytes(value, spelled)
    if value is None or isinstance(value, bool | BaseException):
        return value
    if type(value) not in _CONTAINERS:
        told = (whatever or isinstance(value, _SIMPLE)) and _shows(value, spelled)
        return _MASK if told else value
    if depth == _DEEPEST:
        return _MASK
    items = [part for pair in value.items() for part in pair] if type(value) is dict else value
    items = list(items)
    clean_items = [_hidden(each, spelled, whatever=whatever, depth=depth + 1) for each in items]
    if all(new is old for new, old in zip(clean_items, items, strict=True)):
        return value
    if type(value) is dict:
        return dict(zip(clean_items[::2], clean_items[1::2], strict=True))
    return type(value)(clean_items)


def _in_text(value: str, spelled: Sequence[str]) -> str:
    for text in spelled:
        value = value.replace(text, _MASK)
    return value


def _in_bytes(value: bytes | bytearray, spelled: Sequence[str]) -> Any:
    clean: Any = value
    for text in spelled:
        plain = text.encode("utf-8", "backslashreplace")
        if plain in clean:
            clean = clean.replace(plain, _MASK.encode())
    return clean


def _shows(value: Any, spelled: Sequence[str]) -> bool:
    told = f"{_form(str, value)}\n{_form(repr, value)}"
    return any(text in told for text in spelled)


def _form(how: Any, value: Any) -> str:
    try:
        return str(how(value))
    except Exception:  # whoever else tries to show it will fail as well
        return ""


def _reword(error: BaseException, spelled: Sequence[str]) -> None:
    kind = type(error)
    text, written = (_in_text(_form(how, error), spelled) for how in (str, repr))
    body = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__str__": lambda self: text,
        "__repr__": lambda self: written,
    }
    # Classes written in C cannot be exchanged; those of Python itself word nothing but what is
    # masked by now.
    with suppress(Exception):
        error.__class__ = type(kind.__name__, (kind,), body)
