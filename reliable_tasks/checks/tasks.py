"""Checks of the registered tasks, and of what Celery's configuration does to them."""

from __future__ import annotations

from typing import Any, Final

from celery.utils.functional import firstmethod
from django.core.checks import CheckMessage

from .. import dedup, keying
from ..errors import OptionError
from ..pins import PINNED
from . import catalogue
from .reading import configured_app, named, plain_tasks, reliable_tasks

#: Pools that cannot end a task at its hard time limit.
_WITHOUT_LIMITS: Final = ("threads", "solo")


def check_pins(**_: object) -> list[CheckMessage]:
    """Look for annotations and task options that undo what the base pins."""
    app = configured_app()
    if app is None:
        return []
    # Celery applies the first answer of each kind, and what is written for '*' last.
    everywhere = firstmethod("annotate_any")(app.annotations) or {}
    found = [_annotation_of_all(name) for name in PINNED if everywhere.get(name)]
    for task in reliable_tasks(app):
        own = firstmethod("annotate")(app.annotations, task) or {}
        for name in PINNED:
            if name in everywhere or not getattr(task, name, False):
                continue
            if own.get(name):
                found.append(_annotation_of(task, name))
            else:
                found.append(_unpinned(task, name))
    return found


def _annotation_of_all(name: str) -> CheckMessage:
    return catalogue.ANNOTATION.found(
        "CELERY_TASK_ANNOTATIONS",
        f"The annotation of '*' switches {name} on, for reliable tasks too.",
        f"{PINNED[name]} Remove {name!r} from the annotation; if plain tasks need it, write "
        f"CELERY_TASK_{name.upper()} = True instead, which reliable tasks ignore.",
    )


def _annotation_of(task: Any, name: str) -> CheckMessage:
    return catalogue.ANNOTATION.found(
        "CELERY_TASK_ANNOTATIONS",
        f"The annotation of {task.name!r}, a reliable task, switches {name} on.",
        f"{PINNED[name]} Remove {name!r} from the annotation.",
    )


def _unpinned(task: Any, name: str) -> CheckMessage:
    return catalogue.UNPINNED.found(
        task.name,
        f"{name} is {getattr(task, name)!r} on this reliable task.",
        f"{PINNED[name]} Remove {name}=… from the task's decorator or its base class.",
    )


def check_once(**_: object) -> list[CheckMessage]:
    """Look for dedup policies that would be refused at each call."""
    app = configured_app()
    found = []
    for task in reliable_tasks(app) if app is not None else ():
        try:
            policy = dedup.parse(task.name, task.once)
            keying.check_keys(task, policy)
        except OptionError as wrong:
            found.append(
                catalogue.ONCE.found(
                    task.name,
                    str(wrong),
                    "Every call of the task would raise this. Correct once=… on the task; the page "
                    '"Doing it once" lists its options.',
                )
            )
    return found


def check_time_limit(**_: object) -> list[CheckMessage]:
    """Look whether an attempt that hangs is ended some day."""
    app = configured_app()
    if app is None:
        return []
    pool = app.conf.worker_pool
    tasks = reliable_tasks(app)
    general = app.conf.task_time_limit
    unlimited = [task.name for task in tasks if not (task.time_limit or general)]
    if pool in _WITHOUT_LIMITS:
        message = f"Celery's pool {pool!r} cannot end a task at its time limit."
        remedy = "Use the prefork pool, or give every outside call of a body its own timeout."
    elif unlimited or not (tasks or general):
        message = f"There is no hard time limit for {named(unlimited) or 'tasks'}."
        remedy = (
            "Set CELERY_TASK_TIME_LIMIT = 600 (seconds) for all, and time_limit=… on a task that "
            "needs more; CELERY_TASK_SOFT_TIME_LIMIT = 540 lets the body tidy up first."
        )
    else:
        return []
    return [
        catalogue.TIME_LIMIT.found(
            "CELERY_TASK_TIME_LIMIT",
            message,
            "A worker renews the lease of whatever it runs: an attempt that waits for something "
            f"that never comes keeps its entry and its process until someone notices. {remedy}",
        )
    ]


def check_acks_late(**_: object) -> list[CheckMessage]:
    """Look for a global setting that reliable tasks ignore."""
    app = configured_app()
    if app is None or not app.conf.task_acks_late:
        return []
    return [
        catalogue.ACKS_LATE.found(
            "CELERY_TASK_ACKS_LATE",
            "CELERY_TASK_ACKS_LATE is on.",
            "Reliable tasks ignore it and need nothing like it: the entry, not the message, "
            "survives a crash. Keep it if plain tasks count on it; otherwise write "
            "CELERY_TASK_ACKS_LATE = False.",
        )
    ]


def check_chords(**_: object) -> list[CheckMessage]:
    """Look for a result backend that loses chords of tasks which are delivered twice."""
    app = configured_app()
    if app is None or not app.conf.task_acks_late or not plain_tasks(app):
        return []
    backend = str(app.conf.result_backend or "")
    if backend != "django-db" and not backend.startswith("django_celery_results"):
        return []
    return [
        catalogue.CHORDS.found(
            "CELERY_RESULT_BACKEND",
            f"Chords are counted in {backend!r}, and plain tasks are acknowledged late.",
            "django-celery-results counts deliveries: when a header task of a chord is delivered "
            "twice, as late acknowledgement allows, the chord's body is dropped without a word. "
            "Make the tasks of chords reliable (base=ReliableTask: a second delivery is not "
            "counted), or use Redis for results: CELERY_RESULT_BACKEND = "
            '"redis://127.0.0.1:6379/1".',
        )
    ]
