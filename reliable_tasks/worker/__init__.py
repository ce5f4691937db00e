"""What runs inside a Celery worker: heartbeat, sweeper, and the keeping of connections."""

from __future__ import annotations

from typing import Any

from celery import signals


def install() -> None:
    """Make every worker of this process start the boot step by itself."""
    signals.worker_init.connect(_add_step, dispatch_uid="reliable_tasks.worker", weak=False)


def _add_step(sender: Any, **_: object) -> None:
    from .step import ReliableStep

    sender.app.steps["worker"].add(ReliableStep)
