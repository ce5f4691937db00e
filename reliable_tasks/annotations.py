"""From an annotation to the model that it names."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, MutableSequence, Sequence
from dataclasses import replace
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

from django.db.models import Manager, Model, QuerySet

from .hints import Unresolvable
from .parameters import Load, ModelParameter

# What may be annotated beside a model for callers that pass the key: ``Order | int``.
_KEYS: Final = (int, str, UUID)
_LISTS: Final = (list, tuple, Sequence, MutableSequence, Collection, Iterable)
_ALIASES: Final = getattr(typing, "TypeAliasType", ())  # from Python 3.12 on


class Unusable(Exception):
    """An annotation names a model in a way that cannot be honoured; the text says why."""


def read(name: str, hint: Any, load: Load | None = None) -> ModelParameter | None:
    """Return what a resolved annotation says of models; None if it names none.

    Args:
        name: the parameter's name.
        hint: its annotation.
        load: what an ``Annotated`` around it said.

    Raises:
        Unusable: it names models in a way that cannot be honoured.
        Unresolvable: what a type variable is bound to cannot be read.
    """
    if isinstance(hint, _ALIASES):
        return read(name, hint.__value__, load)
    if isinstance(hint, typing.TypeVar):
        return _of_variable(name, hint, load)
    if isinstance(hint, type) and get_origin(hint) is None:
        return _of_class(name, hint, load or Load())
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _of_annotated(name, hint, load)
    if origin in (Union, UnionType):
        return _of_union(name, inner, load)
    if origin in _LISTS:
        return _of_list(name, hint, load)
    if origin is not type and any(read(name, each, load) for each in inner):
        raise Unusable(
            f"{_text(hint)} holds models where their keys cannot be told from other values. "
            "Annotate the parameter with the model itself, or with a list of it"
        )
    return None


def _of_class(name: str, hint: type, load: Load) -> ModelParameter | None:
    if issubclass(hint, QuerySet | Manager):
        raise Unusable(
            "a queryset cannot be kept, because it would find other rows later. Annotate the "
            "parameter with list[…] of the model and pass the instances or their keys"
        )
    if not issubclass(hint, Model):
        return None
    meta = getattr(hint, "_meta", None)
    if meta is None or meta.abstract:
        raise Unusable(
            f"{hint.__name__} is abstract and has no rows of its own. Annotate the parameter with "
            "the model that is meant"
        )
    if meta.swapped:
        raise Unusable(
            f"{hint.__name__} is swapped for {meta.swapped}. Annotate the parameter with that"
        )
    return ModelParameter(name, hint, load=load)


def _of_annotated(name: str, hint: Any, load: Load | None) -> ModelParameter | None:
    said = [each for each in hint.__metadata__ if isinstance(each, Load)]
    if Load in hint.__metadata__:
        raise Unusable("Load stands there without its parentheses. Write Load(…)")
    found = read(name, hint.__origin__, said[0] if said else load)
    if found is None and said:
        raise Unusable(f"Load(…) stands beside {_text(hint.__origin__)}, which is no model")
    return found


def _of_variable(name: str, hint: typing.TypeVar, load: Load | None) -> ModelParameter | None:
    # ``def body[T: Order](order: T)``: what it may be is what it is bound to.
    try:
        some = hint.__constraints__ or (hint.__bound__,)
    except NameError as error:  # evaluated only now, and imported for type checkers only
        raise Unresolvable(str(error)) from error
    if any(isinstance(each, typing.ForwardRef) for each in some):
        raise Unresolvable(f"the type variable {hint} is bound to a text")
    return _of_union(name, some, load) if some != (None,) else None


def _of_union(name: str, inner: tuple[Any, ...], load: Load | None) -> ModelParameter | None:
    members = [each for each in inner if each is not NoneType]
    found = [read(name, each, load) for each in members]
    models = [each for each in found if each is not None]
    if not models:
        return None
    others = [
        each
        for each, model in zip(members, found, strict=True)
        if model is None and each not in _KEYS
    ]
    if len(models) > 1 or others:
        words = " | ".join(map(_text, members))
        raise Unusable(
            f"{words} does not say which model a key belongs to. Annotate one model, and write "
            " a task for each"
        )
    return replace(models[0], optional=models[0].optional or NoneType in inner)


def _of_list(name: str, hint: Any, load: Load | None) -> ModelParameter | None:
    origin, inner = get_origin(hint), get_args(hint)
    found = [read(name, each, load) for each in inner if each is not Ellipsis]
    first = found[0] if found else None
    if not any(found):
        return None
    if first is None or len(found) > 1 or first.container is not None or first.optional:
        raise Unusable(
            f"{_text(hint)} is more than a plain list of one model. Annotate list[…] of the model"
        )
    return replace(first, container=tuple if origin is tuple else list)


def _text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
