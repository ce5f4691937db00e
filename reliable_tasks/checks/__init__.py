"""System checks: ``manage.py check`` tells what is wrong or dangerous before it happens.

No check changes anything or touches the network. Only those in ``_DATABASE`` ask the database, and
only when Django passes them databases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from django.core.checks import CheckMessage, Tags, register

from . import arguments, asking, broker, databases, processes, project, schedules, tasks, wiring

#: The tag for ``manage.py check --tag reliable_tasks``.
TAG: Final = "reliable_tasks"

Check = Callable[..., list[CheckMessage]]

_ALWAYS: Final[tuple[Check, ...]] = (
    project.check_settings,
    project.check_time_zones,
    project.check_companions,
    databases.check_vendor,
    databases.check_time_zone,
    databases.check_autocommit,
    databases.check_isolation,
    databases.check_router,
    databases.check_atomic_requests,
    databases.check_sqlite,
    wiring.check_app,
    wiring.check_configuration,
    wiring.check_celery_tasks,
    broker.check_serializers,
    broker.check_visibility_timeout,
    tasks.check_pins,
    tasks.check_once,
    arguments.check_parameters,
    arguments.check_scheduled_arguments,
    processes.check_eager,
    processes.check_green_pool,
    schedules.check_declarations,
    schedules.check_scheduler,
)
_DEPLOY: Final[tuple[Check, ...]] = (
    broker.check_socket_timeout,
    broker.check_confirm_publish,
    broker.check_prefetch,
    tasks.check_time_limit,
    tasks.check_acks_late,
    tasks.check_chords,
    processes.check_connections,
)
_DATABASE: Final[tuple[Check, ...]] = (
    asking.check_tables,
    asking.check_durability,
    schedules.check_rows,
)


def register_checks() -> None:
    """Register all checks with Django."""
    for check in _ALWAYS:
        register(check, TAG)
    for check in _DEPLOY:
        register(check, TAG, deploy=True)
    for check in _DATABASE:
        register(check, TAG, Tags.database)


def all_checks(databases_to_ask: Sequence[str] | None = None) -> list[CheckMessage]:
    """Run all checks, those for deployment included, and return what they find.

    Tasks are looked at as far as their modules are imported; to see all, import them first
    (``app.loader.import_default_modules()``, as a worker does).

    Args:
        databases_to_ask: aliases of the databases that may be asked; none unless given.

    Returns:
        The messages in the order of the checks, without those that
        ``SILENCED_SYSTEM_CHECKS`` names.
    """
    found = [message for check in (*_ALWAYS, *_DEPLOY) for message in check()]
    found += [message for check in _DATABASE for message in check(databases=databases_to_ask)]
    return [message for message in found if not message.is_silenced()]
