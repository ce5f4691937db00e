"""What every verb prints with: lines, tables, JSON, a question, progress."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandError, OutputWrapper
from django.core.management.color import Style

WRONG_USAGE: Final = 2
# Texts come from tasks and exceptions: none of them may steer the terminal that shows them.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_GAP: Final = "  "
# A command to be copied must not be cut in two at a hyphen.
_WRAP: Final[dict[str, Any]] = {"break_long_words": False, "break_on_hyphens": False}
_PLAIN_PROGRESS_EVERY: Final = 5.0
_LIVE_PROGRESS_EVERY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        right: align to the right, as numbers are.
        least: characters that it may shrink to where the terminal is narrow; None for never.
        spare: left out, the rightmost first, where the terminal is too narrow even so.
    """

    title: str
    right: bool = False
    least: int | None = None
    spare: bool = False


class Output:
    """Where a verb prints to.

    Args:
        stdout: for what was asked for.
        stderr: for questions, progress and remarks.
        style: Django's colours, none where the terminal has none.
        as_json: print data instead of text.
    """

    def __init__(
        self, stdout: OutputWrapper, stderr: OutputWrapper, style: Style, *, as_json: bool
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.style = style
        self.as_json = as_json

    @property
    def width(self) -> int | None:
        """The terminal's columns; None where the output is no terminal and nothing is cut."""
        return shutil.get_terminal_size().columns if self._stdout.isatty() else None

    def line(self, text: str = "", style: Any = None) -> None:
        """Print a line of text."""
        self._write(self._stdout, text, style)

    def paragraph(self, text: str, head: str, indent: str, style: Any = None) -> None:
        """Print text after a head, wrapped at the terminal's width and indented."""
        width = self.width
        lines = (
            [text] if width is None else textwrap.wrap(text, max(30, width - len(indent)), **_WRAP)
        )
        for n, line in enumerate(lines):
            self.line(f"{indent if n else head}{line}", style)

    def note(self, text: str) -> None:
        """Print a remark that is no part of the result."""
        self._write(self._stderr, text)

    def data(self, value: Any, *, compact: bool = False) -> None:
        """Print a value as JSON; compact means on one line."""
        self._stdout.write(json.dumps(value, indent=None if compact else 2, default=_plain))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
        """Print an aligned table that fits the terminal."""
        for text in table(columns, [[clean(cell) for cell in row] for row in rows], self.width):
            self.line(text)

    def flush(self) -> None:
        """Let a reader at the other end of a pipe see what was printed so far."""
        self._stdout.flush()

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask, unless the answer was given on the command line.

        Args:
            question: what to ask.
            yes: whether ``--yes`` was given.

        Returns:
            Whether the answer is yes.

        Raises:
            CommandError: there is nobody to ask.
        """
        if yes:
            return True
        if not sys.stdin.isatty():
            raise CommandError(
                f'Nobody is there to answer "{question}": pass --yes, or --dry-run to look only.',
                returncode=WRONG_USAGE,
            )
        self._write(self._stderr, f"{question} [y/N] ", ending="")
        self._stderr.flush()
        try:
            answer = input()
        except EOFError:
            answer = ""
        return answer.strip().lower() in {"y", "yes"}

    def progress(self, verb: str, total: int) -> Progress:
        """Return what tells how far a long act has come."""
        return Progress(self._stderr, verb, total)

    def _write(self, to: OutputWrapper, text: str, style: Any = None, ending: str = "\n") -> None:
        shown = clean(text, keep_lines=True)
        encoding = getattr(to, "encoding", None) or "utf-8"
        shown = shown.encode(encoding, "backslashreplace").decode(encoding)
        _raw(to, (style(shown) if style else shown) + ending)


def _raw(to: OutputWrapper, text: str) -> None:
    # The wrapper of stderr paints everything red, and an ending of its own swallows empty lines.
    to.write(text, _unpainted, ending="")


def _unpainted(text: str) -> str:
    return text


class Progress:
    """Tells on stderr how far a long act has come; a short one stays silent.

    Args:
        to: where to.
        verb: what is being done, as in "requeued".
        total: how many there are.
    """

    def __init__(self, to: OutputWrapper, verb: str, total: int) -> None:
        self._to = to
        self._verb = verb
        self._total = total
        self._live = to.isatty()
        self._next = time.monotonic() + (_LIVE_PROGRESS_EVERY if self._live else 1.0)
        self._shown = False
        self.done = 0

    def add(self, count: int) -> None:
        """Note that so many more are done."""
        self.done += count
        if time.monotonic() >= self._next:
            self._show()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._shown and self._live:
            _raw(self._to, "\r\x1b[K")
        if kind is not None and self.done:
            done = f"{self._verb} {self.done:,} of {self._total:,}"
            _raw(self._to, f"Interrupted: {done}, and that stays.\n")

    def _show(self) -> None:
        pause = _LIVE_PROGRESS_EVERY if self._live else _PLAIN_PROGRESS_EVERY
        self._next = time.monotonic() + pause
        self._shown = True
        text = f"{self._verb} {self.done:,} of {self._total:,} …"
        _raw(self._to, f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._to.flush()


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        columns: its columns.
        rows: the cells as text.
        width: the columns of the terminal; None for as wide as it gets.
    """
    shown = list(range(len(columns)))
    widths = [
        max(len(column.title), *(len(row[n]) for row in rows), 0)
        for n, column in enumerate(columns)
    ]
    if width is not None:
        shown = _narrow(columns, widths, width)
    for cells in ([column.title for column in columns], *rows):
        yield _GAP.join(_fit(cells[n], widths[n], columns[n].right) for n in shown).rstrip()


def _narrow(columns: Sequence[Column], widths: list[int], width: int) -> list[int]:
    """Shrink widths in place and return the indexes of the columns that there is room for."""
    shown = list(range(len(columns)))
    while True:
        least = [min(widths[n], columns[n].least or widths[n]) for n in shown]
        spare = [n for n in shown if columns[n].spare]
        if sum(least) + len(_GAP) * (len(shown) - 1) <= width or not spare:
            break
        shown.remove(spare[-1])
    over = sum(widths[n] for n in shown) + len(_GAP) * (len(shown) - 1) - width
    while over > 0:
        room = {n: widths[n] - (columns[n].least or widths[n]) for n in shown}
        widest = max(room, key=lambda n: room[n])
        if room[widest] <= 0:
            break
        widths[widest] -= 1
        over -= 1
    return shown


def _fit(cell: str, size: int, right: bool) -> str:
    text = cell if len(cell) <= size else cell[: size - 1] + "…"
    return text.rjust(size) if right else text.ljust(size)


def clean(value: object, *, keep_lines: bool = False) -> str:
    """Return text that a terminal shows and does not obey."""
    text = "" if value is None else str(value)
    if not keep_lines:
        text = " ".join(text.split())
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _plain(value: object) -> str:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")
