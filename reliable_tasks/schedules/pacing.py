"""Tells a beat what it is time for."""

from __future__ import annotations

from collections.abc import Callable


class Every:
    """Tells when a number of seconds has passed since it last told so.

    Args:
        seconds: how many.
        clock: counts seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last: float | None = None

    def due(self) -> bool:
        """Tell whether it is time, and begin to count again if so."""
        now = self._clock()
        if self._last is not None and now - self._last < self._seconds:
            return False
        self._last = now
        return True

    def again(self) -> None:
        """Be due at once."""
        self._last = None
