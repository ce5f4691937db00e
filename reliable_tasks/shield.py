"""Keeps time limits and termination out of the few lines that write an outcome down."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Final

# What a pool sends to a child: the soft time limit, and the order to end.
_SIGNALS: Final = {
    found
    for name in ("SIGUSR1", "SIGTERM", "SIGINT", "SIGQUIT")
    if (found := getattr(signal, name, None)) is not None
}


class Shield:
    """Holds signals back from :meth:`up` until the end of the ``with`` block.

    A SoftTimeLimitExceeded that lands between COMMIT and the next line would make a success look
    like a failure. Signals reach only the main thread, so elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self._before: set[signal.Signals] | None = None

    def up(self) -> None:
        """Hold signals back from here on."""
        if (
            self._before is None
            and hasattr(signal, "pthread_sigmask")
            and threading.current_thread() is threading.main_thread()
        ):
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # type: ignore[assignment]

    def __enter__(self) -> Shield:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
