"""The processes of a worker's pool: which of them live, and since when the others are known dead.

Note [Whose attempt was lost]: Celery tells of a dead child seconds late. Meanwhile its entry may
have been rescued, and another child may have claimed it, which Celery does not know yet either. An
attempt that began after a process was known to be dead was not that process's attempt.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

# Celery forgets the requests of a dead child within seconds; so many do not die in that time.
_REMEMBERED: Final = 1000


class Children:
    """Looks at the children of a worker's pool, and remembers those found dead.

    Args:
        worker: Celery's worker controller.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._dead_since: dict[int, float] = {}

    def living(self) -> set[int] | None:
        """Return the process ids of the children that live; None for pools without children."""
        pool = getattr(self._worker.pool, "_pool", None)
        children = getattr(pool, "_pool", None)
        if not isinstance(children, list) or "prefork" not in type(self._worker.pool).__module__:
            return None
        pids = [child.pid for child in list(children)]
        # One that is being forked at this moment has no id yet.
        alive = {pid for pid in pids if pid is not None and not _has_exited(pid)}
        for pid in alive & self._dead_since.keys():  # a number that was given again
            del self._dead_since[pid]
        return alive

    def dead_since(self, pid: int | None, noticed: float | None = None) -> float:
        """Return since when a process is known to be dead. See Note [Whose attempt was lost].

        Args:
            pid: the process, which does not live; None if nobody knows which it was.
            noticed: when somebody else said so; None for now.

        Returns:
            A time on this process's monotonic clock.
        """
        since = time.monotonic() if noticed is None else noticed
        if pid is None:
            return since
        since = min(since, self._dead_since.get(pid, since))
        while len(self._dead_since) >= _REMEMBERED:
            del self._dead_since[next(iter(self._dead_since))]
        self._dead_since[pid] = since
        return since


def _has_exited(pid: int) -> bool:
    # A look that leaves the exit status for Celery, which notices up to five seconds later.
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except (AttributeError, OSError):  # no such call here, or Celery has collected it already
        return False
