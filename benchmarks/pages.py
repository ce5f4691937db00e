"""Measures every page of the admin on a large ledger: ``python -m benchmarks.pages --help``."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("TEST_DATABASE", "postgres")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django

from tests import services

#: Milliseconds that no page may take.
LIMIT = 300.0
_REPEATS = 5


def main() -> int:
    """Fill a ledger, measure, print a table, and return 1 if a page was too slow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=100_000)
    parser.add_argument("--waiting", type=int, default=20_000)
    parser.add_argument("--only", default="", help="only pages whose name contains this")
    parser.add_argument("--plans", action="store_true", help="also print each slow statement")
    parser.add_argument(
        "--keep", action="store_true", help="use, or make, a database that stays (DATABASE_URL)"
    )
    options = parser.parse_args()
    services.ensure_database()
    services.ensure_redis()
    django.setup()
    with ExitStack() as stack:
        if _prepare(stack, keep=options.keep):
            began = time.perf_counter()
            _fill(options)
            print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        return _measure(options.only, plans=options.plans)


def _prepare(stack: ExitStack, *, keep: bool) -> bool:
    """Make the tables; return whether they are empty."""
    from django.core.management import call_command
    from django.db import connection

    if keep:
        call_command("migrate", verbosity=0)
    else:
        before = connection.settings_dict["NAME"]
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        stack.callback(connection.creation.destroy_test_db, before, verbosity=0)
    from reliable_tasks.models import Entry

    return not Entry.objects.exists()


def _fill(options: argparse.Namespace) -> None:
    from benchmarks import ledger

    ledger.fill(ledger.Size(entries=options.entries, dead=options.dead, waiting=options.waiting))


def _pages() -> Iterator[tuple[str, str]]:
    """Yield the name and address of each page that is measured."""
    from urllib.parse import urlencode

    from django.contrib import admin
    from django.contrib.admin.utils import quote
    from django.urls import reverse

    from reliable_tasks.models import Entry, WorkerProcess
    from reliable_tasks.states import State

    entries = reverse("admin:reliable_tasks_entry_changelist")
    some = Entry.objects.order_by("-id").filter(state="succeeded").first()
    assert some is not None
    yield "the admin's index", reverse("admin:index")
    yield "entries", entries
    yield "entries, page 100", f"{entries}?p=100"
    for state in State:
        yield f"entries, {state}", f"{entries}?{urlencode({'state__exact': state})}"
        newest = Entry.objects.filter(state=state).order_by("-id").first()
        if newest is not None:
            page = reverse("admin:reliable_tasks_entry_change", args=[newest.pk])
            yield f"an entry, {state}", page
    for queue in ("celery", "no such queue"):
        yield f"entries, queue {queue}", f"{entries}?{urlencode({'queue': queue})}"
    both = {"queue": "mail", "state__exact": "dead"}
    yield "entries, dead on a queue", f"{entries}?{urlencode(both)}"
    for name, words in {
        "id": str(some.pk),
        "task": "shop.charge",
        "no such task": "no.such.task",
    }.items():
        yield f"search, {name}", f"{entries}?{urlencode({'q': words})}"
    for name, query in (*_filters(), *_ranges_and_subjects(str(some.subject_id))):
        yield f"entries, {name}", f"{entries}?{urlencode(query)}"
    overview = reverse("admin:reliable_tasks_overview_changelist")
    for window in ("1h", "6h", "24h", "7d"):
        yield f"overview, {window}", f"{overview}?{urlencode({'window': window})}"
    for model in admin.site._registry:
        kind = model._meta.model_name
        if model._meta.app_label != "reliable_tasks" or kind in {"entry", "overview"}:
            continue
        yield f"list of {kind}", reverse(f"admin:reliable_tasks_{kind}_changelist")
    worker = WorkerProcess.objects.first()
    if worker is not None:
        pk = quote(worker.pk)
        yield "a worker", reverse("admin:reliable_tasks_workerprocess_change", args=[pk])


