"""Keys of a task's calls as celery_once spells them, for code that relies on their text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any
from uuid import UUID

from . import dedup
from .plan import plan_of
from .signature import signature_of


def written(
    task: Any, keys: Iterable[str] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return how a task with celery_once's interface spells a key, None for others.

    Args:
        task: the task.
        keys: the parameters that make the key; None for all that are passed.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        TypeError: the arguments do not fit the task's signature.
    """
    if not hasattr(task, "get_key"):
        return None
    if task.key_is_text:
        return str(task.get_key(args, kwargs))
    return spelling(task, keys, args, kwargs)


def spelling(
    task: Any, keys: Iterable[str] | None, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return how celery_once spells the key of a call.

    Args:
        task: the task.
        keys: the parameters that make the key; None for all that are passed.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        KeyError: one of ``keys`` is nothing that the task can take.
        TypeError: the arguments do not fit the task's signature.
    """
    bound = signature_of(task).bind(*args, **kwargs)
    if keys is None:
        return dedup.textual_key(task.name, bound.arguments, None)
    # celery_once fails where one of them is left to its default, or is one of **kwargs.
    bound.apply_defaults()
    given = bound.arguments
    for each in bound.signature.parameters.values():
        if each.kind is Parameter.VAR_KEYWORD:
            given = {**dict.fromkeys(keys), **given[each.name], **given}
    return dedup.textual_key(task.name, given, keys)


def textual(text: str) -> tuple[UUID, str]:
    """Return the digest and the readable form of a key that is given by its text.

    Such keys are shared among all tasks whose texts are equal, as in celery_once.
    """
    digest = dedup.digest_of("text", "", text)
    return digest, dedup.shorten(text, digest)


def readable_text(task: Any, text: str) -> str:
    """Return the readable form of a key of celery_once's spelling, by which it is found again.

    Where parameters are sensitive it has a digest for the text, which spells their values out.

    Args:
        task: the task.
        text: the spelling.
    """
    digest, readable = textual(text)
    plan = plan_of(task)
    if plan is None or not plan.sensitive:
        return readable
    return dedup.shorten(f"{task.name}(…) {digest.hex}", digest)
