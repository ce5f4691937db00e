"""The wake-up: what a broker message for an entry says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: The header that tells a wake-up of ours from a message somebody else sent for the same task: 1,
#: or the entry's id where Celery knows the task by another one.
MARK: Final = "entry"
#: Options of a call that a message must carry because Celery's main process acts on them before
#: any task code runs; all others are read from the entry.
_ON_THE_WIRE: Final = (
    *("timelimit", "shadow", "ignore_result", "stamped_headers", "stamps", "root_id"),
)
_ROUTING: Final = ("exchange", "routing_key", "delivery_mode")


@dataclass(frozen=True, slots=True)
class WakeUp:
    """One message to send.

    Attributes:
        entry: the entry's id as text.
        task: the task's name.
        queue: where it goes.
        priority: the broker's priority, or None.
        options: the entry's options, of which only a few travel.
    """

    entry: str
    task: str
    queue: str
    priority: int | None = None
    options: Mapping[str, Any] | None = None

    def headers(self) -> dict[str, Any]:
        """Return the message's headers: id, task and mark, and rarely more."""
        options = self._options()
        # Tracing libraries hand their context from producer to worker in headers. Ours come last:
        # a caller's header called "id" must not wake another entry.
        given = options.get("headers")
        headers = dict(given) if isinstance(given, Mapping) else {}
        task_id = options.get("task_id")
        headers |= {"task": self.task, "id": task_id or self.entry}
        headers[MARK] = self.entry if task_id else 1
        for name in _ON_THE_WIRE:
            if name in options:
                headers[name] = options[name]
        return headers

    def properties(self) -> dict[str, Any]:
        """Return the message's properties that differ from the default."""
        properties: dict[str, Any] = {}
        if self.priority is not None:
            properties["priority"] = self.priority
        options = self._options()
        if "reply_to" in options:
            properties["reply_to"] = options["reply_to"]
            properties["correlation_id"] = options.get("task_id") or self.entry
        return properties

    def routing(self) -> dict[str, Any]:
        """Return the routing that the call asked for beyond the queue."""
        options = self._options()
        return {name: options[name] for name in _ROUTING if name in options}

    def _options(self) -> Mapping[str, Any]:
        # A row that somebody broke by hand is published all the same: its claim buries it.
        return self.options if isinstance(self.options, Mapping) else {}
