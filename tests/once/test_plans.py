"""Keys are found by their indexes, however many are held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4, uuid5

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import keyring, keys
from reliable_tasks.models import Key

FEW = 5_000
TABLE = Key._meta.db_table
SPACE = uuid4()
PRIMARY_KEY = (f"{TABLE}_pkey", f"sqlite_autoindex_{TABLE}_1", "PRIMARY")


@pytest.fixture
def many(db):
    """Hold some thousands of keys, a few of whose windows have ended."""
    at = datetime.now(UTC)
    Key.objects.bulk_create(
        Key(
            digest=uuid5(SPACE, str(n)),
            entry_id=new_id(),
            task="app.t",
            text=f"app.t(n={n})",
            arguments="",
            until=at - timedelta(hours=1) if n % 1000 == 0 else None,
        )
        for n in range(FEW)
    )
    if connection.vendor != "mysql":  # where it would commit
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def plan_of(act):
    """Return the plan of the first statement about keys that a function sends."""
    with CaptureQueriesContext(connection) as captured:
        act()
    sql = next(each["sql"] for each in captured.captured_queries if TABLE in each["sql"])
    how = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute(f"{how} {sql}".replace("%", "%%"), [])
        return "\n".join(str(line) for line in cursor.fetchall())


ONE = uuid5(SPACE, "77")
QUERIES = {
    "holder": (lambda: ledger.holder(ONE), PRIMARY_KEY),
    "clear": (lambda: keys.clear(ONE), PRIMARY_KEY),
    "release": (lambda: keys.release([new_id()]), ("reliable_key_entry",)),
    "the keys of an entry": (
        lambda: list(Key.objects.filter(entry_id=new_id())),
        ("reliable_key_entry",),
    ),
    "find_keys": (
        lambda: keyring.find_keys("app.t", ONE, "app.t(n=77)"),
        ("reliable_key_text",),
    ),
    "forget_lapsed": (lambda: keyring.forget_lapsed(batch=5), ("reliable_key_until",)),
}


@pytest.mark.parametrize("name", QUERIES)
def test_keys_are_found_by_an_index(many, name):
    """Nothing that is done with one key, or with those that have lapsed, reads them all."""
    act, wanted = QUERIES[name]
    plan = plan_of(act)
    assert any(index in plan for index in wanted), plan
    assert f"Seq Scan on {TABLE}" not in plan
    assert f"SCAN {TABLE}'" not in plan


def test_a_full_read_is_recognised(many):
    """A query that no index serves has none of these indexes in its plan."""
    plan = plan_of(lambda: list(Key.objects.filter(task="x")))
    assert f"Seq Scan on {TABLE}" in plan or f"SCAN {TABLE}" in plan or "ALL" in plan
