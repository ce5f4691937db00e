"""The documentation as tests read it: pages, blocks, tables, links, and a project made of them."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import services
from tests.harness import ROOT, ManagedProcess, wait_until

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (?P<path>[\w/]+\.py)(?P<append> \(append\))?\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        language: what follows the fence.
        text: what is inside, with its last line's end.
    """

    language: str
    text: str

    @property
    def path(self) -> str:
        """The file that the block says it is, empty if it says none."""
        found = _FILE.match(self.text)
        return found["path"] if found else ""

    @property
    def appends(self) -> bool:
        """Whether the block belongs at the end of a file that is there already."""
        found = _FILE.match(self.text)
        return bool(found and found["append"])


def blocks(page: Path, language: str = "") -> list[Block]:
    """Return the fenced blocks of a page in order, of one language or of all."""
    found = [Block(each["language"], each["text"]) for each in _FENCE.finditer(page.read_text())]
    return [each for each in found if language in ("", each.language)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def rows(page: Path) -> Iterator[list[str]]:
    """Yield the rows of all tables of a page as lists of cells, headings included."""
    for line in prose(page).splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            yield [cell.strip().replace("\\|", "|") for cell in cells]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and Sphinx make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


class Project:
    """A Django project in a directory of its own, made as a page says.

    Args:
        directory: where; empty.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.worker: ManagedProcess | None = None
        programs = str(Path(sys.executable).parent)
        self.env = {
            **{k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
            "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)]),
            "PYTHONUNBUFFERED": "1",
        }

    def shell(self, script: str) -> str:
        """Run a block of commands and return all that it prints.

        Raises:
            AssertionError: a command failed.
        """
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def write(self, block: Block) -> None:
        """Write a block to the file that it names."""
        file = self.directory / block.path
        before = file.read_text() if block.appends else ""
        file.write_text(before + block.text)

    def use_the_suites_broker(self) -> None:
        """Point the project to this run's Redis instead of the one that pages assume."""
        options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 2}
        if prefix := services.redis_key_prefix():
            options["global_keyprefix"] = prefix
        settings = self.directory / "proj" / "settings.py"
        settings.write_text(
            f"{settings.read_text()}\nCELERY_BROKER_URL = {services.redis_url()!r}\n"
            f"CELERY_BROKER_TRANSPORT_OPTIONS = {options!r}\n"
        )

    def start_worker(self, command: str) -> None:
        """Start the worker that a page's command line names."""
        program, *arguments = command.split()
        self.worker = ManagedProcess(
            [shutil.which(program, path=self.env["PATH"]) or program, *arguments],
            env=self.env,
            log=self.directory / "worker.log",
            ready=" ready.",
        ).start()

    def wait_for(self, sql: str, value: object) -> None:
        """Wait until a query of the project's database returns a value."""
        wait_until(
            lambda: self.query(sql) == value,
            30.0,
            message=lambda: f"{sql} is {self.query(sql)!r}, not {value!r}\n{self._log()}",
        )

    def query(self, sql: str) -> object:
        """Return the only value of a query of the project's database."""
        with closing(sqlite3.connect(self.directory / "db.sqlite3", timeout=20)) as connection:
            return connection.execute(sql).fetchone()[0]

    def close(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.close()

    def _log(self) -> str:
        return self.worker.log[-4000:] if self.worker is not None else "(no worker)"
