"""What an annotation means, also where it is text or names what only type checkers import. Pure."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, get_type_hints


class Unresolvable(Exception):
    """An annotation is text that cannot be turned into what it names."""


def resolve(annotation: Any, function: Any) -> Any:
    """Return what an annotation stands for.

    Names that a module imports only under ``if TYPE_CHECKING:`` are imported now: when a task is
    called all modules are loaded, so what would have been a circular import is none any more.

    Args:
        annotation: as it stands in the function's signature; text is evaluated.
        function: the function, in whose module names are looked up.

    Raises:
        Unresolvable: a name does not exist, or the annotation is no type.
    """
    if isinstance(annotation, type):
        return annotation
    known: dict[str, Any] = {}
    names = getattr(inspect.unwrap(function), "__globals__", {})
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    while True:
        try:
            return get_type_hints(holder, {**known, **names}, include_extras=True)["it"]
        except NameError as error:
            missing = error.name or ""
            if missing in known:
                raise Unresolvable(str(error)) from error
            known[missing] = _import(missing, names.get("__name__"), error)
        except Exception as error:  # evaluating somebody's text may raise anything
            raise Unresolvable(f"{type(error).__name__}: {error}") from error


def _import(name: str, module: str | None, error: NameError) -> Any:
    found = _for_checkers(module).get(name) if module else None
    if found is None:
        raise Unresolvable(str(error)) from error
    try:
        loaded = import_module(found[0])
        return getattr(loaded, found[1]) if found[1] else loaded
    except (ImportError, AttributeError) as failed:
        raise Unresolvable(f"{error}, and its import fails: {failed}") from failed


@cache
def _for_checkers(module: str) -> dict[str, tuple[str, str]]:
    """Return module and attribute of each name that a module imports only for type checkers."""
    loaded = sys.modules.get(module)
    try:
        tree = ast.parse(inspect.getsource(loaded)) if loaded is not None else ast.Module([], [])
    except (OSError, TypeError, SyntaxError):  # no source: a frozen or interactive module
        return {}
    package = getattr(loaded, "__package__", None)
    found: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for each in node.body:
                found.update(_names(each, package))
    return found


def _names(node: ast.stmt, package: str | None) -> dict[str, tuple[str, str]]:
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                alias.name if alias.asname else alias.name.partition(".")[0],
                "",
            )
            for alias in node.names
        }
    if isinstance(node, ast.ImportFrom):
        path = "." * node.level + (node.module or "")
        source = importlib.util.resolve_name(path, package) if node.level else path
        return {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return {}
