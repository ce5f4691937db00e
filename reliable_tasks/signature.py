"""What a task's function takes: its parameters, and how one call's arguments fall on them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from inspect import BoundArguments, Signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .described import Described

if sys.version_info >= (3, 14):  # where annotations are evaluated only when somebody reads them
    from annotationlib import Format

    # What a name that only type checkers import stands for is found out later, by ``hints``.
    _read = partial(inspect.signature, annotation_format=Format.FORWARDREF)
else:
    _read = inspect.signature


def signature_of(task: Described) -> Signature:
    """Return the signature of a task's function, without ``self`` where the task is bound.

    Args:
        task: the task.
    """
    function = getattr(task, "_orig_run", None) or task.run  # Celery's autoretry wraps ``run``
    return _signature(getattr(function, "__func__", function), hasattr(function, "__self__"))


@cache
def _signature(function: Any, is_bound: bool) -> Signature:
    found = _read(function)
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
