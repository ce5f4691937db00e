"""The producing side of every case, for one process of one side.

The functions in ``CASES`` take what follows the case's name on the command line, as text.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import redis
from django.core.management import call_command
from django.db import transaction

from benchmarks import environment, tasks
from benchmarks.celery_app import app
from benchmarks.instruments import Instruments
from benchmarks.models import Account

if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_UP = 50
_ACCOUNTS = 1_000
_FLUSH_SECONDS = 60.0
_POLL_SECONDS = 0.002

_redis = redis.Redis.from_url(environment.required(environment.REDIS_URL))


def _wait_published(count: int) -> None:
    """Return once ``count`` messages lie in the queue."""
    deadline = time.monotonic() + _FLUSH_SECONDS
    while _redis.llen(environment.QUEUE) < count:
        if time.monotonic() > deadline:
            found = _redis.llen(environment.QUEUE)
            raise SystemExit(f"Only {found} of {count} messages reached Redis in a minute.")
        time.sleep(_POLL_SECONDS)


def _timed(enqueue: Callable[[int], None], count: int) -> dict[str, float]:
    """Return the rates of ``enqueue(count)``: until it returns, and until all is in Redis."""
    enqueue(_WARM_UP)
    _wait_published(_WARM_UP)
    _redis.delete(environment.QUEUE)
    started = time.perf_counter()
    enqueue(count)
    returned = time.perf_counter()
    _wait_published(count)
    published = time.perf_counter()
    _redis.delete(environment.QUEUE)
    return {"caller": count / (returned - started), "published": count / (published - started)}


def _one_at_a_time(count: int) -> None:
    for number in range(count):
        tasks.noop.delay(number)


def _with_model(by_key: bool) -> Callable[[int], None]:
    """Return a function that enqueues so many tasks with a row, or with its key."""
    account = Account.objects.order_by("pk").first()

    def enqueue(count: int) -> None:
        for _ in range(count):
            tasks.visit.delay(account.pk if by_key else account)

    return enqueue


def _in_transactions(per_transaction: int) -> Callable[[int], None]:
    """Return a function that enqueues so many tasks in each transaction with one business row."""
    ledger = environment.is_ledger_side()

    def enqueue(count: int) -> None:
        for _ in range(count // per_transaction):
            with transaction.atomic():
                account = Account.objects.create()
                for _ in range(per_transaction):
                    if ledger:
                        tasks.noop.delay(account.pk)
                    else:
                        transaction.on_commit(partial(tasks.noop.delay, account.pk))

    return enqueue


def _bulk(task: Any, arguments: list[tuple[int]]) -> None:
    """Send many tasks by the fastest way that the side has."""
    if environment.is_ledger_side():
        task.enqueue_many(arguments)
        return
    with app.producer_or_acquire() as producer, producer.batch():
        for args in arguments:
            task.apply_async(args, producer=producer)


def _in_bulk(count: int) -> None:
    _bulk(tasks.noop, [(number,) for number in range(count)])


def _fill(name: str, count: str) -> dict[str, float]:
    """Put a backlog into the queue for a worker that is not running yet."""
    keys = list(Account.objects.order_by("pk").values_list("pk", flat=True)[:_ACCOUNTS])
    arguments = [(keys[number % len(keys)],) for number in range(int(count))]
    _bulk(getattr(tasks, name), arguments)
    _wait_published(len(arguments))
    return {}


def _steady(rate: str, seconds: str) -> dict[str, float]:
    """Enqueue at a fixed rate; the first second only warms up."""
    warm_up = int(rate)
    count = warm_up + int(warm_up * float(seconds))
    due = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, due - time.monotonic()))
        tasks.stopwatch.delay(time.monotonic_ns() if number >= warm_up else 0)
        due += 1.0 / warm_up
    return {"sent": count}


def _profile(what: str, count: str) -> dict[str, float]:
    """Enqueue under the profiler, which sees this thread only."""
    enqueue = {"enqueue": _one_at_a_time, "bulk": _in_bulk}[what]
    enqueue(_WARM_UP)
    _wait_published(_WARM_UP)
    instruments = Instruments(functions=True)
    instruments.start()
    enqueue(int(count))
    instruments.write()
    return {}


def _migrate() -> dict[str, float]:
    """Make the schema, and the rows that the tasks read."""
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    Account.objects.bulk_create(Account() for _ in range(_ACCOUNTS))
    return {}


CASES: dict[str, Callable[..., dict[str, float]]] = {
    "migrate": _migrate,
    "one": lambda count: _timed(_one_at_a_time, int(count)),
    "instance": lambda count: _timed(_with_model(by_key=False), int(count)),
    "key": lambda count: _timed(_with_model(by_key=True), int(count)),
    "transaction": lambda count, per: _timed(_in_transactions(int(per)), int(count)),
    "bulk": lambda count: _timed(_in_bulk, int(count)),
    "fill": _fill,
    "steady": _steady,
    "profile": _profile,
}
