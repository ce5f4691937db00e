"""What is done to the shop while customers order."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from example_project.demo.display import Display
from example_project.demo.stack import Stack
from example_project.demo.watch import running_wholesome

OUTAGE_SECONDS = 5.0
_AIM_SECONDS = 5.0  # how long to wait for a moment at which a kill hurts
_PILE_UP_SECONDS = 1.0  # without a worker, so that the broker holds something to be wiped


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that goes wrong.

    Attributes:
        at: seconds after the first order.
        strike: does it and says what it did.
    """

    at: float
    strike: Callable[[], None]


class Mischief:
    """Strikes each blow at its time; all from the caller's thread.

    Args:
        stack: the victim.
        display: where each blow is announced.
        span: seconds over which the orders are placed; the blows are spread over them.
    """

    def __init__(self, stack: Stack, display: Display, span: float) -> None:
        self._stack = stack
        self._display = display
        self._blows: Iterator[Blow] = iter(self._plan(span))
        self._next: Blow | None = next(self._blows)

    @property
    def over(self) -> bool:
        """Whether all blows have been struck."""
        return self._next is None

    def strike_due(self, elapsed: float) -> None:
        """Strike what is due.

        Args:
            elapsed: seconds since the first order.
        """
        while self._next is not None and elapsed >= self._next.at:
            self._next.strike()
            self._next = next(self._blows, None)

    def _plan(self, span: float) -> list[Blow]:
        outage_ends = 0.35 * span + min(OUTAGE_SECONDS, 0.25 * span)
        return [
            Blow(0.15 * span, self._kill_worker),
            Blow(0.35 * span, self._begin_outage),
            Blow(outage_ends, self._end_outage),
            Blow(0.60 * span, self._kill_beat),
            Blow(0.70 * span, self._wipe_broker),
            Blow(0.85 * span, self._hurry_worker),
        ]

    def _kill_worker(self) -> None:
        running = self._freeze_at_work()
        pid = self._stack.kill_worker()
        self._say(f"worker {pid} killed with SIGKILL while it ran {_entries(running)}")
        self._stack.start_worker()

    def _kill_beat(self) -> None:
        pid = self._stack.kill_beat()
        self._say(f"beat {pid}, which led, killed with SIGKILL: the other one takes over")

    def _hurry_worker(self) -> None:
        running = self._freeze_at_work()
        pid = self._stack.worker.pid
        how = "stopped" if self._stack.stop_worker() else "did not stop, and was killed"
        self._say(f"worker {pid}, running {_entries(running)}, was told to stop at once: it {how}")
        self._stack.start_worker()

    def _wipe_broker(self) -> None:
        self._freeze_at_work()
        pid = self._stack.kill_worker()
        time.sleep(_PILE_UP_SECONDS)
        lost = self._stack.wipe_broker()
        self._stack.start_worker()
        self._say(f"worker {pid} killed, and the broker wiped: {lost} wake-ups lost")

    def _begin_outage(self) -> None:
        self._stack.begin_outage()
        self._say("the payment gateway refuses everybody")

    def _end_outage(self) -> None:
        self._stack.end_outage()
        self._say("the payment gateway is back (and as moody as ever)")

    def _freeze_at_work(self) -> int:
        """Freeze the worker at a moment at which it runs something, so that a blow is sure to hit.

        Returns:
            How many entries it runs; 0 if there was no such moment.
        """
        worker = self._stack.worker
        deadline = time.monotonic() + _AIM_SECONDS
        while True:
            if running_wholesome() or time.monotonic() > deadline:
                worker.freeze()
                running = running_wholesome()
                if running or time.monotonic() > deadline:
                    return running
                worker.thaw()
            time.sleep(0.005)

    def _say(self, text: str) -> None:
        self._display.event(self._display.paint(text, "33"))


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
