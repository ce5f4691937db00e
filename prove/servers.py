"""The servers of a proof: brokers and a database to kill, empty, freeze and restart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import kombu
import psutil
import psycopg
import redis
from psycopg import sql

from tests import services
from tests.harness import ROOT

TEMPLATE = "prove_template"


class Postgres(services.PostgresServer):
    """A PostgreSQL that forgets no commit when its processes die."""

    def command(self) -> list[str]:
        """Return the program and its arguments; the last word on an option counts."""
        return [*super().command(), "-c", "max_connections=100", "-c", "synchronous_commit=on"]

    def restart_immediately(self, pause: float = 0.0) -> None:
        """Stop without any ceremony, as ``pg_ctl stop -m immediate``, and start again."""
        os.kill(self.pid, signal.SIGQUIT)
        assert self._process is not None
        self._process.wait(20)
        time.sleep(pause)
        self.start()

    def address(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def make_template(self) -> None:
        """Create the database that each scenario's is a copy of, with all its tables."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate(self.environment(TEMPLATE))

    def environment(self, database: str) -> dict[str, str]:
        """Return what tells a process to use a database of this server."""
        return {
            "TEST_DATABASE": "postgres",
            "RELIABLE_TASKS_TEST_DATABASE_URL": self.url,
            "RELIABLE_TASKS_TEST_DB": database,
        }

    def copy_template(self, name: str) -> None:
        """Create a scenario's database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for text in (
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                "CREATE DATABASE {} TEMPLATE {}",
            ):
                names = (sql.Identifier(name), sql.Identifier(TEMPLATE))[: text.count("{}")]
                connection.execute(sql.SQL(text).format(*names))


def migrate(env: dict[str, str]) -> None:
    """Create all tables in a database."""
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"],
        env={
            **os.environ,
            **env,
            "DJANGO_SETTINGS_MODULE": "prove.settings",
            "PYTHONPATH": str(ROOT),
        },
        cwd=ROOT,
        check=True,
    )


class Broker(ABC):
    """A broker that can be killed, emptied and frozen.

    Args:
        server: its process.
    """

    name = ""

    def __init__(self, server: services.Server) -> None:
        self.server = server

    @property
    @abstractmethod
    def url(self) -> str:
        """The broker's URL."""

    def start(self) -> None:
        """Start it, empty."""
        self.server.start()

    def start_if_needed(self) -> None:
        """Start it unless it runs."""
        if not self.server.running:
            self.start()

    def kill(self) -> None:
        """End it with SIGKILL; what it held is gone."""
        self.server.kill()

    def stop(self) -> None:
        """End it for good."""
        self.server.stop()

    @abstractmethod
    def empty(self) -> None:
        """Delete all messages."""

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Accept connections and never answer."""
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.server.pid, signal.SIGCONT)


class Redis(Broker):
    """A Redis that keeps nothing on disk."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__(services.RedisServer())

    @property
    def url(self) -> str:
        """The broker's URL."""
        return f"redis://127.0.0.1:{self.server.port}/0"

    def empty(self) -> None:
        """Delete all that it holds."""
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            client.flushall()


class RabbitServer(services.Server):
    """A RabbitMQ node with a home of its own; started again, it is empty."""

    def __init__(self) -> None:
        super().__init__("rabbitmq", signal.SIGTERM)
        self.dist_port = services.free_port()

    def start(self) -> None:
        """Start it, empty."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        (self.directory / "data").mkdir()
        if os.geteuid() == 0:
            self.user = "rabbitmq"
            for path in (self.directory, self.directory / "data"):
                shutil.chown(path, self.user)
        super().start()

    def command(self) -> list[str]:
        """Return the program and its arguments: no name service, so that no daemon is left."""
        home = str(self.directory)
        settings = {
            "HOME": home,
            "RABBITMQ_NODENAME": f"prove{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/data",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/data/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-start_epmd false -erl_epmd_port {self.dist_port} -proto_dist inet_tcp"
            ),
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["/usr/bin/env", *given, str(RABBIT)]

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        try:
            with kombu.Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
        except OSError:
            return False
        return True

    @property
    def url(self) -> str:
        """The broker's URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"


#: The server itself: Debian's wrapper of that name changes the user, which is done already.
RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Rabbit(Broker):
    """A RabbitMQ whose queues are gone when it was killed."""

    name = "rabbitmq"

    def __init__(self) -> None:
        super().__init__(RabbitServer())

    @staticmethod
    def installed() -> bool:
        """Tell whether this machine has one."""
        return os.access(RABBIT, os.X_OK)

    @property
    def url(self) -> str:
        """The broker's URL."""
        assert isinstance(self.server, RabbitServer)
        return self.server.url

    def _processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.server.pid)
        return [parent, *parent.children(recursive=True)]

    def kill(self) -> None:
        """End it with SIGKILL: the script, the machine that it runs, and its helpers."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.server.kill()

    def stop(self) -> None:
        """End it for good; nothing that it keeps is wanted."""
        if self.server.running:
            self.kill()

    def empty(self) -> None:
        """Delete the queue with its messages."""
        with kombu.Connection(self.url) as connection:
            connection.channel().queue_delete("prove")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Accept connections and never answer."""
        for process in self._processes():
            process.suspend()
        try:
            yield
        finally:
            for process in self._processes():
                process.resume()
