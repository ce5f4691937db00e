"""What a task says of its parameters, and signatures that hold keys instead of instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from celery.canvas import Signature, signature
from django.apps import apps
from django.db.models import Model

from . import arguments
from .errors import ArgumentError
from .parameters import OnMissing
from .plan import plan_of


class Described(Task):  # type: ignore[misc]
    """The part of the task base that says what parameters are; see :class:`ReliableTask`."""

    abstract = True
    atomic: bool = False
    on_missing: OnMissing = "dead"
    sensitive: Sequence[str] = ()
    subject: str | bool | None = None

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *given: Any,
        **options: Any,
    ) -> Signature:
        """Make a signature, with the keys of model instances in their place.

        Args:
            args: positional arguments; in a chain the previous result comes before them.
            kwargs: keyword arguments.
            *given: as for Celery's method.
            **options: likewise.

        Raises:
            ArgumentError: an argument cannot be kept.
        """
        # With a type it is made of a request, whose arguments somebody else has taken.
        if (args or kwargs) and apps.ready and "type" not in options:
            args, kwargs = self._plain(args or (), kwargs or {}, options)
        return signature(self, args, kwargs, *given, app=options.pop("app", self.app), **options)

    subtask = signature

    def _plain(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if options.get("immutable") or not args:
            args, kwargs, _ = arguments.plain(self, args, kwargs)
        else:
            kwargs = arguments.plain(self, (), kwargs).kwargs
            args = [self._partial(n, value) for n, value in enumerate(args)]
        arguments.texts(self, args, kwargs)
        return args, kwargs

    def _partial(self, position: int, value: Any) -> Any:
        """Return the key of an instance in a signature that may get arguments before its own."""
        items = value if isinstance(value, list | tuple) else [value]
        if not any(isinstance(item, Model) for item in items):
            return value
        plan = plan_of(self)
        names = [*plan.names[position:], plan.rest] if plan else []
        refused: ArgumentError | None = None
        for name in names:
            try:
                if plan and name in plan.models:
                    return plan.models[name].plain(value)
            except ArgumentError as error:
                refused = refused or ArgumentError(f"{self.name}: argument {name!r} {error}")
        if refused is not None:
            raise refused
        return value
