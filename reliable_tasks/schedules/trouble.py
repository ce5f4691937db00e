"""What is wrong with a schedule's row, before it comes due: told by checks, doctor and admin."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from celery import current_app

from ..errors import ArgumentError
from ..plan import plan_of
from ..signature import signature_of
from ..task import ReliableTask

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask


class Kind(StrEnum):
    """What kind of trouble it is; each is a check of its own."""

    UNKNOWN_TASK = "unknown task"
    NO_JSON = "no JSON"
    WRONG_CALL = "wrong call"
    MISSING_ROW = "missing row"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong with a schedule.

    Attributes:
        kind: what kind of thing.
        text: what it is.
        remedy: what to do.
    """

    kind: Kind
    text: str
    remedy: str


def troubles(schedule: PeriodicTask) -> list[Trouble]:
    """Return what is wrong with a schedule. The modules of the tasks are imported for that.

    Args:
        schedule: a row of django-celery-beat.
    """
    values = {name: _loaded(schedule, name) for name in ("args", "kwargs", "headers")}
    found = [value for value in values.values() if isinstance(value, Trouble)]
    tasks = known_tasks()
    task = None if tasks is None else tasks.get(schedule.task)
    if tasks is not None and task is None:
        found.append(
            Trouble(
                Kind.UNKNOWN_TASK,
                f"There is no task {schedule.task!r}.",
                "Correct the name, or disable the schedule. A task of another code base is right "
                "all the same: silence the check then.",
            )
        )
    if task is not None and not found:
        found += _of_call(task, values["args"], values["kwargs"])
    return found


def known_tasks() -> Any:
    """Return the registered tasks after their modules were imported; None if they cannot be."""
    app = current_app._get_current_object()
    if not getattr(app, _IMPORTED, False):
        try:
            app.loader.import_default_modules()
        except Exception:  # whatever a project's module raises; the doctor tells of it
            return None
        setattr(app, _IMPORTED, True)
    return app.tasks


_IMPORTED: Final = "_reliable_tasks_modules"


def _loaded(schedule: PeriodicTask, name: str) -> Any:
    text, kind = getattr(schedule, name) or "", list if name == "args" else dict
    if not text:
        return kind()
    try:
        value = json.loads(text)
    except ValueError as error:
        value = error
    if isinstance(value, kind):
        return value
    # Without the text itself: a value in it may be sensitive.
    noun = "list" if kind is list else "object"
    what = f"are no JSON: {value}" if isinstance(value, ValueError) else f"are JSON, but no {noun}"
    form = '["a list"]' if kind is list else '{"an": "object"}'
    return Trouble(Kind.NO_JSON, f"The {name} {what}.", f"Write {name} as JSON, as in {form}.")


def _of_call(task: Any, args: list[Any], kwargs: dict[str, Any]) -> Iterator[Trouble]:
    try:
        # Celery checks the same when it is called, unless the task says typing=False.
        if not task.typing:
            return
        bound = signature_of(task).bind(*args, **kwargs)
    except TypeError as error:
        yield Trouble(
            Kind.WRONG_CALL,
            f"The task {task.name!r} does not take these arguments: {error}.",
            f"It takes {_signature(task)}.",
        )
        return
    yield from _of_models(task, bound.arguments)


def _of_models(task: Any, given: Mapping[str, Any]) -> Iterator[Trouble]:
    """Yield what is wrong with arguments that name rows of a model."""
    plan = plan_of(task) if isinstance(task, ReliableTask) else None
    for name, parameter in plan.models.items() if plan is not None else ():
        value = given.get(name)
        if value is None:
            continue
        values = _many(signature_of(task).parameters[name].kind, value)
        try:
            keys = [key for each in values for key in parameter.keys(each)]
        except ArgumentError as error:
            text = f"The argument {name!r} of {task.name!r} {error}"
            yield Trouble(Kind.WRONG_CALL, text, f"It takes {_signature(task)}.")
            continue
        model: Any = parameter.model
        rows = model._base_manager.using(parameter.alias).filter(pk__in=keys)
        gone = set(keys).difference(rows.values_list("pk", flat=True))
        if gone:
            hidden = plan is not None and name in plan.sensitive
            which = "" if hidden else f": {', '.join(sorted(map(str, gone)))}"
            yield Trouble(
                Kind.MISSING_ROW,
                f"The argument {name!r} of {task.name!r} names what is not in "
                f"{model._meta.label}{which}.",
                "Name another row, or disable the schedule.",
            )


def _many(kind: Any, value: Any) -> Iterable[Any]:
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return list(value)
    return list(value.values()) if kind is inspect.Parameter.VAR_KEYWORD else [value]


def _signature(task: Any) -> str:
    found = signature_of(task)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))
