"""Processes that the demo starts, and ends again whatever happens.

Each child leads a process group of its own, so that a kill takes its children along, and asks the
kernel (where it can) to die with the demo. Start children from the main thread only: the kernel
counts the death of the thread that started them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL = 15  # lines of a log that an error shows


class DemoError(Exception):
    """The demo cannot go on; the text is for the person who started it."""


class Child:
    """One process with its log. It can be started again after it ended.

    Args:
        name: what to call it; also names its log.
        command: the arguments, the executable first.
        environment: all its environment variables.
        directory: where it runs.
        log: file that its output is appended to.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment)
        self.directory = directory
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        if self._process is None:
            raise DemoError(f"the {self.name} was never started")
        return self._process.pid

    def start(self) -> None:
        """Start it."""
        launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launch + self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end.

        Args:
            seconds: how long at most.

        Returns:
            True if it has ended.
        """
        if self._process is None:
            return True
        try:
            self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def freeze(self) -> None:
        """Stop it and everything in its group in mid-air, until they thaw or die."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it and everything in its group go on."""
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it and everything in its group, and wait until it is gone."""
        self._signal_group(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        # Either error says that nothing of the group is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def tail(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(f"    {line}" for line in lines[-_TAIL:])


def wait_until(ready: Callable[[], bool], child: Child, seconds: float) -> None:
    """Wait until a child that was just started is of use.

    Args:
        ready: tells whether it is.
        child: the child.
        seconds: how long at most.

    Raises:
        DemoError: it ended, or was not ready in time; shows the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if not child.is_alive():
            raise DemoError(f"the {child.name} ended at once; its log ends:\n{child.tail()}")
        if time.monotonic() > deadline:
            late = f"the {child.name} is not ready after {seconds:.0f} s"
            raise DemoError(f"{late}; its log ends:\n{child.tail()}")
        time.sleep(0.05)


def end_all(children: Iterable[Child], seconds: float) -> None:
    """End children: ask first, then kill, groups included.

    Args:
        children: in the order of their start; they are asked in the opposite order.
        seconds: how long they may take, all together.
    """
    backwards = list(children)[::-1]
    try:
        for child in backwards:
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for child in backwards:
            child.wait(deadline - time.monotonic())
    finally:
        # Also reached by a second Ctrl-C, which means: now.
        for child in backwards:
            child.kill()
