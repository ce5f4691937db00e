"""Asks Celery's result backend about many tasks: at once where it can, and not for ever."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

logger = logging.getLogger("reliable_tasks.results")

# Seconds that an act waits for one result before it leaves the others.
_PATIENCE: Final = 2.0


class AsLongAsItAnswers:
    """Asks a result backend as long as it answers in time.

    One that is down costs Celery twenty seconds for each result, and a person waits for the act.
    """

    def __init__(self) -> None:
        self._too_long = False
        self._left = 0

    def do(self, act: Callable[[], object]) -> None:
        """Do something there, unless the last time took too long."""
        if self._too_long:
            self._left += 1
            return
        began = time.monotonic()
        act()
        self._too_long = time.monotonic() - began > _PATIENCE

    def say_so(self) -> None:
        """Log what was not done."""
        if self._left:
            logger.warning(
                "The result backend takes too long: it is not told of %s more entries. "
                "The ledger has the truth; who waits in get() for one of them goes on waiting.",
                self._left,
            )


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
            slow = AsLongAsItAnswers()
            for each in ids:
                slow.do(partial(_forget_one, backend, each))
            slow.say_so()
            return
        for each in ids:
            backend._cache.pop(each, None)
            if consumer := getattr(backend, "result_consumer", None):
                consumer.cancel_for(each)
    except Exception as failed:  # the ledger has the truth; a result backend may be down
        logger.warning("The result backend did not forget %d ends: %r", len(ids), failed)


def _forget_one(backend: Any, each: str) -> None:
    try:
        backend.forget(each)
    except Exception as failed:
        logger.warning("The result backend did not forget the end of %s: %r", each, failed)


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
