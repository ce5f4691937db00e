"""The few Celery settings that are read on every call, without the cost of reading them there.

One read of ``app.conf`` takes longer than encoding a call's arguments, because it looks through
several layers of mappings and spellings. So they are read once and kept until something that could
have changed them has: Django's settings object (``override_settings`` puts another in its place) or
an assignment to ``app.conf``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from django.conf import settings as django_settings


@dataclass(frozen=True, slots=True)
class AppConf:
    """Celery's settings of the same names.

    Attributes:
        task_always_eager: run calls in process.
        task_default_queue: the queue of what no route names another for.
        task_inherit_parent_priority: pass the running task's priority on.
        task_routes: the routes, or None.
        task_send_sent_event: send an event with each message.
        task_track_started: report STARTED to the result backend.
    """

    task_always_eager: bool
    task_default_queue: str
    task_inherit_parent_priority: bool
    task_routes: Any
    task_send_sent_event: bool
    task_track_started: bool


_NAMES: Final = tuple(AppConf.__dataclass_fields__)
_known: dict[int, tuple[tuple[Any, ...], AppConf]] = {}


def appconf(app: Celery) -> AppConf:
    """Return these settings of a Celery app as they are now.

    Args:
        app: the app.
    """
    changes = app.conf.changes
    # LazySettings hands every other name on to what it wraps; there is no public way to see that.
    basis = (vars(django_settings)["_wrapped"], *map(changes.get, _NAMES))
    known = _known.get(id(app))
    if known is not None and all(a is b for a, b in zip(known[0], basis, strict=True)):
        return known[1]
    found = AppConf(**{name: app.conf[name] for name in _NAMES})
    _known[id(app)] = (basis, found)
    return found
