"""What is kept of an exception: class, message, traceback, and a fingerprint of its kind. Pure."""

from __future__ import annotations

import hashlib
import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

_OURS: Final = str(Path(__file__).resolve().parent) + os.sep
# A runaway message or recursion must not make the row that explains it too large to open.
_MESSAGE_LIMIT: Final = 4_000
_TRACEBACK_LIMIT: Final = 40_000
_CLASS_LIMIT: Final = 255


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure as the ledger keeps it.

    Attributes:
        error_class: dotted name of the exception's class.
        message: its text.
        traceback: formatted, without this package's own frames at the top.
        fingerprint: 16 hex digits, equal for failures of one class raised at one place.
    """

    error_class: str
    message: str
    traceback: str = ""
    fingerprint: str = ""

    def __str__(self) -> str:
        name = self.error_class.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name


def describe(error: BaseException) -> Failure:
    """Take down an exception.

    Args:
        error: the exception, with its traceback.

    Returns:
        Everything the ledger keeps of it; never raises, whatever ``str(error)`` does.
    """
    name = class_name(type(error))
    return Failure(
        error_class=name[:_CLASS_LIMIT],
        message=storable(_text(error)),
        traceback=_cut(_format(error), _TRACEBACK_LIMIT),
        fingerprint=fingerprint(name, _place(error.__traceback__)),
    )


def class_name(kind: type[BaseException]) -> str:
    """Return the dotted name of an exception class; builtins without their module."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that are equal for equal parts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _place(trace: TracebackType | None) -> str:
    # The innermost frame names the place where it broke. Without the line number, so that an
    # unrelated edit of the file does not split a group in two.
    frames = list(traceback.walk_tb(trace))
    if not frames:
        return ""
    code = frames[-1][0].f_code
    return f"{Path(code.co_filename).name}:{code.co_name}"


def _format(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception as broken:  # a __str__ or __repr__ of the user's that raises
        return f"(the traceback of {class_name(type(error))} cannot be shown: {broken!r})"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"(its message cannot be shown: {type(broken).__name__})"


def storable(text: str) -> str:
    """Return a text as a message that every database can store, and a person can read."""
    return _cut(text, _MESSAGE_LIMIT)


def shown(value: object) -> str:
    """Return ``repr(value)`` as such a message; never raises."""
    try:
        return storable(repr(value))
    except Exception as broken:
        return f"(a {type(value).__name__} that cannot be shown: {type(broken).__name__})"


def _cut(text: str, limit: int) -> str:
    # PostgreSQL stores no NUL; lone surrogates cannot be encoded at all.
    text = text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"
