"""Keeps sensitive values out of what is told of a failure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .failure import Failure
from .verdict import Verdict

_MASK = "***"


def hide_in_error(error: BaseException, texts: Sequence[str]) -> None:
    """Mask texts in an exception and in those that led to it, before anybody formats them.

    Args:
        error: the exception; its arguments are changed in place.
        texts: what must not be shown, longest first.
    """
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        each = left.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        left += [each.__cause__, each.__context__, getattr(each, "exc", None)]
        left += getattr(each, "exceptions", ())
        hidden = tuple(_hidden(arg, texts) for arg in each.args)
        if hidden != each.args:
            each.args = hidden
        if isinstance(getattr(each, "excs", None), str):  # a Retry keeps how its reason reads
            each.excs = _hidden(each.excs, texts)  # type: ignore[attr-defined]
        notes = getattr(each, "__notes__", None)
        if notes:
            notes[:] = [_hidden(note, texts) for note in notes]


def hide_in_verdict(decision: Verdict, texts: Sequence[str]) -> Verdict:
    """Return a verdict without the texts, also where an exception's class has its own wording.

    Args:
        decision: the verdict.
        texts: what must not be shown, longest first.
    """
    failure = decision.failure
    clean = Failure(
        error_class=failure.error_class,
        message=_hidden(failure.message, texts),
        traceback=_hidden(failure.traceback, texts),
        fingerprint=failure.fingerprint,
    )
    return replace(decision, failure=clean, reason=_hidden(decision.reason, texts))


def _hidden(value: Any, texts: Sequence[str]) -> Any:
    if not isinstance(value, str):
        shown = str(value) if isinstance(value, int | list | tuple | dict) else ""
        return _MASK if any(text in shown for text in texts) else value
    for text in texts:
        value = value.replace(text, _MASK)
    return value
