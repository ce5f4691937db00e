"""Where a run of the demo lives: a directory of its own, free ports, and the environment."""

import fcntl
import os
import shutil
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from example_project.demo.children import DemoError

ROOT = Path(__file__).resolve().parent.parent.parent
WEB_PORT, GATEWAY_PORT, REDIS_PORT = 8000, 8010, 6390

_MOST_DEMOS = 9
_PORTS_TRIED = 200


@dataclass(frozen=True, slots=True)
class Place:
    """One run's surroundings.

    Attributes:
        directory: database, e-mails, books and logs; empty at the start.
        web_port: of the shop; the next two are of the gateway and of the embedded Redis.
        own_broker: whether the demo runs its own Redis (and may therefore wipe all of it).
        environment: what every process of this run gets.
    """

    directory: Path
    web_port: int
    gateway_port: int
    redis_port: int
    own_broker: bool
    environment: dict[str, str]
    lock: IO[str] = field(repr=False)

    @property
    def address(self) -> str:
        """Where the shop is to be found."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def gateway(self) -> str:
        """Where the gateway is to be found."""
        return f"http://127.0.0.1:{self.gateway_port}"


def find_place(web_port: int) -> Place:
    """Choose a directory and ports that no other demo uses, and clear the directory.

    Args:
        web_port: where the shop would like to be; the next free port is taken.

    Returns:
        The place.

    Raises:
        DemoError: too many demos run already, or no port is free.
    """
    directory, lock = _claim_directory(ROOT / "var")
    taken: set[int] = set()
    web, gateway, redis = (_free_port(n, taken) for n in (web_port, GATEWAY_PORT, REDIS_PORT))
    name = f"shop-demo-{uuid.uuid4().hex[:8]}"
    given = os.environ.get("CELERY_BROKER_URL") or os.environ.get("REDIS_URL")
    environment = dict(os.environ)
    environment.update(
        DJANGO_SETTINGS_MODULE="example_project.settings",
        PYTHONUNBUFFERED="1",
        SHOP_VAR=str(directory),
        SHOP_GATEWAY_URL=f"http://127.0.0.1:{gateway}",
        CELERY_BROKER_URL=given or f"redis://127.0.0.1:{redis}/0",
        # Names of its own keep a shared broker's other messages out of harm's way.
        SHOP_QUEUE="shop" if given is None else name,
        SHOP_KEY_PREFIX="" if given is None else f"{name}:",
    )
    environment.setdefault("DATABASE_URL", f"sqlite:///{directory}/shop.sqlite3")
    return Place(
        directory=directory,
        web_port=web,
        gateway_port=gateway,
        redis_port=redis,
        own_broker=given is None,
        environment=environment,
        lock=lock,
    )


def _claim_directory(var: Path) -> tuple[Path, IO[str]]:
    """Take the first ``var/demo*`` that no running demo holds, and empty it."""
    var.mkdir(parents=True, exist_ok=True)
    for number in range(1, _MOST_DEMOS + 1):
        directory = var / ("demo" if number == 1 else f"demo-{number}")
        lock = (var / f".{directory.name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir()
        return directory, lock
    raise DemoError(f"{_MOST_DEMOS} demos are running already in {var}")


def _free_port(wish: int, taken: set[int]) -> int:
    for port in range(wish, wish + _PORTS_TRIED):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        taken.add(port)
        return port
    raise DemoError(f"no free port from {wish} to {wish + _PORTS_TRIED - 1}")
