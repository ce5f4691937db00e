"""Messages for tasks that a worker does not know: their entries wait for one that does.

Celery would store a failure for the task at once, and tell whoever waits for its result. That is
wrong: during a deploy the next worker to get a message may run the entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import signals
from celery.utils.log import get_logger

from ..wakeup import MARK

logger = get_logger("reliable_tasks.worker")


def take_over(consumer: Any) -> None:
    """Put this module in the place of the consumer's way with unknown tasks, for wake-ups.

    Args:
        consumer: Celery's consumer. Messages of others keep what it does.
    """
    consumer.on_unknown_task = _unless_entry(consumer, consumer.on_unknown_task)


def _unless_entry(consumer: Any, theirs: Callable[..., Any]) -> Callable[..., Any]:
    def on_unknown_task(body: Any, message: Any, exc: Exception) -> Any:
        headers = message.headers or {}
        if MARK not in headers or "task" not in headers:
            return theirs(body, message, exc)
        logger.error(
            "Received unregistered task of type %s. Its entry %s waits for a worker that knows it.",
            *(exc, headers.get("id")),
        )
        message.reject_log_error(logger, consumer.connection_errors)
        signals.task_unknown.send(
            sender=consumer, message=message, exc=exc, name=headers["task"], id=headers.get("id")
        )
        return None

    return on_unknown_task
