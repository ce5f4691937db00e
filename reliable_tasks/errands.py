"""What a thread that must not wait leaves to another: receivers of signals and result backends.

Note [Errands]: the leases of all that a worker runs depend on the keeper's next heartbeat, and what
other workers have lost depends on the sweeper's next pass. What the two have to tell goes to code
that may take its time: a receiver of the project's that asks some service, an errback that Celery
calls by itself, a result backend that is down, for which Celery tries again for twenty seconds, or
one that never answers. So they leave it to one more thread, which tells it in their order. A beat
does the same: what is due depends on it. Attempts and web processes tell by themselves: nobody's
lease depends on them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

logger = logging.getLogger("reliable_tasks.worker")

#: Seconds that what is left to tell has at the end of a process.
LAST_SECONDS: Final = 2.0
# Telling may be stuck for good, and a worker must not fill its memory with what waits for it.
_MOST: Final = 10_000


class Errands:
    """Carries out in a thread of its own what it is given, one after another.

    Args:
        carry_out: how; it is given each errand.
    """

    def __init__(self, carry_out: Callable[[Callable[[], object]], object]) -> None:
        self._carry_out = carry_out
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], object]] = deque()
        self._busy = False
        self._full = False
        self._thread: threading.Thread | None = None

    def leave(self, errand: Callable[[], object]) -> None:
        """Have something done soon. Returns at once.

        Args:
            errand: what to do; it is dropped if too much waits already.
        """
        with self._changed:
            full, self._full = self._full, len(self._waiting) >= _MOST
            if self._full:
                if not full:
                    logger.error(
                        "Receivers of signals and result backends are not told any more: %s calls "
                        "wait for one that does not return. The ledger is not affected.",
                        _MOST,
                    )
                return
            self._waiting.append(errand)
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._run, name="reliable-tasks-errands", daemon=True
                )
                thread.start()
                self._thread = thread
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything left so far is done.

        Args:
            timeout: longest wait in seconds.

        Returns:
            False if the time was not enough.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                errand = self._waiting.popleft()
                self._busy = True
            try:
                self._carry_out(errand)
            except BaseException:  # somebody else's code, which may call sys.exit()
                logger.exception("What a background thread had to tell could not be told.")
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()


_mine: Final[ContextVar[Errands | None]] = ContextVar("errands", default=None)


def rely_on(errands: Errands) -> None:
    """Have this thread leave what it tells to another from now on.

    Args:
        errands: that thread.
    """
    _mine.set(errands)


@contextmanager
def relied_on(errands: Errands) -> Iterator[None]:
    """Have this thread leave to another what it tells within the block.

    Args:
        errands: that thread.
    """
    before = _mine.set(errands)
    try:
        yield
    finally:
        _mine.reset(before)


def tell(errand: Callable[[], object]) -> None:
    """Do something that may take long: here and now, or elsewhere if this thread must not wait.

    Args:
        errand: what to do.
    """
    errands = _mine.get()
    if errands is None:
        errand()
    else:
        errands.leave(errand)
