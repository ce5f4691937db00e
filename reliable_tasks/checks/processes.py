"""Checks of the processes that tasks run in."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.core import mail
from django.core.checks import CheckMessage
from django.db import connections

from ..conf import NAME
from . import catalogue
from .reading import configured_app, named, package_settings, plain_tasks

_GREEN: Final = ("gevent", "eventlet")
#: Seconds. One greenlet that computes holds up all others, the heartbeat's included.
_GREEN_LEASE: Final = 30.0


def check_eager(**_: object) -> list[CheckMessage]:
    """Look for eager mode outside development and tests."""
    app = configured_app()
    if app is None or not app.conf.task_always_eager or settings.DEBUG or _in_tests():
        return []
    return [
        catalogue.EAGER.found(
            "CELERY_TASK_ALWAYS_EAGER",
            "CELERY_TASK_ALWAYS_EAGER is on while DEBUG is off.",
            "Every call then runs its body in the calling process, before the caller's "
            "transaction commits: users wait for it, and a rollback does not undo what it did "
            "outside the database. It is meant for tests. Write "
            "CELERY_TASK_ALWAYS_EAGER = False.",
        )
    ]


def _in_tests() -> bool:
    # Django's test environment, which also turns DEBUG off, puts this list there.
    return hasattr(mail, "outbox")


def check_green_pool(**_: object) -> list[CheckMessage]:
    """Look whether leases outlast a body that does not let other greenlets run."""
    app, ours = configured_app(), package_settings()
    if app is None or ours is None or app.conf.worker_pool not in _GREEN:
        return []
    if ours.LEASE_SECONDS >= _GREEN_LEASE:
        return []
    return [
        catalogue.GREEN_POOL.found(
            NAME,
            f"The pool is {app.conf.worker_pool!r} and LEASE_SECONDS is {ours.LEASE_SECONDS:g}.",
            "There the heartbeat is a greenlet like any other: a body that computes for longer "
            "than the lease loses it, and its work is done again elsewhere. Set "
            f'{NAME} = {{"LEASE_SECONDS": 60.0}}; a dead worker is then noticed that much later.',
        )
    ]


def check_connections(**_: object) -> list[CheckMessage]:
    """Look for plain tasks that are thought to keep their database connection."""
    app = configured_app()
    # Celery's Django fixup asks for the setting under this very name.
    if app is None or app.conf.get("CELERY_DB_REUSE_MAX"):
        return []
    persistent = [
        alias for alias in connections if connections.settings[alias]["CONN_MAX_AGE"] != 0
    ]
    plain = [task.name for task in plain_tasks(app)]
    if not persistent or not plain:
        return []
    return [
        catalogue.CONNECTIONS.found(
            f"DATABASES[{persistent[0]!r}]['CONN_MAX_AGE']",
            f"CONN_MAX_AGE keeps no connection between plain tasks ({named(plain)}).",
            "Celery closes every database connection before and after a plain task, and opening "
            "one costs more than most tasks. Reliable tasks keep theirs for "
            f'{NAME}["CONNECTION_MAX_AGE"] seconds and close what is broken: give these tasks '
            "base=ReliableTask. (CELERY_DB_REUSE_MAX = 100 also keeps connections for plain tasks, "
            "but broken ones as well.)",
        )
    ]
