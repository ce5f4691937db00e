"""Keeps time limits and termination out of the few lines that write an outcome down."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

# What a pool sends to a child: the soft time limit, and the order to end.
_SIGNALS: Final = [
    found
    for name in ("SIGUSR1", "SIGTERM", "SIGINT", "SIGQUIT")
    if (found := getattr(signal, name, None)) is not None
]
_SOFT_LIMIT: Final = int(getattr(signal, "SIGUSR1", 0))


class Shield:
    """Holds signals back from :meth:`up` until the end of the ``with`` block.

    A SoftTimeLimitExceeded that lands between COMMIT and the next line would make a success look
    like a failure. Signals interrupt only the main thread, so elsewhere this does nothing.

    Note [Handlers, not masks]: a signal that the main thread has blocked is taken by any other
    thread, such as the publisher's, and its Python handler runs in the main thread all the same.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._held: dict[int, FrameType | None] = {}
        self._is_up = False

    def up(self) -> None:
        """Hold signals back from here on. See Note [Handlers, not masks]."""
        if self._is_up or threading.current_thread() is not threading.main_thread():
            return
        self._is_up = True
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):
                self._handlers[number] = handler
                signal.signal(number, self._hold)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self._is_up:
            self._held[number] = frame
        else:
            self._deliver(number, frame)

    def _deliver(self, number: int, frame: FrameType | None) -> None:
        handler = self._handlers[number]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            os.kill(os.getpid(), number)

    def __enter__(self) -> Shield:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_up = False
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if error is None:
            # It came too late: what it was to limit has ended and is written down.
            self._held.pop(_SOFT_LIMIT, None)
        for number, frame in self._held.items():
            self._deliver(number, frame)
