"""Starts a real Redis and a real, durable PostgreSQL for one run, and ends and removes them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import redis
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests import services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


class DurablePostgresServer(services.PostgresServer):
    """The test suite's PostgreSQL with the durability and the memory that production has."""

    def command(self) -> list[str]:
        """Return the program and its arguments; the last word on an option counts."""
        defaults = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
        options = [word for name, value in defaults.items() for word in ("-c", f"{name}={value}")]
        return [*super().command(), *options]


@dataclass(frozen=True)
class Servers:
    """Addresses of the two servers, and where PostgreSQL's data is (None: it was given)."""

    database_url: str
    redis_url: str
    data: Path | None

    @property
    def own(self) -> bool:
        """Whether both servers belong to this run, so that their work is known to be ours."""
        return self.data is not None and "REDIS_URL" not in os.environ


@contextlib.contextmanager
def started() -> Iterator[Servers]:
    """Start what DATABASE_URL and REDIS_URL do not give; stop it at the end.

    Raises:
        BenchmarkError: a server cannot be started or used.
    """
    with contextlib.ExitStack() as stack:
        redis_url = os.environ.get("REDIS_URL", "")
        if not redis_url:
            own_redis = services.RedisServer()
            _start(stack, own_redis)
            redis_url = own_redis.url
        _require_empty(redis_url)
        stack.callback(redis.Redis.from_url(redis_url).flushdb)
        server_url, data = os.environ.get("DATABASE_URL", ""), None
        if not server_url:
            own = DurablePostgresServer()
            _start(stack, own)
            server_url, data = own.url, own.directory
        yield Servers(stack.enter_context(_scratch_database(server_url)), redis_url, data)


def _start(stack: contextlib.ExitStack, server: services.Server) -> None:
    try:
        server.start()
    except RuntimeError as error:
        raise BenchmarkError(str(error)) from error
    stack.callback(server.stop)


def _require_empty(url: str) -> None:
    try:
        size = redis.Redis.from_url(url).dbsize()
    except redis.RedisError as error:
        raise BenchmarkError(f"Redis at REDIS_URL does not answer: {error}") from error
    if size:
        raise BenchmarkError(
            f"The Redis database at REDIS_URL holds {size} keys, and the benchmark empties the one "
            "it uses: give the number of an empty database (redis://host/15)."
        )


@contextlib.contextmanager
def _scratch_database(server_url: str) -> Iterator[str]:
    """Create a database of our own, so that nobody's tables are touched; drop it at the end."""
    name = f"reliable_tasks_benchmark_{os.getpid()}"
    try:
        with psycopg.connect(server_url, autocommit=True) as connection:
            _require_durable(connection)
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise BenchmarkError(
            f"PostgreSQL at DATABASE_URL cannot be used (CREATEDB is needed): {error}"
        ) from error
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


def _require_durable(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    for name in ("fsync", "synchronous_commit"):
        row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
        if row is None or row[0] != "on":
            raise BenchmarkError(
                f"PostgreSQL runs with {name} = {row and row[0]}: the figures would promise what a "
                f"durable database cannot do. Set {name} = on."
            )
