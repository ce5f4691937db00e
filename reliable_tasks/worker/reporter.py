"""What a worker tells of itself with each heartbeat, and how to look at what Celery knows of it."""

from __future__ import annotations

import os
import platform
from collections import Counter
from typing import Any

import celery
import django
from celery.worker import state as worker_state

from .. import __version__, calling
from ..ledger import EMBEDDED_BEAT, WorkerReport
from ..task import ReliableTask


class Reporter:
    """Describes a worker for the table of workers.

    Args:
        worker: Celery's worker controller.
        identity: what it signs with.
    """

    def __init__(self, worker: Any, identity: str) -> None:
        self._worker = worker
        self._identity = identity
        known = sorted(worker.app.tasks.items())
        self._tasks = [name for name, task in known if isinstance(task, ReliableTask)]

    def report(self) -> WorkerReport:
        """Return how the worker is now."""
        worker = self._worker
        consumer = getattr(worker, "consumer", None)
        queues = getattr(getattr(consumer, "task_consumer", None), "queues", None) or []
        names = {getattr(queue, "name", str(queue)) for queue in queues}
        return WorkerReport(
            identity=self._identity,
            hostname=worker.hostname,
            pid=os.getpid(),
            pool=type(worker.pool).__module__.rpartition(".")[2],
            concurrency=worker.concurrency,
            queues=sorted(names or worker.app.amqp.queues.consume_from),
            fetched=self._fetched(),
            versions={
                "python": platform.python_version(),
                "django": django.get_version(),
                "celery": celery.__version__,
                "reliable_tasks": __version__,
                **({EMBEDDED_BEAT: "yes"} if getattr(worker, "beat", None) else {}),
            },
            tasks=self._tasks,
        )

    def _fetched(self) -> Counter[str]:
        """Count the messages of each queue that are fetched and not begun."""
        begun = set(snapshot(worker_state.active_requests))
        fetched = {*snapshot(worker_state.reserved_requests), *snapshot(self._slowed())} - begun
        return Counter(
            calling.queue_of(self._worker.app, request.delivery_info) for request in fetched
        )

    def _slowed(self) -> list[Any]:
        """Return what a ``rate_limit`` holds back: fetched, and not yet reserved for Celery."""
        buckets = getattr(getattr(self._worker, "consumer", None), "task_buckets", None) or {}
        return [
            request
            for bucket in copy_of(buckets.values())
            if bucket is not None
            for request, _ in copy_of(bucket.contents)
        ]


def snapshot(requests: Any) -> list[Any]:
    """Copy a set of Celery's requests, those of reliable tasks, while its event loop changes it."""
    return [each for each in copy_of(requests) if isinstance(each.task, ReliableTask)]


def copy_of(changing: Any) -> list[Any]:
    """Copy a set while another thread changes it."""
    while True:
        try:
            return list(changing)
        except RuntimeError:  # it changed while it was copied
            continue
