"""Keys as celery_once spells them, for code that relies on their text. Pure.

The names of the parts are joined with ``_`` and ``-`` and nothing is escaped, so that different
calls can have the same text. Use it only where that very text is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def textual_key(task: str, arguments: Mapping[str, Any], keys: Iterable[str] | None = None) -> str:
    """Return ``qo_<task>_<name>-<value>_…`` with the arguments sorted by name.

    Args:
        task: the task's name.
        arguments: the bound arguments.
        keys: the arguments that count; None for all.

    Raises:
        KeyError: one of ``keys`` was not passed.
    """
    chosen = arguments if keys is None else {name: arguments[name] for name in keys}
    parts = (f"{name}-{_text(chosen[name])}" for name in sorted(chosen, key=str))
    return "_".join(("qo", task, *parts))


def _text(value: Any) -> str:
    return str(_sorted(value))


def _sorted(value: Any) -> Any:
    # A dict reads as its repr does, inner dicts as text, each in the order of its keys.
    if isinstance(value, Mapping):
        return str({name: _sorted(value[name]) for name in sorted(value, key=str)})
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
