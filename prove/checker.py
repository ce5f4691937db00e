"""The independent checker: compares orders with effects, and knows nothing of how tasks are run.

``python -m prove.checker --database URL --runs FILE`` prints its findings as JSON. It imports
neither Django nor reliable_tasks and reads with its own connection. Of the ledger it reads what has
not ended and, to tell a repeat that is promised from one that is not, which attempts were lost.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prove.shop import runs
from prove.shop.kinds import KINDS, POISON_BUDGET

_SHOWN = 5
#: What an attempt comes to that dies, or cannot tell of its end, after its effect.
_DIED = ("crashed", "released", "timeout")


@dataclass
class Findings:
    """What is wrong, by number, with a few examples.

    Attributes:
        orders: how many orders were committed.
        effects: how many effects there are.
        attempts: how many attempts began.
        lost: effects that an order must have and lacks.
        duplicate: effects beyond the one that an order may have.
        ghost: effects of orders that were rolled back.
        stuck: entries that have not ended.
        fenced: effects kept of an atomic attempt that did not own its entry any more.
        early: effects before the time that they were put off to.
        poison: poison orders that began more often than their budget allows, or did not die.
        shared: entries that lived while another one with their key did.
        leaked: keys that stayed behind when their entry had ended.
        repeats: second effects without ``atomic``, each of an attempt that died after its effect.
        examples: what was found, in words.
    """

    orders: int = 0
    effects: int = 0
    attempts: int = 0
    lost: int = 0
    duplicate: int = 0
    ghost: int = 0
    stuck: int = 0
    fenced: int = 0
    early: int = 0
    poison: int = 0
    shared: int = 0
    leaked: int = 0
    repeats: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How many promises were broken."""
        return (self.lost + self.duplicate + self.ghost + self.stuck + self.fenced + self.early) + (
            self.poison + self.shared + self.leaked
        )

    def found(self, what: str, words: str) -> None:
        """Count one."""
        setattr(self, what, getattr(self, what) + 1)
        if what != "repeats" and len(self.examples) < _SHOWN:
            self.examples.append(f"{what}: {words}")


