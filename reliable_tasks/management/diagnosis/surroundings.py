"""The doctor's look at settings, database, clock and broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from celery import Celery
from django.core import checks as django_checks
from django.core.checks import CheckMessage
from django.db import DatabaseError
from django.db.migrations.executor import MigrationExecutor

from ... import overview
from ...checks import all_checks
from ...conf import current
from ...ledger import ledger_connection
from ...link import Link
from ...operations import celery_app
from .finding import OK, PROBLEM, WARNING, Finding

_APP: Final = "reliable_tasks"
# The ledger runs on the database's clock; only an ETA computed on a host depends on the host's.
_CLOCK_TOLERANCE: Final = 1.0


def system_checks() -> Iterator[Finding]:
    """Say what Django's system checks and this package's own say, those for deployment too."""
    try:
        celery_app().loader.import_default_modules()
    except Exception as error:  # whatever the import of a project's module raises
        yield Finding(
            "tasks",
            PROBLEM,
            f"the modules of the tasks cannot be imported: {type(error).__name__}: {error}",
            "A worker of this code does not start.",
            "Correct the import; `celery -A … report` shows the same error.",
        )
    # The databases are asked below, once, and with an answer that fits.
    messages = {_identity(each): each for each in (*django_checks.run_checks(), *all_checks())}
    told = [each for each in messages.values() if not each.is_silenced()]
    for message in sorted(told, key=lambda each: -each.level):
        if message.level >= django_checks.WARNING:
            yield _from_check(message)
    if not any(message.level >= django_checks.WARNING for message in told):
        yield Finding("checks", OK, "no system check has anything to say")


def _identity(message: CheckMessage) -> tuple[Any, ...]:
    return message.id, str(message.obj), str(message.msg)


def _from_check(message: CheckMessage) -> Finding:
    return Finding(
        "checks",
        PROBLEM if message.level >= django_checks.ERROR else WARNING,
        f"{message.id}: {message.msg}",
        f"It is about {message.obj}." if message.obj else "",
        str(message.hint or ""),
        {"id": message.id},
    )


def database() -> Iterator[Finding]:
    """Say whether the ledger's database answers and has the ledger's tables."""
    try:
        connection = ledger_connection()
        connection.ensure_connection()
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        took = time.perf_counter() - began
        missing = _missing_migrations()
    except DatabaseError as error:
        yield Finding(
            "database",
            PROBLEM,
            f"the ledger's database does not answer: {str(error).strip().splitlines()[0]}",
            "Nothing can be enqueued, claimed or finished from here.",
            f"See to the database and to DATABASES[{connection.alias!r}].",
        )
        return
    facts = {"vendor": connection.vendor, "alias": connection.alias, "answers_in_seconds": took}
    if missing:
        yield Finding(
            "database",
            PROBLEM,
            f"the ledger's tables are not up to date: {', '.join(missing)} not applied",
            "Enqueueing fails, or the code meets columns that it does not know.",
            f"manage.py migrate reliable_tasks --database {connection.alias}",
            {**facts, "missing_migrations": missing},
        )
        return
    version = ".".join(map(str, connection.get_database_version()))
    yield Finding(
        "database",
        OK,
        f"{connection.vendor} {version} ({connection.alias!r}) is migrated and answers in "
        f"{took * 1000:.1f} ms",
        details=facts,
    )


def _missing_migrations() -> list[str]:
    executor = MigrationExecutor(ledger_connection())
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == _APP]
    plan = executor.migration_plan(targets)
    return [migration.name for migration, _ in plan if migration.app_label == _APP]


def clock() -> Finding:
    """Say how far this host's clock is from the database's."""
    before = datetime.now(UTC)
    theirs = overview.now()
    ours = before + (datetime.now(UTC) - before) / 2
    off = (theirs - ours).total_seconds()
    facts = {"database_ahead_seconds": off}
    if abs(off) <= _CLOCK_TOLERANCE:
        return Finding(
            "clock", OK, f"{abs(off):.2f} s between this host and the database", details=facts
        )
    ahead = "behind" if off > 0 else "ahead of"
    return Finding(
        "clock",
        WARNING,
        f"this host's clock is {abs(off):.1f} s {ahead} the database's",
        "Leases, delays and countdowns run on the database's clock and are right all the same. An "
        "`eta` or `expires` computed on this host is off by that much.",
        "Let a time service (NTP) set both clocks.",
        facts,
    )


def broker(app: Celery, link: Link) -> Finding:
    """Say whether the broker answers within its timeout.

    Args:
        app: the Celery app whose broker it is.
        link: a connection to it, not opened yet.
    """
    where = _address(app)
    began = time.perf_counter()
    error = link.trouble()
    took = time.perf_counter() - began
    if not error:
        return Finding(
            "broker", OK, f"{where} answers in {took * 1000:.0f} ms", details={"url": where}
        )
    return Finding(
        "broker",
        PROBLEM,
        f"{where} does not answer: {error}",
        "Entries are enqueued and kept, but no worker is woken. As soon as the broker answers, the "
        "sweeper publishes what was missed.",
        f"See to the broker and to CELERY_BROKER_URL. It was given "
        f"{current().PUBLISH_TIMEOUT:g} s (PUBLISH_TIMEOUT).",
        {"url": where, "error": error},
    )


def _address(app: Celery) -> str:
    try:
        connection = app.connection_for_write()
        address = str(connection.as_uri())  # with asterisks for a password, even if there is none
        return address if connection.password else address.replace("//:**@", "//")
    except Exception as error:  # an address that cannot be read is told of as one that is down
        return f"the broker ({type(error).__name__}: {error})"
