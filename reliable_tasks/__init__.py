"""Reliable Celery tasks for Django: a database ledger is the truth, the broker is a wake-up.

The names below are the whole public surface of the root. They load on first use, so that
``import reliable_tasks`` works before Django's apps are ready (as in ``settings.py``).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        AlreadyQueued,
        ArgumentError,
        AttemptCancelled,
        ConfigurationError,
        Fenced,
        OptionError,
        ReliableTasksError,
        TransactionMismatch,
    )
    from .parameters import Load
    from .queue_once import QueueOnce
    from .states import State
    from .task import ReliableTask

__version__ = "0.1.0"

__all__ = [
    "AlreadyQueued",
    "ArgumentError",
    "AttemptCancelled",
    "ConfigurationError",
    "Fenced",
    "Load",
    "OptionError",
    "QueueOnce",
    "ReliableTask",
    "ReliableTasksError",
    "State",
    "TransactionMismatch",
]

_HOMES = {
    "Load": "parameters",
    "QueueOnce": "queue_once",
    "ReliableTask": "task",
    "State": "states",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
