"""An entry's arguments and options as people may see them: every output reads them from here."""

from __future__ import annotations

from typing import Any

from celery import current_app

from . import codec
from .arguments import masked
from .described import Described
from .models import Entry


def shown_arguments(entry: Entry) -> tuple[list[Any], dict[str, Any]]:
    """Return an entry's positional and keyword arguments without what is sensitive.

    What was sensitive when it was enqueued is marked in the entry itself, so that this holds also
    where the task's code is not loaded. What its task has declared since is hidden as well.

    Args:
        entry: the entry.
    """
    args = entry.args if isinstance(entry.args, list) else [entry.args]
    kwargs = entry.kwargs if isinstance(entry.kwargs, dict) else {"?": entry.kwargs}
    return _of_task(entry.task, args, kwargs)


def shown_options(entry: Entry) -> Any:
    """Return an entry's options; what follows it (links, chains, chords) has arguments, too.

    Args:
        entry: the entry.
    """
    return _options(entry.options)


def hiding(name: str, places: int) -> tuple[list[str], list[list[str]]]:
    """Return the tasks that hide an argument, so that a search does not find what is not shown.

    Args:
        name: the argument's name.
        places: how many positional arguments to tell of.

    Returns:
        The names of the tasks that hide what is given by this name, and for each place the names
        of those that hide what is given there.
    """
    named: list[str] = []
    placed: list[list[str]] = [[] for _ in range(places)]
    for task in list(current_app.tasks.values()):
        if not isinstance(task, Described) or not task.sensitive:
            continue
        args, kwargs = masked(task, [""] * places, {name: ""})
        if kwargs[name] == codec.MASK:
            named.append(task.name)
        for hidden, value in zip(placed, args, strict=True):
            if value == codec.MASK:
                hidden.append(task.name)
    return named, placed


def _options(value: Any) -> Any:
    if isinstance(value, list):
        return [_options(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _options(item) for key, item in value.items()}
    name, args, kwargs = (found.get(key) for key in ("task", "args", "kwargs"))
    if isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict):
        found["args"], found["kwargs"] = _of_task(name, args, kwargs, partial=True)
    return found


def _of_task(
    name: str, args: list[Any], kwargs: dict[str, Any], *, partial: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    task = current_app.tasks.get(name)
    if not isinstance(task, Described):
        return codec.shown(args), codec.shown(kwargs)
    hidden, named = masked(task, args, kwargs)
    if partial and task.sensitive:
        # Where a previous result comes before them, places cannot be told.
        hidden = [codec.MASK for _ in args]
    return list(hidden), dict(named)
