"""The proof's checker finds each wrong that is planted, and nothing where there is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from prove.checker import Findings, Tables, check
from prove.shop.runs import Line

TABLES = """
CREATE TABLE prove_order (
    number TEXT, kind TEXT, not_before TEXT, product INTEGER, entry TEXT, made TEXT);
CREATE TABLE prove_effect (
    id INTEGER PRIMARY KEY, number TEXT, kind TEXT, entry TEXT, attempt INTEGER, at TEXT,
    product INTEGER, seen INTEGER);
CREATE TABLE reliable_tasks_entry (id TEXT, task TEXT, state TEXT, attempt INTEGER);
CREATE TABLE reliable_tasks_attempt (entry_id TEXT, number INTEGER, outcome TEXT);
CREATE TABLE reliable_tasks_key (text TEXT, entry_id TEXT, until TEXT);
"""
NOON = "2030-01-01 12:00"


class Books:
    """A database as a proof leaves it behind, written by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log: list[Line] = []
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(TABLES)

    def write(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement, values)

    def order(
        self, kind: str, not_before: str | None = None, *, entry: str = "", made: str = NOON
    ) -> str:
        number = uuid4().hex
        row = (number, kind, not_before, 3 if entry else None, entry or None, made)
        self.write("INSERT INTO prove_order VALUES (?, ?, ?, ?, ?, ?)", *row)
        return number

    def effect(
        self, number: str, kind: str, entry: str, attempt: int = 1, *, at: str = NOON, seen: int = 0
    ) -> None:
        columns = "(number, kind, entry, attempt, at, product, seen)"
        self.write(
            f"INSERT INTO prove_effect {columns} VALUES (?, ?, ?, ?, ?, 3, ?)",
            *(number, kind, entry, attempt, at, seen),
        )

    def sole(self, made: str, at: str) -> str:
        """Write an order whose entry lived between two seconds past noon; return the entry."""
        entry = self.entry()
        number = self.order("sole", entry=entry, made=f"{NOON}:{made}")
        self.effect(number, "sole", entry, at=f"{NOON}:{at}")
        return entry

    def recount(self, *, seen: int) -> str:
        entry = self.entry()
        self.effect(self.order("recount", entry=entry), "recount", entry, seen=seen)
        return entry

    def key(self, entry: str, until: str | None = None) -> None:
        self.write("INSERT INTO reliable_tasks_key VALUES ('t(3)', ?, ?)", entry, until)

    def entry(self, state: str = "succeeded", attempt: int = 1) -> str:
        key = uuid4().hex
        self.write("INSERT INTO reliable_tasks_entry VALUES (?, 't', ?, ?)", key, state, attempt)
        return key

    def attempt(self, entry: str, number: int, outcome: str) -> None:
        self.write("INSERT INTO reliable_tasks_attempt VALUES (?, ?, ?)", entry, number, outcome)

    def found(self) -> dict[str, int]:
        findings = check(Tables(str(self.path)), self.log)
        names = vars(Findings()).keys() - {"examples", "orders", "effects", "attempts"}
        return {name: vars(findings)[name] for name in names if vars(findings)[name]}


@pytest.fixture
def books(tmp_path):
    """Give the test books in which one order of each sort is in order."""
    kept = Books(tmp_path / "books.sqlite3")
    for kind in ("atomic", "plain", "flaky"):
        kept.effect(kept.order(kind), kind, kept.entry())
    parent = kept.order("parent")
    kept.effect(parent, "parent", kept.entry())
    kept.effect(parent, "child", kept.entry())
    first = kept.sole("10", "20")
    kept.order("sole", entry=first, made=f"{NOON}:21")  # it had ended a moment before
    kept.sole("21", "30")
    kept.recount(seen=1)
    kept.recount(seen=2)
    return kept


def test_books_in_order_have_no_findings(books):
    """Where every order has its effects once, nothing is found."""
    assert books.found() == {}


def test_an_order_without_its_effect_is_lost(books):
    """An order whose task never ran is found, also if the task is dead."""
    books.order("atomic")
    books.order("plain")
    books.entry("dead")
    assert books.found() == {"lost": 2}


def test_a_child_that_never_ran_is_lost(books):
    """The effect of what a body enqueued is asked for, too."""
    books.effect(books.order("parent"), "parent", books.entry())
    assert books.found() == {"lost": 1}


