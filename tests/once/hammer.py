"""A process that calls a task with few keys as often as it can, and finishes some entries itself.

Run as ``python -m tests.once.hammer CALLS KEYS SEED SHARE``. It prints one JSON object: how many of
its calls were written, refused, and finished. ``SHARE`` of the entries that it wrote it finishes at
once, so that keys change hands all the time.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any
from uuid import UUID

import django


def hammer(calls: int, keys: int, seed: int, share: float) -> dict[str, Any]:
    """Call so often, and return what came of it."""
    from celery import Celery

    from reliable_tasks import AlreadyQueued, ReliableTask, ledger

    app = Celery("hammer", broker="memory://")

    @app.task(base=ReliableTask, name="hammer.once", once={"keys": ["number"]})
    def once(number: int, caller: int) -> None:
        """Do nothing, once for each number."""

    choose = random.Random(seed)
    counts = {"written": 0, "refused": 0, "finished": 0}
    began = time.monotonic()
    for _ in range(calls):
        try:
            # Due much later, so that nothing is published: the keys alone are meant.
            result = once.apply_async((choose.randrange(keys), seed), countdown=3600)
        except AlreadyQueued:
            counts["refused"] += 1
            continue
        counts["written"] += 1
        if choose.random() < share:
            held = ledger.claim(UUID(result.id), f"hammer#{seed}", lease=60.0, ignore_due=True)
            assert held is not None
            ledger.succeed(held)
            counts["finished"] += 1
    return {**counts, "seconds": time.monotonic() - began}


def main() -> None:
    """Run what the command line says."""
    django.setup()
    calls, keys, seed = map(int, sys.argv[1:4])
    sys.stdout.write(json.dumps(hammer(calls, keys, seed, float(sys.argv[4]))) + "\n")


if __name__ == "__main__":
    main()
