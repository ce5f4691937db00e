"""Plant each bug in a copy of the tree, run the tests that are to catch it, print the matrix.

    python -m tests.planted                 every bug, by its own catchers
    python -m tests.planted --quick         the few of every run of continuous integration
    python -m tests.planted NAME ...        some bugs
    python -m tests.planted --model         with the random lives of tests/model as well (slow)
    python -m tests.planted --whole-suite   every bug against all tests (hours)
    python -m tests.planted --write         put the matrix into docs/planted-bugs.md

Ends non-zero if a bug survives, cannot be planted, or if the catchers fail without any bug.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests import services
from tests.planted.bug import Bug
from tests.planted.bugs import BUGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "planted-bugs.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- end of the matrix -->\n"
_LEFT_OUT = (".*", "__pycache__", "_build", "dist")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/[\w/]+\.py)", re.MULTILINE)
# pytest's: all passed, some failed. Anything else means that it could not do its work.
_PASSED, _SOME_FAILED = 0, 1
_PATIENCE = 900.0


@dataclass(frozen=True)
class Result:
    """What became of a bug.

    Attributes:
        bug: the bug; None for the tree without one.
        caught: for each test file, how many of its tests failed.
        code: what pytest ended with.
        seconds: how long it took.
        output: the end of what it printed.
    """

    bug: Bug | None
    caught: Counter[str]
    code: int
    seconds: float
    output: str

    @property
    def as_expected(self) -> bool:
        """Whether a bug was caught, and the tree without one passed."""
        if self.bug is None:
            return self.code == _PASSED
        return self.code == _SOME_FAILED and bool(self.caught)

    @property
    def word(self) -> str:
        if self.code not in {_PASSED, _SOME_FAILED}:
            return f"BROKEN (pytest ended with {self.code})"
        if self.bug is None:
            return "passes" if self.code == _PASSED else "FAILS WITHOUT A BUG"
        return "caught" if self.caught else "SURVIVED"


@contextmanager
def copies(count: int) -> Iterator[SimpleQueue[Path]]:
    """Make copies of the tree to plant in, and remove them in the end."""
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            copy = Path(directory) / str(number)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*_LEFT_OUT))
            free.put(copy)
        yield free


@contextmanager
def planted(bug: Bug | None, root: Path) -> Iterator[None]:
    """Keep a bug in a tree for a while."""
    paths = {root / edit.path for edit in (bug.edits if bug else ())}
    before = {path: path.read_text() for path in paths}
    try:
        if bug is not None:
            bug.plant(root)
        yield
    finally:
        for path, text in before.items():
            path.write_text(text)


def run(bug: Bug | None, tests: Sequence[str], database: str, root: Path) -> Result:
    """Run tests in a copy of the tree, with a bug in it or without."""
    command = [
        *(sys.executable, "-B", "-m", "pytest", *tests),
        *("-q", "--tb=no", "--no-header", "-rfE", "-p", "no:cacheprovider", "--maxfail=20"),
    ]
    environment = {**os.environ, "TEST_DATABASE": database, "PYTHONDONTWRITEBYTECODE": "1"}
    if database == "postgres" and not services.given_database():
        environment["RELIABLE_TASKS_TEST_DATABASE_URL"] = services.own_postgres().url
    began = time.monotonic()
    with planted(bug, root):
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=False,
            )
            code, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as expired:
            code, output = -1, str(expired)
    return Result(
        bug, Counter(_FAILED.findall(output)), code, time.monotonic() - began, output[-3000:]
    )


def chosen(names: Sequence[str], *, quick: bool) -> list[Bug]:
    """Return the bugs of these names, or all of them, or the quick ones."""
    known = {bug.name: bug for bug in BUGS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"No such bug: {', '.join(unknown)}. There are: {', '.join(known)}.")
    bugs = [known[name] for name in names] or list(BUGS)
    return [bug for bug in bugs if bug.quick] if quick and not names else bugs


def catchers(bug: Bug, given: argparse.Namespace) -> tuple[str, ...]:
    """Return the tests to run: all, those that are to catch it, or the first of those."""
    if given.whole_suite:
        return ("tests",)
    few = bug.caught_by[:1] if given.quick else bug.caught_by
    in_ledger = any("/ledger/" in edit.path for edit in bug.edits)
    return (*few, "tests/model") if given.model and in_ledger else few


def results(bugs: Sequence[Bug], given: argparse.Namespace) -> Iterator[Result]:
    """Plant one bug after the other, some at a time; first of all none."""
    todo: list[tuple[Bug | None, tuple[str, ...], str]] = []
    if not given.quick:  # there the whole suite has run before
        for database in sorted({bug.database for bug in bugs}):
            mine = [bug for bug in bugs if bug.database == database]
            tests = {each for bug in mine for each in catchers(bug, given)}
            todo.append((None, tuple(sorted(tests)), database))
    todo += [(bug, catchers(bug, given), bug.database) for bug in bugs]
    if any(database == "postgres" for _, _, database in todo):
        services.run_dir()
        if not services.given_database():
            services.own_postgres().start()
    with copies(given.jobs) as free, ThreadPoolExecutor(given.jobs) as pool:

        def one(bug: Bug | None, tests: tuple[str, ...], database: str) -> Result:
            root = free.get()
            try:
                return run(bug, tests, database, root)
            finally:
                free.put(root)

        yield from pool.map(lambda each: one(*each), todo)


def matrix(found: Sequence[Result], before: str = "") -> str:
    """Return what caught what, as a table; for bugs that were not planted now, what it said."""
    rows = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    for result in found:
        bug = result.bug
        if bug is not None:
            files = [f"`{_short(name)}` {count}" for name, count in sorted(result.caught.items())]
            told = ", ".join(files) or f"**{result.word}**"
            rows[bug.name] = f"| `{bug.name}` | {bug.what} | {_NAMES[bug.database]} | {told} |"
    head = "| bug | what it does | database | caught by (tests that fail) |\n|---|---|---|---|\n"
    return head + "".join(f"{rows[bug.name]}\n" for bug in BUGS if bug.name in rows)


_NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mariadb": "MariaDB"}


def _short(path: str) -> str:
    return path.removeprefix("tests/").removesuffix(".py")


def write(found: Sequence[Result]) -> None:
    """Put the matrix into its page; rows of bugs that were not planted now stay."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} lacks the lines between which the matrix stands.")
    PAGE.write_text(f"{before}{begin}\n{matrix(found, table)}\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs to plant; all of them by default")
    parser.add_argument("--quick", action="store_true", help="only the few of every run of CI")
    parser.add_argument("--model", action="store_true", help="run the random lives, too")
    parser.add_argument("--whole-suite", action="store_true", help="run all tests on each bug")
    parser.add_argument("--write", action="store_true", help="put the matrix into its page")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    given = parser.parse_args()
    bugs = chosen(given.names, quick=given.quick)
    found = []
    for result in results(bugs, given):
        found.append(result)
        name = result.bug.name if result.bug else "(no bug)"
        files = ", ".join(f"{_short(path)} {count}" for path, count in result.caught.items())
        print(f"{name:34} {result.word:10} {result.seconds:6.1f} s  {files}", flush=True)
        if not result.as_expected:
            print(result.output, flush=True)
    wrong = [result for result in found if not result.as_expected]
    planted_ = [result for result in found if result.bug]
    caught = sum(result.as_expected for result in planted_)
    print(f"{caught} of {len(planted_)} planted bugs caught")
    if given.write and not wrong:
        write(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
