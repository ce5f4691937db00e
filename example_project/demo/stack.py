"""Everything that makes the shop run: Redis, gateway, worker, beat and web server."""

import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from example_project.broker import server_command
from example_project.demo.brokers import RedisBroker, broker_of
from example_project.demo.children import Child, DemoError, end_all, wait_until
from example_project.demo.place import ROOT, Place
from example_project.shop import gateway
from reliable_tasks.schedules.beats import leader

READY_SECONDS = 25.0  # for a process to be of use; a busy machine needs some
_CONCURRENCY = 3

# The proxies of the environment are not for loopback.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Stack:
    """The shop's processes. As a context manager it ends them all when it is left.

    Args:
        place: where they live.
        farewell: seconds that they get to end by themselves.
    """

    def __init__(self, place: Place, farewell: float = 3.0) -> None:
        self.place = place
        self.farewell = farewell
        self._all: list[Child] = []
        self._broker = broker_of(place)
        python, celery = sys.executable, [sys.executable, "-m", "celery", "-A", "example_project"]
        self.gateway = self._child(
            "gateway",
            *(python, "-m", "example_project.gateway"),
            *("--port", str(place.gateway_port)),
            *("--book", str(place.directory / "gateway.sqlite3")),
        )
        # Celery warns of DEBUG in a worker: it keeps every query. The web server needs it to
        # serve the style sheet.
        self.worker = self._child(
            "worker",
            *(*celery, "worker", "--pool", "prefork", "--concurrency", str(_CONCURRENCY)),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle"),
            *("--hostname", "shop@%h"),
            SHOP_DEBUG="0",
        )
        # Any number may run: one leads, and the others take over when it is gone.
        self.beats = [
            self._child(
                name,
                *(*celery, "beat", "--loglevel", "INFO"),
                *("--pidfile", ""),
                SHOP_DEBUG="0",
            )
            for name in ("beat", "beat-2")
        ]
        self.web = self._child(
            "web",
            *(python, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{place.web_port}"),
            SHOP_DEBUG="1",
        )

    def _child(self, name: str, *command: str, **environment: str) -> Child:
        return Child(
            name,
            command,
            environment=self.place.environment | environment,
            directory=ROOT,
            log=self.place.directory / f"{name}.log",
        )

    def _start(self, child: Child) -> None:
        # Noted first: whatever happens next, it will be ended.
        if child not in self._all:
            self._all.append(child)
        child.start()

    def start_broker(self) -> None:
        """Start the embedded Redis, unless a broker was given.

        Raises:
            DemoError: it does not come up.
        """
        if self.place.own_broker and isinstance(self._broker, RedisBroker):
            server = self._child("redis", *server_command(self.place.redis_port))
            self._start(server)
            wait_until(self._broker.answers, server, READY_SECONDS)

    def start(self) -> None:
        """Start everything else and wait for what answers over HTTP.

        Raises:
            DemoError: something does not come up.
        """
        for child in (self.gateway, self.worker, self.web, *self.beats):
            self._start(child)
        wait_until(lambda: _answers(f"{self.place.gateway}/health"), self.gateway, READY_SECONDS)
        wait_until(lambda: _answers(f"{self.place.address}/"), self.web, READY_SECONDS)

    def kill_worker(self) -> int:
        """SIGKILL the worker with all its pool processes.

        Returns:
            The process id that it had.
        """
        self.worker.kill()
        return self.worker.pid

    def kill_beat(self) -> int:
        """SIGKILL a beat, the one that leads if there is one, and start it again.

        Returns:
            The process id that it had.
        """
        lease = leader()
        pids = {str(beat.pid): beat for beat in self.beats}
        holder = lease.holder if lease is not None else ""
        chosen = next((beat for pid, beat in pids.items() if f"#{pid}-" in holder), self.beats[0])
        pid = chosen.pid
        chosen.kill()
        self._start(chosen)
        return pid

    def stop_worker(self) -> bool:
        """Tell the worker, frozen or not, to stop at once: a cold shutdown, as SIGQUIT asks for.

        Returns:
            True if it ended in time; it is killed otherwise.
        """
        self.worker.send(signal.SIGQUIT)
        self.worker.thaw()
        in_time = self.worker.wait(5.0)
        self.worker.kill()
        return in_time

    def start_worker(self) -> None:
        """Start the worker again."""
        self._start(self.worker)

    def wipe_broker(self) -> int:
        """Make the broker forget the demo's messages.

        Returns:
            How many wake-ups were lost.
        """
        return self._broker.wipe()

    def begin_outage(self) -> None:
        """Make the gateway refuse everybody."""
        gateway.set_mood(outage=True)

    def end_outage(self) -> None:
        """Let the gateway work again."""
        gateway.set_mood(outage=False)

    def check_alive(self) -> None:
        """Make sure that nothing has ended by itself.

        Raises:
            DemoError: a process is gone; shows the end of its log.
        """
        for child in self._all:
            if not child.is_alive():
                raise DemoError(f"the {child.name} ended by itself; its log ends:\n{child.tail()}")

    def logs(self) -> list[Path]:
        """List the logs written so far."""
        return sorted(self.place.directory.glob("*.log"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            end_all(self._all, self.farewell)
        finally:
            self._broker.leave()


def _answers(address: str) -> bool:
    try:
        with _http.open(address, timeout=2) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
