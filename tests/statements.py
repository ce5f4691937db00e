"""Counting statements, whether they are sent in full or prepared."""

from __future__ import annotations

import re

from django.db import connection
from django.test.utils import CaptureQueriesContext

#: What begins and ends a transaction.
TRANSACTION = {"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"}


def claiming() -> list[str]:
    """Return the verbs of a claim that succeeds: MariaDB's UPDATE returns nothing."""
    return ["UPDATE", "SELECT"] if connection.vendor == "mysql" else ["UPDATE"]


def verbs(captured: CaptureQueriesContext, about: str = "") -> list[str]:
    """Return the first words of the captured statements, in their order.

    A prepared statement counts as what it carries out; its preparation, once for each connection,
    does not count.

    Args:
        captured: what was captured, on the default connection.
        about: Only statements that contain this, and those that begin or end a transaction.
    """
    texts = [query["sql"] for query in captured.captured_queries]
    prepared = _prepared() if any(text.startswith("EXECUTE ") for text in texts) else {}
    found = []
    for text in texts:
        if text.startswith("PREPARE "):
            continue
        name = text.split()[1] if text.startswith("EXECUTE ") else ""
        sql = prepared.get(name, text)
        verb = re.split(r"\W", sql.strip(), maxsplit=1)[0].upper()
        if verb in TRANSACTION or about in sql:
            found.append(verb)
    return found


def _prepared() -> dict[str, str]:
    """Return the connection's prepared statements by name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, statement FROM pg_prepared_statements")
        return {name: text.split(" AS ", 1)[1] for name, text in cursor.fetchall()}
