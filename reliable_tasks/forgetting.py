"""Has Celery's result backend forget many results at once, where it can. Knows nothing of ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger("reliable_tasks.results")


def forget(backend: Any, ids: Sequence[str]) -> None:
    """Have Celery forget the stored ends of tasks that run again; at once, where it can.

    A result backend forgets one result with each round trip. A requeue of many would wait for that
    most of its time.

    Args:
        backend: the result backend of their tasks.
        ids: their ids, as Celery knows them.
    """
    try:
        if _is(backend, "django_celery_results.backends.database", "DatabaseBackend"):
            backend.TaskModel._default_manager.filter(task_id__in=ids).delete()
        elif _is(backend, "celery.backends.redis", "RedisBackend"):
            backend.client.delete(*(backend.get_key_for_task(each) for each in ids))
        else:
            for each in ids:
                backend.forget(each)
            return
        for each in ids:
            backend._cache.pop(each, None)
            if consumer := getattr(backend, "result_consumer", None):
                consumer.cancel_for(each)
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not forget %d ends: %r", len(ids), failed)


def _is(backend: Any, module: str, name: str) -> bool:
    """Tell whether a backend is of a kind, and is no subclass that forgets in a way of its own."""
    # Where there is one, its module is loaded; where there is none, it need not be installed.
    kind = getattr(sys.modules.get(module), name, None)
    return (
        kind is not None
        and isinstance(backend, kind)
        and all(
            getattr(type(backend), each, None) is getattr(kind, each, None)
            for each in ("forget", "_forget", "delete")
        )
    )
