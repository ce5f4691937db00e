"""Schedules that code declares: in ``RELIABLE_TASKS["SCHEDULES"]``, and with :func:`scheduled`.

A declaration is read into plain JSON values, so that it can be kept beside the row and compared
with what the row and the next release say.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FunctionType
from typing import Any, Final, TypeVar

from ..conf import NAME, current
from ..errors import ConfigurationError
from .when import When, when_of

_Task = TypeVar("_Task")

#: Columns of django-celery-beat's row that a declaration may give, each with what it is otherwise.
ROW: Final[dict[str, Any]] = {
    "args": [],
    "kwargs": {},
    "queue": None,
    "exchange": None,
    "routing_key": None,
    "priority": None,
    "headers": {},
    "expire_seconds": None,
    "start_time": None,
    "expires": None,
    "one_off": False,
    "enabled": True,
    "description": "",
}
#: The dict that CELERY_BEAT_SCHEDULE knows; the same names may also stand beside it.
OPTIONS: Final = ("queue", "exchange", "routing_key", "priority", "headers", "expire_seconds")
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "args": (list, tuple),
    "kwargs": (Mapping,),
    "headers": (Mapping,),
    "priority": (int,),
    "expire_seconds": (int,),
    "start_time": (datetime,),
    "expires": (datetime,),
    "one_off": (bool,),
    "enabled": (bool,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What code says of one schedule.

    Attributes:
        name: the schedule's name, by which it is found again.
        task: the task's name.
        when: when it is due.
        row: the columns of :data:`ROW`, filled in.
        policy: what it says of the policy; names and types are those of ``SchedulePolicy``.
        where: where it stands, for messages.
        says: the values that it speaks of; the others are an operator's. None for all of them.
    """

    name: str
    task: str
    when: When
    row: Mapping[str, Any]
    policy: Mapping[str, Any]
    where: str
    says: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class _Decorated:
    task: Any
    name: str
    given: Mapping[str, Any]


_decorated: list[_Decorated] = []


def scheduled(
    schedule: Any, *, name: str = "", timezone: str | None = None, **options: Any
) -> Callable[[_Task], _Task]:
    """Declare a schedule of a task: ``@scheduled("30 2 * * *", timezone="Europe/Berlin")``.

    It stands above ``@shared_task`` or ``@app.task``; a task may have several. The schedule becomes
    a row when ``migrate`` or ``manage.py reliable_tasks schedules sync`` runs next.

    Args:
        schedule: a cron line, seconds, a ``timedelta``, or one of Celery's schedule objects.
        name: the schedule's name, unique in the project; the task's name unless given.
        timezone: of a cron line, as in ``Europe/Berlin``; ``CELERY_TIMEZONE`` unless given.
        **options: what ``RELIABLE_TASKS["SCHEDULES"]`` takes: ``args``, ``kwargs``, ``queue``, …,
            and the fields of the policy.

    Returns:
        A decorator that returns the task as it is.

    Raises:
        ConfigurationError: what is decorated is a function and not yet a task.
    """
    given = {"schedule": schedule, "timezone": timezone, **options}

    def declare(task: _Task) -> _Task:
        # Not isinstance: that would make Celery's lazy task before its app is configured.
        if type(task) is FunctionType:
            raise ConfigurationError(
                f"@scheduled stands below the decorator that makes a task of {task!r}. Put "
                "@scheduled above @shared_task or @app.task."
            )
        _decorated.append(_Decorated(task, name, given))
        return task

    return declare


def decorated() -> bool:
    """Tell whether anything is declared with :func:`scheduled`, as far as modules are imported."""
    return bool(_decorated)


def declarations() -> list[Declaration]:
    """Return all that is declared, by name. Tasks' modules must have been imported for theirs.

    Raises:
        ConfigurationError: a declaration is wrong, or two have the same name.
    """
    found: dict[str, Declaration] = {}
    for name, given, where in _given():
        declared = read(name, given, where)
        if name in found:
            raise ConfigurationError(
                f"The schedule {name!r} is declared twice: by {found[name].where} and by {where}. "
                "Give one of them another name."
            )
        found[name] = declared
    return [found[name] for name in sorted(found)]


def _given() -> Iterator[tuple[str, Any, str]]:
    for name, given in (current().SCHEDULES or {}).items():
        yield name, given, f"{NAME}['SCHEDULES'][{name!r}]"
    for each in _decorated:
        task = each.task.name
        yield each.name or task, {"task": task, **each.given}, f"@scheduled on {task}"


def read(name: Any, given: Any, where: str) -> Declaration:
    """Return a declaration that was given as a mapping.

    Args:
        name: the schedule's name.
        given: the mapping: ``task``, ``schedule`` and more.
        where: where it stands, for messages.

    Raises:
        ConfigurationError: it is wrong; the message names the key and what it may be.
    """
    if not isinstance(name, str) or not name or len(name) > 200:
        raise _wrong(where, f"a schedule's name is text of 1 to 200 characters, not {name!r}")
    if not isinstance(given, Mapping):
        raise _wrong(where, f"must be a dict; it is {type(given).__name__}")
    rest = _flat(given, where)
    _check_keys(rest, where)
    task = rest.pop("task", None)
    if not isinstance(task, str) or not task:
        raise _wrong(where, f"'task' must be the name of a task; it is {task!r}")
    if "schedule" not in rest:
        raise _wrong(where, "'schedule' is missing: a cron line, seconds, or a timedelta")
    try:
        when = when_of(rest.pop("schedule"), rest.pop("timezone", None))
    except ValueError as error:
        raise _wrong(where, str(error)) from error
    row = {key: _value(key, rest.pop(key, default), where) for key, default in ROW.items()}
    row["one_off"] = row["one_off"] or when.kind == "clocked"  # a clock strikes once
    return Declaration(
        name=name, task=task, when=when, row=row, policy=_policy(rest, where), where=where
    )


def _flat(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    options = given.get("options") or {}
    if not isinstance(options, Mapping):
        raise _wrong(where, f"'options' must be a dict; it is {type(options).__name__}")
    for key in options:
        if key not in OPTIONS:
            raise _wrong(where, f"'options' has no {key!r}.{_suggest(key, OPTIONS)}")
    return {**{key: value for key, value in given.items() if key != "options"}, **options}


def _check_keys(given: Mapping[str, Any], where: str) -> None:
    from .policy_values import policy_fields

    known = ["task", "schedule", "timezone", *ROW, *policy_fields()]
    for key in given:
        if key not in known:
            raise _wrong(where, f"there is no {key!r}.{_suggest(key, [*known, 'options'])}")


def _value(key: str, value: Any, where: str) -> Any:
    if value is None or value == ROW[key]:
        return ROW[key]
    kinds = _TYPES.get(key, (str,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise _wrong(where, f"{key!r} must be {names}; it is {value!r}")
    match value:
        case datetime():
            if value.tzinfo is None:
                raise _wrong(where, f"{key!r} has no time zone: {value!r}")
            return value.astimezone(UTC).isoformat()
        case list() | tuple() | Mapping():
            return _json(key, value, where)
    return value


def _json(key: str, value: Any, where: str) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise _wrong(where, f"{key!r} must be JSON: {error}") from error


def _policy(rest: dict[str, Any], where: str) -> dict[str, Any]:
    from .policy_values import policy_value

    try:
        return {key: policy_value(key, value) for key, value in rest.items()}
    except ValueError as error:
        raise _wrong(where, str(error)) from error


def _suggest(name: object, known: Any) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(sorted(known))}."


def _wrong(where: str, rule: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {rule.rstrip('.')}.")
