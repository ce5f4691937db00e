"""What a beat costs: ``python -m benchmarks.beat``, beside django-celery-beat's own scheduler.

Ten thousand enabled schedules, of which a hundred are due each second, on a PostgreSQL and a Redis
of the run's own. Each scheduler ticks in this process as `celery beat` lets it, and the processor
time of the process is taken. The tick of ours includes the entries and their publishing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from datetime import timedelta

from benchmarks import environment, servers

LIMIT = 0.100


def main() -> int:
    """Measure both schedulers; 1 if ours needs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--due", type=int, default=100, help="how many are due each second")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each one ticks")
    options = parser.parse_args()
    with servers.started() as given:
        os.environ.update(
            {
                environment.SIDE: "ledger",
                environment.DATABASE_URL: given.database_url,
                environment.REDIS_URL: given.redis_url,
                "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            }
        )
        _set_up()
        print(f"{options.schedules:,} schedules, {options.due} due each second:")
        _fill(options.schedules, options.due)
        stock = _measure("django-celery-beat", _stock(), options.seconds)
        _tell_what_stock_did()
        _fill(options.schedules, options.due)
        ours = _measure("reliable_tasks", _ours(), options.seconds)
        _tell_what_ours_did()
    print(f"{ours / stock:.2f} times the stock scheduler; at most {LIMIT * 1000:.0f} ms wanted")
    return 0 if ours <= LIMIT else 1


def _set_up() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    from benchmarks import tasks  # noqa: F401 - both schedulers call one of them


def _fill(count: int, due: int) -> None:
    from django.db import connection
    from django.utils import timezone
    from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

    from benchmarks.tasks import noop
    from reliable_tasks.models import Entry

    # Not through Django: its signals would write a row for each of them.
    with connection.cursor() as cursor:
        for model in (PeriodicTask, Entry):
            cursor.execute(f"TRUNCATE {model._meta.db_table} CASCADE")
    every, _ = IntervalSchedule.objects.get_or_create(every=count // due, period="seconds")
    # As if each had run within the last interval, evenly spread over it.
    begin = timezone.now() - timedelta(seconds=count / due)
    PeriodicTask.objects.bulk_create(
        [
            PeriodicTask(
                name=f"schedule {n}",
                task=noop.name,
                args="[1]",
                interval=every,
                last_run_at=begin + timedelta(seconds=n / due + 15),
            )
            for n in range(count)
        ],
        batch_size=1000,
    )
    PeriodicTasks.update_changed()


def _stock():
    from django_celery_beat.schedulers import DatabaseScheduler

    from benchmarks.celery_app import app

    return DatabaseScheduler(app=app)


def _ours():
    from benchmarks.celery_app import app
    from reliable_tasks.schedules.scheduler import ReliableScheduler

    return ReliableScheduler(app=app)


def _measure(name: str, scheduler, seconds: float) -> float:
    began = time.process_time()
    for _ in range(3):
        scheduler.tick()
    first = time.process_time() - began
    _tick(scheduler, 15)  # until the first of them are due
    cpu, wall = time.process_time(), time.monotonic()
    _tick(scheduler, seconds)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    with contextlib.suppress(Exception):
        scheduler.close()
    print(f"{name}: {cpu / wall * 1000:.0f} ms of CPU each second; first ticks {first:.2f} s")
    return cpu / wall


def _tick(scheduler, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pause = scheduler.tick()
        if pause and pause > 0:
            time.sleep(min(pause, max(0.0, until - time.monotonic())))


def _tell_what_stock_did() -> None:
    from reliable_tasks.models import Entry

    print(f"called the task {Entry.objects.count():,} times")


def _tell_what_ours_did() -> None:
    from django.db.models import F, Max

    from reliable_tasks.models import Entry, Occurrence

    rows = Occurrence.objects.filter(outcome="fired")
    late = rows.annotate(late=F("handled_at") - F("due_at")).aggregate(Max("late"))["late__max"]
    print(f"fired {rows.count():,}, entries {Entry.objects.count():,}, latest {late}")


if __name__ == "__main__":
    sys.exit(main())