def test_an_atomic_effect_twice_is_a_duplicate(books):
    """A second atomic effect is a duplicate even if the first attempt died."""
    number, entry = books.order("atomic"), books.entry(attempt=2)
    books.attempt(entry, 1, "crashed")
    books.effect(number, "atomic", entry, 1)
    books.effect(number, "atomic", entry, 2)
    assert books.found() == {"duplicate": 1, "fenced": 1}


def test_two_entries_for_one_order_are_a_duplicate(books):
    """Two effects of two entries are a duplicate though both attempts succeeded."""
    number = books.order("atomic")
    for _ in range(2):
        books.effect(number, "atomic", books.entry())
    assert books.found() == {"duplicate": 1}


def test_a_repeat_after_a_death_is_what_is_promised(books):
    """Without atomic, a second effect is excused if the attempt of the first one died."""
    number, entry = books.order("plain"), books.entry(attempt=2)
    books.effect(number, "plain", entry, 1)
    books.effect(number, "plain", entry, 2)
    assert books.found() == {"duplicate": 1}
    books.attempt(entry, 1, "crashed")
    assert books.found() == {"repeats": 1}


def test_an_attempt_may_have_one_effect_only(books):
    """Without atomic, an attempt that ran twice is a duplicate, whether it died or not."""
    number, entry = books.order("plain"), books.entry(attempt=2)
    books.attempt(entry, 1, "crashed")
    for attempt in (1, 1, 2):
        books.effect(number, "plain", entry, attempt)
    assert books.found() == {"duplicate": 2}


def test_an_effect_without_an_order_is_a_ghost(books):
    """An effect for an order that was rolled back is found."""
    books.effect(uuid4().hex, "atomic", books.entry())
    assert books.found() == {"ghost": 1}


def test_an_entry_that_has_not_ended_is_stuck(books):
    """Whatever waits or runs after the bound is stuck."""
    for state in ("pending", "retrying", "running"):
        books.entry(state)
    assert books.found() == {"stuck": 3}


def test_an_effect_of_a_fenced_attempt_is_found(books):
    """An atomic effect must be of the very attempt that ended its entry."""
    books.effect(books.order("atomic"), "atomic", books.entry(attempt=3), attempt=2)
    assert books.found() == {"fenced": 1}


def test_an_effect_before_its_time_is_early(books):
    """An effect before the time that its order names is found."""
    books.effect(books.order("later", "2030-01-01 12:00:01"), "later", books.entry())
    books.effect(books.order("later", "2030-01-01 11:59"), "later", books.entry())
    assert books.found() == {"early": 1}


@pytest.mark.parametrize(("began", "wrong"), [(2, 1), (3, 0), (4, 1)])
def test_poison_begins_as_often_as_its_budget_allows(books, began, wrong):
    """A poison order that began more or less often than its crash budget is found."""
    number = books.order("poison")
    books.log = [Line("start", number, "poison", each, 1, each) for each in range(1, began + 1)]
    assert books.found() == ({"poison": wrong} if wrong else {})


@pytest.mark.parametrize("made", ["29", "05", "15"])
def test_two_live_entries_of_one_key_are_found(books, made):
    """An entry that was enqueued before the other one of its product had its effect is found."""
    books.sole(made, "40")
    findings = books.found()
    assert findings.pop("shared") >= 1
    assert findings == {}


def test_an_order_whose_entry_did_nothing_is_lost(books):
    """An order that was told of an entry which never had its effect is found."""
    books.order("sole", entry=books.entry("dead"), made=f"{NOON}:50")
    assert books.found() == {"lost": 1}


def test_an_order_that_no_recount_has_seen_is_lost(books):
    """If the last recount began before the last order, that order is found."""
    books.order("recount", entry=books.recount(seen=3))
    assert books.found() == {"lost": 1}


def test_an_event_that_ran_twice_is_a_duplicate(books):
    """An event that is delivered twice, and has two entries, is found."""
    number = books.order("event")
    for _ in range(2):
        books.effect(number, "event", books.entry())
    assert books.found() == {"duplicate": 1}


def test_a_key_that_stayed_behind_is_found(books):
    """A key whose entry has ended or is gone is found, unless a window keeps it."""
    books.key(books.entry(), until="2099-01-01")
    assert books.found() == {}
    books.key(books.entry())
    books.key(books.entry("dead"))
    books.key(uuid4().hex)
    assert books.found() == {"leaked": 3}


def test_a_key_of_what_is_stuck_is_not_called_leaked(books):
    """The key of an entry that has not ended is where it belongs."""
    books.key(books.entry("retrying"))
    assert books.found() == {"stuck": 1}
