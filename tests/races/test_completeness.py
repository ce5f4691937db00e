"""Every function of the ledger that writes has a race of its own, and a part in the model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.harness import ROOT
from tests.verbs import writing_verbs

TESTS = ROOT / "tests"
RACES = sorted((TESTS / "races").glob("test_*.py"))
VERBS = sorted(writing_verbs())
OF_WORKERS = {"beat", "leave", "forget_silent"}
# What operators do is kept in tables of its own, and touches entries through the verbs above.
OF_OPERATORS = {
    *("record", "touch", "begin_operation", "advance_operation", "end_operation"),
    *("pass_operation_on", "steer_operation", "set_rate", "pause", "resume", "forget_ended"),
}


@cache
def definitions(name: str) -> dict[str, ast.AST]:
    """Return what a module of the tests defines at its top level, by name."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse((TESTS / name).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
    return found


def raced(module: str) -> set[str]:
    """Return the ledger's functions that the races of a module hand to two connections."""
    shared = {f"entries.{name}": node for name, node in definitions("entries.py").items()}
    known = {**shared, **definitions("races/acts.py"), **definitions(module)}
    found = set()
    for test in (node for name, node in known.items() if name.startswith("test_")):
        for call in ast.walk(test):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("race."):
                for given in call.args:
                    found |= set(called(given, known, set()))
                found |= set(parametrized(test, known))
    return found


def parametrized(test: ast.AST, known: dict[str, ast.AST]) -> Iterator[str]:
    assert isinstance(test, ast.FunctionDef)
    for decorator in test.decorator_list:
        yield from called(decorator, known, set())


def called(node: ast.AST, known: dict[str, ast.AST], seen: set[str]) -> Iterator[str]:
    """Yield the ledger's functions that an expression names, by itself or through helpers."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            if part.value.id == "ledger":
                yield part.attr
            word = f"{part.value.id}.{part.attr}"
        else:
            word = part.id if isinstance(part, ast.Name) else ""
        if word in known and word not in seen:
            seen.add(word)
            yield from called(known[word], known, seen)


@cache
def all_raced() -> set[str]:
    return set().union(*(raced(f"races/{path.name}") for path in RACES))


def test_the_writing_functions_are_found():
    """The list of functions that write is read from the code, helpers and raw SQL included."""
    assert {"enqueue", "claim", "succeed", "bury", "sweep_due", "release_left", "beat"} <= set(
        VERBS
    )
    assert not {"exists", "has_ended", "missing_on", "is_asked_to_stop", "first_alive"} & set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_race_for_every_verb(verb):
    """Each function that writes is done on two connections at once by some test."""
    assert verb in all_raced(), f"no race in tests/races has ledger.{verb} as one of its acts"


@pytest.mark.parametrize("verb", sorted(set(VERBS) - OF_WORKERS - OF_OPERATORS))
def test_the_model_has_every_verb(verb):
    """Each function that writes entries is one of the acts of the random lives."""
    names = {
        node.attr
        for model in ("model/acts.py", "once/test_machine.py")
        for node in ast.walk(ast.parse((TESTS / model).read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert verb in names
