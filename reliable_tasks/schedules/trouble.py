"""What is wrong with a schedule's row, before it comes due: told by checks, doctor and admin."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import BoundArguments
from typing import TYPE_CHECKING, Any, Final

from celery import current_app

from ..signature import signature_of

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


#: Tells what is wrong with the arguments of a call that fits the task's signature: it is given the
#: task and the arguments as they fall on its parameters, and yields texts.
Probe = Callable[[Any, BoundArguments], Iterator[str]]

#: What looks at arguments. Whoever gives parameters a meaning adds a probe.
PROBES: Final[list[Probe]] = []


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
    what = f"are no JSON: {value}" if isinstance(value, ValueError) else f"are {text}"
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
    for probe in PROBES:
        for text in probe(task, bound):
            yield Trouble(Kind.MISSING_ROW, text, "Correct the argument, or disable the schedule.")


def _signature(task: Any) -> str:
    found = signature_of(task)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))
