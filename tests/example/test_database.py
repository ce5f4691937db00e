"""Database URLs of the example project."""

import pytest

from example_project.database import from_url


def test_sqlite_takes_relative_and_absolute_paths():
    """Three slashes begin a relative path, four an absolute one."""
    assert from_url("sqlite:///shop.sqlite3")["NAME"] == "shop.sqlite3"
    assert from_url("sqlite:////tmp/a%20b.sqlite3")["NAME"] == "/tmp/a b.sqlite3"


def test_sqlite_waits_for_its_turn():
    """SQLite is set up for several processes: write-ahead log, and the lock taken at BEGIN."""
    options = from_url("sqlite:///shop.sqlite3")["OPTIONS"]

    assert options["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in options["init_command"]


def test_postgres_parts_are_decoded():
    """User, password, host, port, name and options of a PostgreSQL URL arrive where they belong."""
    database = from_url("postgres://ada:p%40ss@db.example.com:5433/shop?sslmode=require")

    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["USER"], database["PASSWORD"]) == ("ada", "p@ss")
    assert (database["HOST"], database["PORT"]) == ("db.example.com", "5433")
    assert (database["NAME"], database["OPTIONS"]) == ("shop", {"sslmode": "require"})


def test_postgres_may_be_reached_through_a_socket():
    """A host parameter names the directory of a Unix socket."""
    assert from_url("postgresql://ada@/shop?host=/run/pg")["HOST"] == "/run/pg"


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite:///", "postgres://host", "shop.sqlite3"])
def test_anything_else_is_refused(url):
    """A URL that names no known database is an error that says so."""
    with pytest.raises(ValueError, match=r"database|file"):
        from_url(url)
