"""A workload process: writes orders and enqueues their tasks in one transaction, some rolled back.

``python -m prove.producer --seed 1 --rate 40``: ends at SIGTERM, or after ``--count`` orders.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import django

_MIX = "atomic=8,plain=8,flaky=2,flaky_plain=2,parent=2,later=1,long=0.3,long_plain=0.3"
_stopping = threading.Event()


def main() -> None:
    """Produce until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m prove.producer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=30.0, help="orders a second; 0 for no pause")
    parser.add_argument("--count", type=int, default=0, help="how many; 0 for no end")
    parser.add_argument("--mix", default=_MIX, help="kind=weight,…")
    parser.add_argument("--rolled-back", type=float, default=0.15, help="share of rollbacks")
    parser.add_argument("--copies", type=int, default=0, help="extra messages for each entry")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prove.settings")
    django.setup()
    from prove.celery_app import app

    app.loader.import_default_modules()
    print("producing", flush=True)
    _produce(options, random.Random(options.seed))
    print("produced", flush=True)


def _stop(*_: object) -> None:
    _stopping.set()


def _produce(options: argparse.Namespace, rng: random.Random) -> None:
    from django.db import DatabaseError, InterfaceError, connection

    from reliable_tasks.publish import flush

    weights = {kind: float(w) for kind, w in (word.split("=") for word in options.mix.split(","))}
    made = 0
    while not _stopping.is_set() and (not options.count or made < options.count):
        kind = rng.choices(list(weights), list(weights.values()))[0]
        try:
            made += _one(kind, rng, options)
        except (DatabaseError, InterfaceError) as error:
            print(f"the database says: {error}", file=sys.stderr, flush=True)
            connection.close()
            time.sleep(0.3)
        if options.rate:
            time.sleep(rng.expovariate(options.rate))
    flush(5)


def _one(kind: str, rng: random.Random, options: argparse.Namespace) -> int:
    """Write one order, in a transaction that commits or not, and return how many were kept."""
    from django.db import transaction

    with transaction.atomic():
        results = [_order(kind) for _ in range(3 if rng.random() < 0.1 else 1)]
        if rng.random() < options.rolled_back:
            results.clear()
            transaction.set_rollback(True)
    for _ in range(options.copies):
        _copy(kind, [result.id for result in results])
    return len(results)


def _order(kind: str) -> Any:
    from django.utils import timezone

    from prove.shop import tasks
    from prove.shop.models import Order

    number = uuid4()
    task = getattr(tasks, kind)
    if kind == "later":
        Order.objects.create(
            number=number, kind=kind, not_before=timezone.now() + timedelta(seconds=2)
        )
        # A little later by the database's clock than what was promised to the customer.
        return task.apply_async((str(number),), countdown=2.5)
    Order.objects.create(number=number, kind=kind)
    return task.delay(str(number))


def _copy(kind: str, ids: list[str]) -> None:
    from prove.shop import tasks
    from reliable_tasks.publish import publisher
    from reliable_tasks.wakeup import WakeUp

    task = getattr(tasks, kind)
    publisher(task.app).submit([WakeUp(entry, task.name, "prove") for entry in ids])


if __name__ == "__main__":
    main()
