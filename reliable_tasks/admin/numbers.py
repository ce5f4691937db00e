"""Numbers and lengths of time as a person wants to read them."""

from __future__ import annotations

from datetime import timedelta

from ..spans import span


def number(value: float) -> str:
    """Return a number with as many digits as a person wants to read."""
    if value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def seconds(value: float) -> str:
    """Return a length of time that may be a millisecond or an hour."""
    if value < 1:
        return f"{value * 1000:.0f} ms" if value >= 0.001 or value == 0 else "< 1 ms"
    return f"{value:.3g} s" if value < 60 else span(timedelta(seconds=value))
