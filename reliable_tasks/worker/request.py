"""Celery's view of one message in the worker's main process, and what of it concerns the ledger."""

from __future__ import annotations

import time
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request

from .. import arguments
from ..restoring import entry_of
from . import inbox

logger = get_logger("reliable_tasks.worker")


class ReliableRequest(Request):  # type: ignore[misc]
    """Reports lost children and hard time limits to the keeper instead of failing the task.

    Celery would store a failure and forget the task. Here the entry decides what follows.
    """

    @property
    def argsrepr(self) -> str:
        """The positional arguments as events and logs show them."""
        return self._hidden(0) or str(super().argsrepr)

    @property
    def kwargsrepr(self) -> str:
        """The keyword arguments as events and logs show them."""
        return self._hidden(1) or str(super().kwargsrepr)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe the message for ``celery inspect``."""
        told: dict[str, Any] = super().info(safe)
        if hidden := self._hidden(0):
            told.update(args=hidden, kwargs=self._hidden(1))
        return told

    def _hidden(self, which: int) -> str:
        """Return the arguments masked, where the sender of the message had no need to."""
        if not getattr(self.task, "sensitive", ()):
            return ""
        args, kwargs = self._args or (), self._kwargs or {}
        return repr(arguments.masked(self.task, args, kwargs)[which])

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A time limit was exceeded; the pool ends the child if it was the hard one."""
        if soft:
            super().on_timeout(soft, timeout)
            return
        state.task_ready(self)
        if not state.should_terminate:
            logger.error("Hard time limit (%ss) exceeded for %s[%s]", timeout, self.name, self.id)
            inbox.leave(inbox.TimedOut(entry_of(self), timeout, time.monotonic()))

    def cancel(self, pool: Any, *args: Any, **kwargs: Any) -> None:
        """The worker stops at once, and so must what it runs."""
        if self.worker_pid:
            inbox.leave(inbox.Stopping(entry_of(self), self.worker_pid))
        try:
            super().cancel(pool, *args, **kwargs)
        except NotImplementedError:  # raised into the body, where the pool has no processes
            logger.warning("%s[%s] goes on: this pool cannot stop it.", self.name, self.id)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """The attempt ended with an exception, or its child died."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, TimeLimitExceeded | MemoryError):
            # For the one, on_timeout follows. The other, Celery would raise here again, which ends
            # this worker and all it runs; the attempt itself has reported it.
            state.task_ready(self)
            return None
        lost = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if not lost or isinstance(error, Terminated):
            return super().on_failure(exc_info, send_failed_event, return_ok)
        state.task_ready(self)
        if not state.should_terminate:
            logger.error("The process of %s[%s] was lost: %s", self.name, self.id, error)
            inbox.leave(inbox.Lost(entry_of(self), self.worker_pid, time.monotonic()))
        return None
