"""What a task's function takes: its parameters, and how one call's arguments fall on them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from inspect import BoundArguments, Signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .described import Described


def signature_of(task: Described) -> Signature:
    """Return the signature of a task's function, without ``self`` where the task is bound.

    Args:
        task: the task.
    """
    function = getattr(task, "_orig_run", None) or task.run  # Celery's autoretry wraps ``run``
    return _signature(getattr(function, "__func__", function), hasattr(function, "__self__"))


@cache
def _signature(function: Any, is_bound: bool) -> Signature:
    found = inspect.signature(function)
    if not is_bound:
        return found
    first, *others = found.parameters.values()
    # A method that takes ``*args`` has its task in there.
    return found if first.kind is first.VAR_POSITIONAL else found.replace(parameters=others)


def bind(task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]) -> BoundArguments:
    """Return how a call's arguments fall on the parameters, with defaults filled in.

    Args:
        task: the task that is called.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        TypeError: the arguments do not fit the signature.
    """
    bound = signature_of(task).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound
