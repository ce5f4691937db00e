"""What the checks look at: settings, the ledger's database, the Celery app. They change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery import Celery, _state
from django.conf import settings as django_settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.urls import get_resolver

from ..conf import Settings, current
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..task import ReliableTask


def package_settings() -> Settings | None:
    """Return ``RELIABLE_TASKS``, or None if it is wrong (which has a check of its own)."""
    try:
        return current()
    except ConfigurationError:
        return None


def ledger_alias() -> str:
    """Return the alias of the database that the routers choose for the ledger."""
    from ..models import database_for_ledger

    return database_for_ledger()


def ledger_connection() -> BaseDatabaseWrapper | None:
    """Return the ledger's connection, not opened; None if there is no such database."""
    alias = ledger_alias()
    return connections[alias] if alias in connections.settings else None


def celery_app() -> Celery | None:
    """Return the project's Celery app, or None where only Celery's fallback would answer.

    ``celery.current_app`` is not asked: it would make the fallback the default of all threads.
    """
    # An app that was never made the default is not seen in other threads, such as runserver's.
    others = sorted(_state._get_active_apps(), key=lambda app: str(app.main))
    for app in (_state._tls.current_app, _state.default_app, *others):
        if app is not None and not is_fallback(app):
            return app
    return None


def is_fallback(app: Celery) -> bool:
    """Tell whether this is the app that Celery makes when it is asked and there is none.

    Its test tools put a trap in that place, which raises whatever it is asked.
    """
    return not isinstance(app, Celery) or (app.main == "default" and not app.fixups)


def configured_app() -> Celery | None:
    """Return the Celery app if there is one and its configuration can be read."""
    app = celery_app()
    return app if app is not None and configuration_error(app) is None else None


def configuration_error(app: Celery) -> Exception | None:
    """Return what reading the app's configuration raises, if anything."""
    try:
        app.conf.get("broker_url")
    except Exception as error:  # a configuration module of the project's may raise anything
        return error
    return None


def reliable_tasks(app: Celery) -> list[ReliableTask]:
    """Return the reliable tasks that are registered so far, by name; not Celery's own."""
    from ..task import ReliableTask

    return [task for task in _tasks(app) if isinstance(task, ReliableTask)]


def plain_tasks(app: Celery) -> list[Any]:
    """Return the other tasks that are registered so far, by name; not Celery's own."""
    from ..task import ReliableTask

    return [task for task in _tasks(app) if not isinstance(task, ReliableTask)]


def _tasks(app: Celery) -> list[Any]:
    # With wrong settings the tasks' defaults, which are settings, raise.
    if package_settings() is None or not (app.finalized or app.autofinalize):
        return []
    # Django runs checks in no fixed order. Its own of the URLs imports the views, and they import
    # the tasks that they call; if that came second, no task would be seen.
    if getattr(django_settings, "ROOT_URLCONF", None):
        get_resolver().url_patterns  # noqa: B018 - read for the import
    return [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]


def transports(app: Celery) -> set[str]:
    """Return the kinds of broker that the app talks to: "redis", "amqp", ….

    Variants count as their family: TLS, Sentinel, cluster and Unix sockets are Redis.
    """
    urls: list[str] = []
    for value in (app.conf.broker_read_url, app.conf.broker_write_url):
        urls += value.split(";") if isinstance(value, str) else list(value or [])
    names = {urlsplit(url.strip()).scheme.partition("+")[0] for url in urls}
    return {_FAMILY.get(name, name) for name in names if name}


_FAMILY = {
    "rediss": "redis",
    "sentinel": "redis",
    "sentinels": "redis",
    "amqps": "amqp",
    "pyamqp": "amqp",
    "librabbitmq": "amqp",
}


def named(names: list[str], most: int = 3) -> str:
    """Return names for a sentence: the first few, and how many more."""
    shown, more = names[:most], len(names) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
