"""What an attempt says while its transaction is open goes over one connection of its own."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from reliable_tasks import running
from reliable_tasks.running import Running
from tests import entries, services

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        services.database_vendor() == "sqlite",
        reason="a transaction shuts out all other writers of SQLite",
    ),
]


def backends():
    """Return the process ids of the server's connections to this database, but for this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}


@pytest.mark.skipif(services.database_vendor() != "postgres", reason="asks PostgreSQL")
def test_progress_keeps_one_connection(monkeypatch):
    """However often a body in a transaction reports, one connection serves, and ends with it."""
    monkeypatch.setattr(running, "_PACE", 0.0)
    attempt = Running(entries.running(now=None), {})
    before, threads = backends(), threading.active_count()
    seen = set()
    with transaction.atomic():
        for done in range(3):
            attempt.progress(done, 10, "")
            seen |= backends() - before
    assert len(seen) == 1
    assert entries.row(attempt.claim).progress == {"done": 2, "total": 10}
    attempt.close()
    assert not seen & backends()
    assert threading.active_count() == threads


def test_a_locked_entry_does_not_hold_its_own_body(monkeypatch, caplog):
    """A body whose own transaction holds its entry locked goes on; its progress is not kept."""
    monkeypatch.setattr(running, "_PACE", 0.0)
    attempt = Running(entries.running(now=None), {})
    with transaction.atomic():
        entries.reschedule(attempt.claim, now=None)
        attempt.progress(1, 10, "")
        transaction.set_rollback(True)
    assert "was not kept" in caplog.text
    attempt.progress(2, 10, "")
    attempt.close()
    assert entries.row(attempt.claim).progress == {"done": 2, "total": 10}
