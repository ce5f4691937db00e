"""What the terminal shows: events as they happen, and below them a panel that is redrawn.

Where the output is no terminal, the panel becomes a plain line every few seconds,
if anything has changed.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

_WIDTH = 30  # characters of a full bar
_PLAIN_SECONDS = 3.0  # between two plain lines


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the panel.

    Attributes:
        name: what is counted.
        done: how far it is.
        total: how far it goes.
    """

    name: str
    done: int
    total: int


class Display:
    """Writes to one stream.

    Args:
        stream: where to; standard output if not given.
        began: the ``time.monotonic`` that the clock counts from; now if not given.
    """

    def __init__(self, stream: TextIO | None = None, began: float | None = None) -> None:
        self._stream = stream or sys.stdout
        self._began = time.monotonic() if began is None else began
        self._live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._live and "NO_COLOR" not in os.environ
        self._drawn = 0
        self._last_plain = ""
        self._last_time = float("-inf")
        encoding = (self._stream.encoding or "ascii").lower().replace("-", "")
        self._full, self._empty = ("█", "░") if encoding == "utf8" else ("#", ".")

    @property
    def seconds(self) -> float:
        """Time since the demo began."""
        return time.monotonic() - self._began

    def event(self, text: str) -> None:
        """Write a line that stays, with the time."""
        clock = self.paint(f"{self.seconds:5.1f} s", "2")
        self.write(f"{clock}  {text}")

    def write(self, text: str) -> None:
        """Write text that stays."""
        self._erase()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def panel(self, bars: Sequence[Bar], note: str) -> None:
        """Redraw the panel.

        Args:
            bars: its bars.
            note: its last line.
        """
        if not self._live:
            self._plain(bars, note)
            return
        self._erase()
        lines = ["", *(self._line(bar) for bar in bars), f"  {note}"]
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)

    def paint(self, text: str, code: str) -> str:
        """Colour a text, where there are colours.

        Args:
            text: the text.
            code: number of the ANSI style.
        """
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def good(self, text: str) -> str:
        """Colour what is right."""
        return self.paint(text, "32")

    def bad(self, text: str) -> str:
        """Colour what is wrong."""
        return self.paint(text, "1;31")

    def _line(self, bar: Bar) -> str:
        filled = _WIDTH * bar.done // max(bar.total, 1)
        drawn = self.good(self._full * filled) + self._empty * (_WIDTH - filled)
        return f"  {bar.name:<10}{drawn}  {bar.done}/{bar.total}"

    def _plain(self, bars: Sequence[Bar], note: str) -> None:
        counts = ", ".join(f"{bar.name} {bar.done}/{bar.total}" for bar in bars)
        line = f"... {counts}, {note}"
        if line != self._last_plain and self.seconds - self._last_time >= _PLAIN_SECONDS:
            self._last_plain, self._last_time = line, self.seconds
            self.event(line)

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
