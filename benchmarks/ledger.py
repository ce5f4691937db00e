"""Fills a PostgreSQL ledger as months of work do: nearly all has ended, much has died, some waits.

Rows are made by the server itself, in SQL: a million in well under two minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, models

from reliable_tasks.models import Attempt, Entry, WorkerProcess

TASKS = (
    *("shop.charge_card", "shop.ship", "shop.send_receipt", "shop.refund", "shop.reindex"),
    *("mail.send", "mail.digest", "report.build", "report.export", "search.update"),
    *("stock.count", "stock.reorder"),
)
QUEUES = ("celery", "mail", "slow", "reports", "search")
ERRORS = ("GatewayDown", "ConnectionError", "Timeout", "KeyError", "ValueError", "SMTPError")
WORKERS = 6
TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/app/shop/module_{n}.py", line {n * 7}, in step_{n}\n    return step_{n + 1}(order)\n'
    for n in range(12)
)


@dataclass(frozen=True)
class Size:
    """How many entries a ledger is to have.

    Attributes:
        entries: all of them.
        dead: dead letters among them, with three attempts each.
        waiting: entries that wait; a tenth of them for their retry.
        running: entries that an attempt holds.
        cancelled: cancelled entries.
    """

    entries: int = 1_000_000
    dead: int = 100_000
    waiting: int = 20_000
    running: int = 48
    cancelled: int = 5_000


def fill(size: Size) -> None:
    """Fill an empty ledger on the default database."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(_entries(), _parameters(size))
        cursor.execute(_attempts())
        cursor.execute("SET synchronous_commit = on")
    _report_workers()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _parameters(size: Size) -> dict[str, int]:
    # The newest numbers are live, then come the dead, spread among what succeeded.
    return {
        "count": size.entries,
        "every": max(1, (size.entries - size.waiting - size.running) // max(1, size.dead)),
        "odd": max(1, (size.entries - size.waiting - size.running) // max(1, size.cancelled)),
        "waiting": size.waiting,
        "live": size.waiting + size.running,
    }


def _array(words: tuple[str, ...]) -> str:
    return "ARRAY[" + ", ".join(f"'{word}'" for word in words) + "]"


def _pick(words: tuple[str, ...], expression: str) -> str:
    return f"({_array(words)})[1 + ({expression}) %% {len(words)}]"


def _entries() -> str:
    """Return the statement that makes all entries; n counts back from the newest."""
    state = """CASE
        WHEN n <= %(waiting)s THEN CASE WHEN n %% 10 = 0 THEN 'retrying' ELSE 'pending' END
        WHEN n <= %(live)s THEN 'running'
        WHEN n %% %(every)s = 0 THEN 'dead'
        WHEN n %% %(odd)s = 1 THEN 'cancelled'
        ELSE 'succeeded' END"""
    failed = "state IN ('dead', 'retrying')"
    error = f"'app.errors.' || {_pick(ERRORS, f'h %% {len(TASKS)} + h / 12 %% 3')}"
    given = {
        "id": """(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(m, 1, 3) || 'a' || substr(m, 4, 15))::uuid""",
        "task": _pick(TASKS, "h"),
        "args": "jsonb_build_array(n, m)",
        "kwargs": "jsonb_build_object('order', n, 'note', 'Paid by card at the counter')",
        "queue": _pick(QUEUES, "h / 3"),
        "state": "state",
        "attempt": "CASE state WHEN 'pending' THEN 0 WHEN 'dead' THEN 3 ELSE 1 END",
        "retries": f"CASE WHEN {failed} THEN 2 ELSE 0 END",
        "due_at": "at",
        "wake_at": """CASE WHEN n <= %(waiting)s THEN now() + (h %% 600) * interval '1 second'
            WHEN n <= %(live)s THEN now() + interval '5 s' END""",
        "publishes": "1",
        "worker": f"CASE WHEN state <> 'pending' THEN 'celery@host' || h %% {WORKERS} || '#1' "
        "ELSE '' END",
        "subject_type": "'shop.order'",
        "subject_id": "(n %% 50000)::text",
        "error_class": f"CASE WHEN {failed} THEN {error} ELSE '' END",
        "error_message": f"CASE WHEN {failed} THEN 'The other side said no ' || n ELSE '' END",
        "fingerprint": f"CASE WHEN {failed} THEN substr(md5((h %% 36)::text), 1, 16) ELSE '' END",
        "reason": "CASE state WHEN 'dead' THEN 'Out of retries.' ELSE '' END",
        "enqueued_at": "at",
        "started_at": "CASE WHEN state <> 'pending' THEN at + (h %% 1500) * interval '1 ms' END",
        "finished_at": """CASE WHEN n > %(live)s
            THEN at + (h %% 1500 + h %% 7000) * interval '1 ms' END""",
    }
    names, values = _all_columns(Entry, given)
    return f"""INSERT INTO {Entry._meta.db_table} ({names})
        SELECT {values} FROM (
            SELECT n, m, h, at, {state} AS state FROM (
                SELECT n, md5(n::text) AS m, abs(hashint8(n)::bigint) AS h,
                    CASE WHEN n <= %(live)s THEN now() - n * interval '50 ms'
                    ELSE now() - (n - %(live)s) * (interval '7 days' / %(count)s)
                        - interval '10 s' END AS at
                FROM generate_series(%(count)s, 1, -1) n
            ) numbers
        ) rows"""


def _attempts() -> str:
    given = {
        "entry_id": "entry.id",
        "number": "number",
        "outcome": "CASE WHEN abs(hashint8(number)) %% 9 = 0 THEN 'timeout' ELSE 'failed' END",
        "error_class": "entry.error_class",
        "error_message": "entry.error_message",
        "traceback": f"'{TRACEBACK}' || entry.error_class",
        "fingerprint": "entry.fingerprint",
        "worker": "entry.worker",
        "started_at": "entry.started_at - (4 - number) * interval '2 s'",
        "ended_at": "coalesce(entry.finished_at, entry.started_at) - (3 - number) * interval '2 s'",
    }
    names, values = _all_columns(Attempt, given)
    return f"""INSERT INTO {Attempt._meta.db_table} ({names})
        SELECT {values} FROM {Entry._meta.db_table} entry, generate_series(1, entry.retries + 1)
            AS number
        WHERE entry.state IN ('dead', 'retrying')
        ORDER BY entry.id""".replace("%%", "%")


def _all_columns(model: type[models.Model], given: dict[str, str]) -> tuple[str, str]:
    """Return the columns and expressions of an INSERT, the model's own defaults filled in."""
    columns = {
        field.column: given.get(field.column) or _default(field)
        for field in model._meta.concrete_fields
        if not isinstance(field, models.BigAutoField)
    }
    return ", ".join(f'"{name}"' for name in columns), ", ".join(columns.values())


def _default(field: Any) -> str:
    value = field.get_default()
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("'", "''").replace("%", "%%") + "'"


def _report_workers() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        (now,) = cursor.fetchone()
    WorkerProcess.objects.bulk_create(
        WorkerProcess(
            identity=f"celery@host{n}#1",
            hostname=f"celery@host{n}",
            pid=1000 + n,
            pool="prefork",
            concurrency=8,
            queues=list(QUEUES),
            versions={"python": "3.11.7", "django": "5.2", "celery": "5.7.0"},
            tasks=sorted(TASKS),
            started_at=now,
            beat_at=now + timedelta(hours=9),  # they live as long as the measurement
        )
        for n in range(WORKERS)
    )
