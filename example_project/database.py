"""Turns a database URL into an entry of Django's ``DATABASES``."""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SQLITE_OPTIONS = {
    # Taking the write lock at BEGIN lets a transaction wait for its turn; SQLite's default takes
    # it at the first write, where it can only fail.
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def from_url(url: str) -> dict[str, Any]:
    """Read ``sqlite:///path/to/file`` or ``postgres://user:password@host:port/name?option=value``.

    Args:
        url: the database's address. PostgreSQL's query parameters become connection options; a
            parameter ``host`` names a directory with a Unix socket.

    Returns:
        The settings of one database.

    Raises:
        ValueError: the URL names another kind of database, or no database at all.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(parts)
    if parts.scheme in {"postgres", "postgresql"}:
        return _postgresql(parts)
    raise ValueError(f"the shop knows sqlite:// and postgres:// databases, not {parts.scheme!r}")


def _sqlite(parts: SplitResult) -> dict[str, Any]:
    # The third slash of sqlite:///name ends the empty host; a fourth begins an absolute path.
    name = unquote(parts.path).removeprefix("/")
    if not name:
        raise ValueError("a sqlite:// URL needs the path of a file")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "CONN_MAX_AGE": 60,
        "OPTIONS": dict(SQLITE_OPTIONS),
    }


def _postgresql(parts: SplitResult) -> dict[str, Any]:
    name = unquote(parts.path).removeprefix("/")
    if not name:
        raise ValueError("a postgres:// URL needs the name of a database")
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }
