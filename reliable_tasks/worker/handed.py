"""What a pool's processes were handed stays known when the connection to the broker is lost.

Celery then forgets what the pool has not begun, because the broker delivers it again. That includes
a message on its way into a process's pipe; up to Celery 5.6 also one that stands there behind a
long body, which it does after an earlier loss. But the process gets to it, and runs it: nobody
would renew its lease or limit its time. Celery 5.5 even forgets what runs, and nobody learns that
it has ended: it passes for running as long as its process lives.
"""

from __future__ import annotations

from typing import Any


def keep_track(pool: Any) -> None:
    """Let a pool of processes forget only what none of them was handed.

    Args:
        pool: the worker's.
    """
    forget = getattr(pool, "flush", None)
    if forget is None:  # no processes, or none that are fed by an event loop
        return

    def forget_the_rest() -> None:
        known = pool._pool._cache
        handed = {number: job for number, job in list(known.items()) if job._write_to is not None}
        forget()
        for number, job in handed.items():
            # What has ended or died meanwhile has been told.
            if not job.ready() and job._write_to._is_alive():
                known.setdefault(number, job)

    pool.flush = forget_the_rest