def _filters() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield values for the filters of the list of entries: common ones and none at all."""
    from django.contrib import admin

    from reliable_tasks.models import Entry

    newest = Entry.objects.filter(state="dead").order_by("-id").first()
    values = {
        "task": ["shop.ship", "no.such.task"],
        "error": ["KeyError", "NoSuchError"],
        "fingerprint": [newest.fingerprint if newest else "", "0" * 16],
        "worker": ["celery@host1", "nobody"],
        "schedule": ["none"],
        "period": ["1h", "7d"],
    }
    for each in admin.site._registry[Entry].list_filter:
        name = getattr(each, "parameter_name", "")
        for value in values.get(name, []):
            yield f"{name}={value}", {name: value}


def _ranges_and_subjects(subject: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ways to narrow the list of entries down by time and by what they are about."""
    from datetime import timedelta

    from django.utils import timezone

    now = timezone.now()

    def span(since: float, until: float) -> dict[str, str]:
        ends = {"since": since, "until": until}
        return {name: (now - timedelta(hours=ago)).isoformat() for name, ago in ends.items()}

    fingerprint = hashlib.md5(b"7", usedforsecurity=False).hexdigest()[:16]
    narrow, wide = span(100, 99.5), span(150, 10)
    order = {"subject_type": "shop.order", "subject_id": subject}
    yield "half an hour, days ago", narrow
    yield "half an hour, dead", {**narrow, "state": "dead"}
    yield "half an hour, error none", {**narrow, "error": "none"}
    yield "half an hour, one group", {**narrow, "state": "dead", "fingerprint": fingerprint}
    yield "days", wide
    yield "days, dead", {**wide, "state": "dead"}
    yield "days, running", {**wide, "state": "running"}
    yield "days, queue no such queue", {**wide, "queue": "no such queue"}
    yield (
        "days, one group, no such queue",
        {
            **wide,
            "state": "dead",
            "fingerprint": fingerprint,
            "queue": "no such queue",
        },
    )
    yield (
        "since days, succeeded, none",
        {
            "since": wide["since"],
            "state": "succeeded",
            "worker": "nobody",
        },
    )
    yield "until days ago, task none", {"until": narrow["until"], "task": "none"}
    yield "about one order", order
    yield "about one order, dead", {**order, "state": "dead"}
    yield "about one order, days", {**order, **wide}
    yield "about a model, queue none", {"subject_type": "shop.order", "queue": "none"}
    yield "about a key of any model", {"subject_id": subject}
    for text in (f"order:{subject}", f"shop.Order {subject}", "order:none", "order=17"):
        yield f"search {text}", {"q": text}


def _measure(only: str, *, plans: bool) -> int:
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    user, _ = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user)
    slow = 0
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")  # all its work in one process
    print(f"{'page':<40}{'CPU ms':>8}{'of it own':>11}{'wall ms':>9}{'queries':>9}{'SQL ms':>9}")
    for name, address in _pages():
        if only not in name:
            continue
        client.get(address)
        walls, own, backend = [], time.process_time(), _backend_seconds()
        for _ in range(_REPEATS):
            began = time.perf_counter()
            answer = client.get(address)
            walls.append((time.perf_counter() - began) * 1000)
            assert answer.status_code == 200, (name, answer.status_code)
        own = (time.process_time() - own) * 1000 / _REPEATS
        after = _backend_seconds()
        cost = own + ((after or 0) - (backend or 0)) * 1000 / _REPEATS
        with CaptureQueriesContext(connection) as captured:
            client.get(address)
        spent = sum(float(each["time"]) for each in captured.captured_queries) * 1000
        # A server elsewhere hides what it spends: then only the clock on the wall can tell.
        quickest = min(walls) if backend is None else min(cost, *walls)
        mark = "  too slow" if quickest > LIMIT else ""
        slow += bool(mark)
        print(
            f"{name:<40}{cost:>8.0f}{own:>11.0f}{min(walls):>9.0f}{len(captured):>9}{spent:>9.0f}"
            f"{mark}",
            flush=True,
        )
        if plans and spent > 30:
            for each in sorted(captured.captured_queries, key=lambda each: -float(each["time"])):
                if float(each["time"]) > 0.02:
                    print(f"    {float(each['time']) * 1000:.0f} ms: {each['sql'][:1500]}")
    return 1 if slow else 0


def _backend_seconds() -> float | None:
    """Return the CPU time of the connection's process in the server, if it is on this machine."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
