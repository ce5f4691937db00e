"""Lengths of time as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

_SIZES: Final = (86400, 3600, 60, 1)
UNITS: Final = ("d", "h", "m", "s")


def span(length: timedelta, units: Sequence[str] = UNITS) -> str:
    """Return a length of time in at most two units: ``0.4s``, ``12s``, ``3m 5s``, ``2d 4h``.

    Args:
        length: the length.
        units: what stands behind a number of days, hours, minutes and seconds.
    """
    seconds = abs(length.total_seconds())
    sign = "-" if length < timedelta(0) else ""
    if seconds < 1:
        # Clocks read a moment apart make tiny negative spans.
        return f"{seconds:.1f}{units[-1]}"
    whole = int(seconds)
    n = next(n for n, size in enumerate(_SIZES) if whole >= size)
    head, rest = divmod(whole, _SIZES[n])
    tail = rest // _SIZES[n + 1] if n + 1 < len(_SIZES) else 0
    return f"{sign}{head}{units[n]}" + (f" {tail}{units[n + 1]}" if tail else "")
