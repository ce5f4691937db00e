"""Which functions of the ledger write, read from their code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from reliable_tasks import ledger
from tests.harness import ROOT

_LEDGER = ROOT / "reliable_tasks" / "ledger"
# Statements written by hand are taken for writes: what only reads goes through the ORM, but for one
# that every refused call sends.
_READS_BY_HAND = {"keys._read", "guard.short_transaction"}
_WRITES = {
    *("update", "create", "bulk_create", "delete", "_raw_delete"),
    *("run", "execute", "executemany", "write"),
}


def functions() -> dict[str, ast.FunctionDef]:
    """Return every function of the ledger's modules by its name."""
    found: dict[str, ast.FunctionDef] = {}
    for path in sorted(_LEDGER.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                found[f"{path.stem}.{node.name}"] = node
    return found


def writing_verbs() -> set[str]:
    """Return the public functions that write, by themselves or by a function that they call."""
    known = functions()
    direct = {name for name, node in known.items() if _writes(node) and name not in _READS_BY_HAND}
    found = set()
    for name in known:
        verb = name.partition(".")[2]
        if verb in ledger.__all__ and _reached(name, known) & direct:
            found.add(verb)
    return found


def _reached(name: str, known: dict[str, ast.FunctionDef]) -> set[str]:
    reached: set[str] = set()
    ahead = [name]
    while ahead:
        here = ahead.pop()
        if here not in reached:
            reached.add(here)
            ahead += _called(here, known)
    return reached


def _called(name: str, known: dict[str, ast.FunctionDef]) -> Iterator[str]:
    module = name.partition(".")[0]
    for call in _calls(known[name]):
        if isinstance(call.func, ast.Name):
            same = f"{module}.{call.func.id}"
            yield from [same] if same in known else _elsewhere(call.func.id, known)


def _elsewhere(word: str, known: dict[str, ast.FunctionDef]) -> list[str]:
    return [name for name in known if not word.startswith("_") and name.endswith(f".{word}")]


def _writes(function: ast.FunctionDef) -> bool:
    for call in _calls(function):
        word = getattr(call.func, "attr", getattr(call.func, "id", ""))
        # A queryset's update() takes keywords; a set's or dictionary's takes what it adds.
        if word in _WRITES and not (word == "update" and call.args):
            return True
    return False


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))
