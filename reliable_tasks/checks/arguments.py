"""Checks of what reliable tasks say of their arguments, and of what schedules pass to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from celery import Celery
from django.apps import apps
from django.core.checks import CheckMessage
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import connections
from django.db.models import Manager

from .. import arguments
from ..errors import ArgumentError, ConfigurationError
from ..parameters import ModelParameter
from ..plan import plan_of
from . import catalogue
from .reading import configured_app, ledger_alias, package_settings, reliable_tasks

_RULES: Final = {
    "unresolvable": catalogue.HINT_UNREADABLE,
    "annotation": catalogue.HINT_UNUSABLE,
    "option": catalogue.ARGUMENT_OPTION,
    "lock": catalogue.LOCK,
}


def check_parameters(**_: object) -> list[CheckMessage]:
    """Look for annotations and options of tasks that cannot be honoured."""
    app = configured_app()
    found = []
    for task in [] if app is None else reliable_tasks(app):
        plan = plan_of(task)
        if plan is None:
            continue
        for fault in plan.faults:
            words = f"{task.name}: {fault.words}."
            found.append(_RULES[fault.kind].found(task.name, words, fault.remedy))
        for parameter in plan.models.values():
            for words, remedy in _impossible(parameter):
                told = f"{task.name}: Load(…) of {parameter.name!r} {words}."
                found.append(catalogue.LOAD.found(task.name, told, remedy))
    return found


def _impossible(parameter: ModelParameter) -> list[tuple[str, str]]:
    how, model = parameter.load, parameter.model
    found: list[tuple[str, str]] = []
    if how.using is not None and how.using not in connections.settings:
        known = ", ".join(sorted(connections.settings))
        return [(f"names the database {how.using!r}", f"DATABASES has {known}.")]
    manager = getattr(model, how.manager, None) if how.manager else model._default_manager
    if not isinstance(manager, Manager):
        names = ", ".join(each.name for each in model._meta.managers)
        return [(f"names the manager {how.manager!r}", f"{model.__name__} has {names}.")]
    try:
        # Names are looked at when the statement is written, which asks no database.
        rows = manager.using(parameter.alias)
        rows = rows.select_related(*how.select_related) if how.select_related else rows
        str((rows.only(*how.only) if how.only else rows).query)
    except (FieldError, FieldDoesNotExist) as error:
        found.append((f"cannot be read: {error}", "Correct the name."))
    if how.for_update and parameter.alias != ledger_alias():
        remedy = (
            f"An atomic task's transaction is on the ledger's database, {ledger_alias()!r}, so "
            "nothing would hold the lock. Take for_update=True out, and lock in the body."
        )
        found.append((f"locks rows on {parameter.alias!r}", remedy))
    return found


def check_scheduled_arguments(**_: object) -> list[CheckMessage]:
    """Look for schedules in code and settings whose arguments would be refused at each tick."""
    app = configured_app()
    if app is None:
        return []
    tasks = {task.name: task for task in reliable_tasks(app)}
    found = []
    for where, name, task_name, args, kwargs in [*_in_settings(app), *_declared()]:
        task = tasks.get(task_name)
        if task is None:
            continue
        try:
            plain = arguments.plain(task, args, kwargs)
            arguments.texts(task, plain.args, plain.kwargs)
        except ArgumentError as error:
            words = f"The schedule {name!r} passes what cannot be kept: {error}"
            remedy = "Each of its ticks would be refused, and nothing would run. Pass keys."
            found.append(catalogue.SCHEDULED.found(where, words, remedy))
    return found


def _in_settings(app: Celery) -> Iterator[tuple[str, str, str, Any, Any]]:
    for name, entry in (app.conf.beat_schedule or {}).items():
        task, args, kwargs = (_of(entry, each) for each in ("task", "args", "kwargs"))
        yield "CELERY_BEAT_SCHEDULE", name, task, args or (), kwargs or {}


def _declared() -> Iterator[tuple[str, str, str, Any, Any]]:
    if package_settings() is None or not apps.is_installed("django_celery_beat"):
        return
    from ..schedules.declared import declarations

    with suppress(ConfigurationError):  # which has a check of its own
        for each in declarations():
            row = each.row
            yield each.where, each.name, each.task, row.get("args") or (), row.get("kwargs") or {}


def _of(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, dict) else getattr(entry, name, None)
