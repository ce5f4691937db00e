"""Checks of how the Celery app is wired into the Django project."""

from __future__ import annotations

from celery import Celery, _state
from django.conf import settings
from django.core.checks import CheckMessage

from . import catalogue
from .reading import celery_app, configuration_error, configured_app, is_fallback


def check_app(**_: object) -> list[CheckMessage]:
    """Look whether every thread of every process finds the project's own Celery app."""
    app = celery_app()
    if app is None:
        return [_no_app()]
    if not any(app._fixups):
        return [_no_fixup(app)]
    if _state.default_app is not app:
        return [_not_for_threads(app)]
    return []


def _no_app() -> CheckMessage:
    return catalogue.NO_APP.found(
        "Celery",
        "This process has not loaded a Celery app of the project's.",
        "Tasks would be enqueued by Celery's built-in fallback app, which knows neither your "
        "broker nor your routes: entries are kept, but only a worker's sweeper publishes them, "
        "seconds late, and to the queue 'celery', which your workers may not read. Import your "
        "app where Django starts. If it is in proj/celery.py, write in proj/__init__.py: "
        "from proj.celery import app as celery_app",
    )


def _no_fixup(app: Celery) -> CheckMessage:
    return catalogue.NO_FIXUP.found(
        "Celery",
        f"The Celery app {app.main!r} was made before DJANGO_SETTINGS_MODULE was set.",
        "Celery then leaves Django alone: workers do not close broken database connections, tasks "
        "of installed apps are not found by themselves, and threads other than this one see "
        "Celery's fallback app. Write os.environ.setdefault("
        '"DJANGO_SETTINGS_MODULE", "proj.settings") above the line that makes the app.',
    )


def _not_for_threads(app: Celery) -> CheckMessage:
    other = _state.default_app
    theirs = "Celery's fallback app" if other is None or is_fallback(other) else repr(other.main)
    return catalogue.THREADS.found(
        "Celery",
        f"Other threads see {theirs} instead of the Celery app {app.main!r}.",
        "A task called from another thread, as under a threaded web server, goes by that app's "
        "broker and routes. It happens when celery.current_app is used before your app is made, "
        "or when there are several apps. Call app.set_default() right after your app is made.",
    )


def check_configuration(**_: object) -> list[CheckMessage]:
    """Look whether Celery's configuration can be read and names a broker."""
    app = celery_app()
    error = configuration_error(app) if app is not None else None
    if app is None or error is not None:
        return [] if error is None else [_unreadable(error)]
    if app.conf.broker_read_url and app.conf.broker_write_url:
        return []
    wanted = getattr(settings, "CELERY_BROKER_URL", None)
    if wanted:
        message = "CELERY_BROKER_URL is set, but the Celery app does not read it."
        remedy = (
            "In the module that makes the app, write "
            'app.config_from_object("django.conf:settings", namespace="CELERY").'
        )
    else:
        message = "No broker URL is set."
        remedy = 'Set CELERY_BROKER_URL, for example to "redis://127.0.0.1:6379/0".'
    return [
        catalogue.NO_BROKER.found(
            "CELERY_BROKER_URL",
            message,
            f"Celery falls back to RabbitMQ on localhost (amqp://guest@localhost//). {remedy}",
        )
    ]


def _unreadable(error: Exception) -> CheckMessage:
    return catalogue.CELERY_CONF.found(
        "Celery",
        f"Celery's configuration cannot be read: {type(error).__name__}: {error}",
        "No worker starts and no task can be called with it. Correct what the message names; in "
        "Django's settings each of Celery's settings is in capitals and begins with CELERY_, as in "
        "CELERY_TASK_TIME_LIMIT.",
    )


def check_celery_tasks(**_: object) -> list[CheckMessage]:
    """Look whether the base of all tasks was made ``ReliableTask``."""
    from kombu.utils.imports import symbol_by_name

    from ..task import ReliableTask

    app = configured_app()
    if app is None:
        return []
    try:
        base = symbol_by_name(app.task_cls)
    except (ImportError, AttributeError):
        return []  # Celery says so itself, with the name
    if not (isinstance(base, type) and issubclass(base, ReliableTask)):
        return []
    return [
        catalogue.TASK_CLS.found(
            "Celery",
            f"The Celery app's task_cls is {base.__module__}.{base.__qualname__}.",
            "Celery's built-in tasks (chord_unlock, backend_cleanup, map, chunks, …) become "
            "entries as well: a waiting chord writes the ledger every second, and their arguments "
            "are Celery's own structures. Leave task_cls out and give your tasks the base: "
            "@shared_task(base=ReliableTask).",
        )
    ]