class Tables:
    """A read-only look at the database, in plain SQL.

    Args:
        url: ``postgres://…``, or the path of an SQLite file.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("postgres"):
            import psycopg

            self._connection: Any = psycopg.connect(url, connect_timeout=10)
        else:
            self._connection = sqlite3.connect(f"file:{url}?mode=ro", uri=True, timeout=30)

    def rows(self, query: str) -> list[Sequence[Any]]:
        """Return the rows of a query."""
        cursor = self._connection.execute(query)
        return list(cursor.fetchall())


def check(tables: Tables, log: Sequence[runs.Line]) -> Findings:
    """Compare orders, effects and the log of attempts."""
    found = Findings(attempts=sum(line.what == "start" for line in log))
    orders = {
        _text(number): kind for number, kind in tables.rows("SELECT number, kind FROM prove_order")
    }
    effects: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for number, kind, entry, attempt in tables.rows(
        "SELECT number, kind, entry, attempt FROM prove_effect ORDER BY id"
    ):
        effects[_text(number), kind].append((_text(entry), attempt))
    found.orders = len(orders)
    found.effects = sum(map(len, effects.values()))
    _check_effects(found, orders, effects, _died(tables))
    _check_owner(found, orders, effects, tables)
    _check_poison(found, orders, log)
    _check_keys(found, tables)
    for number, kind in tables.rows(
        "SELECT o.number, o.kind FROM prove_order o JOIN prove_effect e ON e.number = o.number "
        "WHERE e.at < o.not_before"
    ):
        found.found("early", f"{kind} {_text(number)} was run before its time")
    for entry, task, state in tables.rows(
        "SELECT id, task, state FROM reliable_tasks_entry "
        "WHERE state IN ('pending', 'retrying', 'running')"
    ):
        found.found("stuck", f"{task}[{_text(entry)}] is {state}")
    return found


def _check_effects(
    found: Findings,
    orders: dict[str, str],
    effects: dict[tuple[str, str], list[tuple[str, int]]],
    died: set[tuple[str, int]],
) -> None:
    for number, name in orders.items():
        for kind in KINDS[name].effects:
            if not effects.get((number, kind)):
                found.found("lost", f"order {number} has no effect {kind!r}")
    for (number, kind), kept in effects.items():
        if number not in orders:
            found.found("ghost", f"effect {kind!r} of {number}, which was rolled back")
            continue
        # All but the last of them need an excuse, and each attempt may have one effect only.
        for entry, attempt in sorted(kept, key=lambda one: one[1])[:-1]:
            once = Counter(kept)[entry, attempt] == 1
            if once and not KINDS[orders[number]].atomic and (entry, attempt) in died:
                found.found("repeats", "")
            else:
                found.found("duplicate", f"effect {kind!r} of {number} exists {len(kept)} times")


def _died(tables: Tables) -> set[tuple[str, int]]:
    query = "SELECT entry_id, number, outcome FROM reliable_tasks_attempt"
    return {
        (_text(entry), number) for entry, number, outcome in tables.rows(query) if outcome in _DIED
    }


def _check_owner(
    found: Findings,
    orders: dict[str, str],
    effects: dict[tuple[str, str], list[tuple[str, int]]],
    tables: Tables,
) -> None:
    """An atomic effect that is kept must be of the attempt that ended its entry."""
    query = "SELECT id, attempt, state FROM reliable_tasks_entry"
    last = {_text(entry): (attempt, state) for entry, attempt, state in tables.rows(query)}
    for (number, kind), kept in effects.items():
        if number not in orders or not KINDS[orders[number]].atomic:
            continue
        for entry, attempt in kept:
            if last.get(entry) != (attempt, "succeeded"):
                found.found("fenced", f"effect {kind!r} of attempt {attempt}: {last.get(entry)}")


def _check_poison(found: Findings, orders: dict[str, str], log: Sequence[runs.Line]) -> None:
    began = Counter(line.number for line in log if line.what == "start")
    for number, name in orders.items():
        if KINDS[name].poison and began[number] != POISON_BUDGET:
            found.found("poison", f"{number} began {began[number]} times")


def _check_keys(found: Findings, tables: Tables) -> None:
    """One live entry for each key, no change that nobody counted, no key that stayed behind."""
    for product, entry in tables.rows(
        "SELECT DISTINCT o.product, o.entry FROM prove_order o LEFT JOIN prove_effect e "
        "ON e.entry = o.entry WHERE o.kind IN ('sole', 'recount') AND e.entry IS NULL"
    ):
        found.found("lost", f"{_text(entry)}, which stands for orders of {product}, did nothing")
    # An entry has its key at least from its first order until its effect.
    until: dict[int, Any] = {}
    for product, entry, begin, end in tables.rows(
        "SELECT o.product, o.entry, min(o.made) AS first, max(e.at) FROM prove_order o "
        "JOIN prove_effect e ON e.entry = o.entry WHERE o.kind = 'sole' "
        "GROUP BY o.product, o.entry ORDER BY first"
    ):
        if product in until and begin < until[product]:
            found.found("shared", f"{_text(entry)} lived beside another one of product {product}")
        until[product] = max(end, until.get(product, end))
    for product, made, seen in tables.rows(
        "SELECT o.product, count(*), (SELECT max(e.seen) FROM prove_effect e "
        "WHERE e.kind = 'recount' AND e.product = o.product) FROM prove_order o "
        "WHERE o.kind = 'recount' GROUP BY o.product"
    ):
        if (seen or 0) < made:
            found.found("lost", f"of {made} orders of product {product} {seen or 0} were counted")
    for text, entry, state in tables.rows(
        "SELECT k.text, k.entry_id, e.state FROM reliable_tasks_key k LEFT JOIN "
        "reliable_tasks_entry e ON e.id = k.entry_id WHERE k.until IS NULL AND "
        "(e.state IS NULL OR e.state NOT IN ('pending', 'retrying', 'running'))"
    ):
        found.found("leaked", f"{text} is held by {_text(entry)}, which is {state or 'gone'}")


def _text(value: Any) -> str:
    return str(value).replace("-", "")


def main() -> None:
    """Print the findings as JSON."""
    parser = argparse.ArgumentParser(prog="python -m prove.checker")
    parser.add_argument("--database", required=True)
    parser.add_argument("--runs", required=True, type=Path)
    options = parser.parse_args()
    log = [
        runs.Line(**{**asdict(line), "number": _text(line.number)})
        for line in runs.read(options.runs)
    ]
    print(json.dumps(asdict(check(Tables(options.database), log))))


if __name__ == "__main__":
    main()
