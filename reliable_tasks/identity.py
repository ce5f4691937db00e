"""The name of the worker this process belongs to, the same in its parent and children."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Final

# In the environment, because spawned (not forked) children inherit no globals.
_VARIABLE: Final = "RELIABLE_TASKS_BOOT"


def begin() -> None:
    """Draw a new boot id; called once when a worker starts, before it has children."""
    os.environ[_VARIABLE] = secrets.token_hex(4)


def identity(nodename: str | None) -> str:
    """Return who holds a lease: Celery's node name and the boot id of its worker.

    Args:
        nodename: ``celery@host`` as the request says; None outside a worker.

    Returns:
        ``celery@host#1f2e3d4c``; outside a worker, host and process id.
    """
    boot = os.environ.get(_VARIABLE)
    if boot is None or nodename is None:
        return f"{nodename or socket.gethostname()}#pid{os.getpid()}"
    return f"{nodename}#{boot}"
