"""Syncs the schedules that code declares after ``migrate``: a deploy needs no other step."""

from __future__ import annotations

import sys
from typing import Any

from django.db import connections, router

from ..models import DeclaredSchedule


def sync_after_migrate(
    *, using: str, verbosity: int = 1, plan: Any = None, stdout: Any = None, **_: Any
) -> None:
    """Receive Django's ``post_migrate`` of this app.

    What is wrong with a declaration, or keeps the tasks' modules from being imported, is told and
    does not fail the migration, which has been done by then.

    Args:
        using: alias of the database that was migrated.
        verbosity: of the command.
        plan: what was applied; None where the signal follows a flush and not a migration.
        stdout: where the command writes to.
    """
    if plan is None or not _is_ready(using):
        return
    from .report import lines
    from .sync import sync

    out = stdout or sys.stdout
    try:
        report = sync()
    except Exception as error:  # a project's module may raise anything when it is imported
        sys.stderr.write(
            f"  The schedules that code declares were not synced: {type(error).__name__}: {error}\n"
            "  When that is mended: manage.py reliable_tasks schedules sync\n"
        )
        return
    if verbosity >= 1:
        for line in lines(report):
            out.write(f"  {line}\n")


def _is_ready(using: str) -> bool:
    """Tell whether this is the schedules' database and has their tables."""
    if using != router.db_for_write(DeclaredSchedule):
        return False
    # `migrate <app> <name>` may have gone back to before there were any.
    connection = connections[using]
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
    return {"django_celery_beat_periodictask", DeclaredSchedule._meta.db_table} <= tables
