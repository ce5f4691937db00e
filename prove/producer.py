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
from uuid import NAMESPACE_OID, uuid4, uuid5

import django

from prove.shop.kinds import PRODUCTS

_MIX = (
    "atomic=8,plain=8,flaky=2,flaky_plain=2,parent=2,later=1,long=0.3,long_plain=0.3,"
    "sole=4,recount=4,event=2"
)
_EVENTS_A_SECOND = 2
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

    from reliable_tasks import AlreadyQueued
    from reliable_tasks.publish import flush

    weights = {kind: float(w) for kind, w in (word.split("=") for word in options.mix.split(","))}
    made = 0
    while not _stopping.is_set() and (not options.count or made < options.count):
        kind = rng.choices(list(weights), list(weights.values()))[0]
        try:
            made += _one(kind, rng, options)
        except AlreadyQueued as held:  # its holder kept starting and ending while it looked
            print(f"refused: {held}", file=sys.stderr, flush=True)
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
        # Sorted: two transactions that take each other's keys would end in a deadlock.
        products = sorted(rng.randrange(PRODUCTS) for _ in range(3 if rng.random() < 0.1 else 1))
        results = [_order(kind, product) for product in products]
        if rng.random() < options.rolled_back:
            results.clear()
            transaction.set_rollback(True)
    for _ in range(options.copies):
        _copy(kind, [result.id for result in results])
    return len(results)


def _order(kind: str, product: int) -> Any:
    from django.utils import timezone

    from prove.shop import tasks
    from prove.shop.models import Order

    number = uuid4()
    task = getattr(tasks, kind)
    if kind in {"sole", "recount", "event"}:
        return _order_with_key(kind, product)
    if kind == "later":
        Order.objects.create(
            number=number, kind=kind, not_before=timezone.now() + timedelta(seconds=2)
        )
        # A little later by the database's clock than what was promised to the customer.
        return task.apply_async((str(number),), countdown=2.5)
    Order.objects.create(number=number, kind=kind)
    return task.delay(str(number))


def _order_with_key(kind: str, product: int) -> Any:
    """Call first and write the order then: its time is one at which its entry held the key."""
    from prove.shop import tasks
    from prove.shop.models import Order

    task = getattr(tasks, kind)
    if kind == "event":
        # The same few events from all producers, again and again for some seconds.
        latest = int(time.monotonic() * _EVENTS_A_SECOND)
        number = uuid5(NAMESPACE_OID, str(latest - product))
        result = task.delay(str(number))
    else:
        number = uuid4()
        result = task.delay(product, str(number))
    Order.objects.create(number=number, kind=kind, product=product, entry=result.id)
    return result


def _copy(kind: str, ids: list[str]) -> None:
    from prove.shop import tasks
    from reliable_tasks.publish import publisher
    from reliable_tasks.wakeup import WakeUp

    task = getattr(tasks, kind)
    publisher(task.app).submit([WakeUp(entry, task.name, "prove") for entry in ids])


if __name__ == "__main__":
    main()
