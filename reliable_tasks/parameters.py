"""Parameters that are annotated with a model: what they take, and the keys that are kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, get_args
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import BooleanField, Model, QuerySet

from .errors import ArgumentError
from .refusal import refusal
from .subject import primary_key

OnMissing = Literal["dead", "discard", "retry"]
ON_MISSING: Final = get_args(OnMissing)
_LARGEST: Final = 2**63
_KINDS_OF_KEYS: Final = (str, int, float, UUID, Decimal, date, time, timedelta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How the rows of a parameter are read: ``order: Annotated[Order, Load(for_update=True)]``.

    Attributes:
        select_related: relations to join, as for ``QuerySet.select_related()``.
        prefetch_related: lookups, as for ``QuerySet.prefetch_related()``.
        only: fields to read, as for ``QuerySet.only()``; all unless given.
        manager: name of the model's manager to read with; its default manager unless given.
        using: alias of the database; the one that routers choose for writes unless given.
        for_update: lock the rows until the attempt ends; only in tasks with ``atomic=True``.
        on_missing: what becomes of the entry if a row is gone: "dead", "discard" or "retry"; the
            task's own ``on_missing`` unless given.
    """

    select_related: tuple[str, ...] = ()
    prefetch_related: tuple[Any, ...] = ()
    only: tuple[str, ...] = ()
    manager: str = ""
    using: str | None = None
    for_update: bool = False
    on_missing: OnMissing | None = None

    def __post_init__(self) -> None:
        for name in ("select_related", "prefetch_related", "only"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise TypeError(f"Load({name}=…) takes a tuple: ({given!r},).")
            object.__setattr__(self, name, tuple(given))
        if self.on_missing not in (None, *ON_MISSING):
            raise ValueError(
                f"Load(on_missing={self.on_missing!r}): it is one of {', '.join(ON_MISSING)}."
            )


@dataclass(frozen=True, slots=True)
class ModelParameter:
    """One parameter that is annotated with a model.

    Attributes:
        name: the parameter's name.
        model: the model.
        container: ``list`` or ``tuple`` if it takes several, None if one.
        optional: whether it may be None.
        load: how its rows are read.
    """

    name: str
    model: type[Model]
    container: type[list[Any] | tuple[Any, ...]] | None = None
    optional: bool = False
    load: Load = Load()

    @property
    def alias(self) -> str:
        """The database that its rows are read from: where they are written, never a replica."""
        return self.load.using or router.db_for_write(self.model)

    def plain(self, value: Any) -> Any:
        """Return what the entry keeps of a value: its primary key, or a list of them.

        Args:
            value: an instance or a primary key; for a list of models, a list or tuple of such.

        Raises:
            ArgumentError: it is neither; the text is to follow the argument's name.
        """
        if value is None and self.optional:
            return None
        if self.container is None:
            return self._key(value)
        if not isinstance(value, list | tuple):
            what = refusal(value) if isinstance(value, QuerySet | set) else f"is a {_kind(value)}."
            raise ArgumentError(f"{what} Pass a list of {self.model.__name__} instances or keys.")
        keys = []
        for n, item in enumerate(value):
            try:
                keys.append(self._key(item))
            except ArgumentError as error:
                raise ArgumentError(f"has an item that is wrong: [{n}] {error}") from None
        return keys

    def _key(self, value: Any) -> Any:
        if isinstance(value, Model):
            return self._key_of(value)
        model = self.model
        fields = model._meta.pk_fields
        if len(fields) == 1:
            return _key_value(model, fields[0], value)
        if not isinstance(value, list | tuple) or len(value) != len(fields):
            names = ", ".join(field.name for field in fields)
            raise ArgumentError(
                f"is {_article(value)}, but the primary key of {model.__name__} is ({names}). "
                f"Pass a {model.__name__} instance, or a tuple of these values."
            )
        return [_key_value(model, *each) for each in zip(fields, value, strict=True)]

    def _key_of(self, instance: Model) -> Any:
        model = self.model
        name = type(instance).__name__
        if not isinstance(instance, model._meta.concrete_model or model):
            raise ArgumentError(
                f"is a {name} instance, but its parameter is annotated with {model.__name__}. Pass "
                f"a {model.__name__}, or the primary key of one."
            )
        key = primary_key(model, instance)
        missing = None in key if isinstance(key, tuple) else key is None
        # A key made by the model's default is there before the row is.
        if missing or instance._state.adding:
            raise ArgumentError(
                f"is a {name} instance that is not in the database: it was never saved, or was "
                "deleted. Save it first, in the same transaction; or pass the primary key of a row."
            )
        if self.load.using is None:
            home = router.db_for_write(model, instance=instance)
            if home != self.alias:
                raise ArgumentError(
                    f"is a {name} instance from the database {home!r}, but the task would look for "
                    f"its key in {self.alias!r}, where routers send {model.__name__}. Say where: "
                    f"Annotated[{model.__name__}, Load(using={home!r})]."
                )
        return list(key) if isinstance(key, tuple) else key

    def keys(self, kept: Any) -> list[Any]:
        """Return the primary keys in what an entry keeps, as the model has them.

        Args:
            kept: what :meth:`plain` returned, or what an older caller passed.

        Raises:
            ArgumentError: they are no keys of the model.
        """
        if kept is None:
            return []
        kept = self.plain(kept)
        keys = kept if self.container is not None else [kept]
        return [tuple(key) if isinstance(key, list) else key for key in keys]


def _key_value(model: type[Model], field: Any, value: Any) -> Any:
    expected = f"a {model.__name__} instance or its primary key"
    # Some fields would make a key of anything: str() of a list, int() of 1.5 or True.
    fits = isinstance(value, _KINDS_OF_KEYS)
    if not fits or (isinstance(value, bool) and not isinstance(field, BooleanField)):
        told = refusal(value) if isinstance(value, QuerySet | set | bytes) else None
        raise ArgumentError(f"{told or f'is {_article(value)}.'} Pass {expected}.")
    try:
        key = field.to_python(value)
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        key = None
    if key is None or (isinstance(value, float) and key != value):
        raise ArgumentError(f"is {_article(value)} that is no key of it. Pass {expected}.")
    if isinstance(key, int) and not -_LARGEST <= key < _LARGEST:
        raise ArgumentError(f"is a number too large for a key. Pass {expected}.")
    return key


def _kind(value: Any) -> str:
    return type(value).__qualname__


def _article(value: Any) -> str:
    if value is None:
        return "None (an object that was not saved has no key yet)"
    return f"a {_kind(value)}"
