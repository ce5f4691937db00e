"""What ``CELERY_BEAT_SCHEDULE`` and ``add_periodic_task()`` say, read as declarations."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from celery import Celery
from celery.schedules import crontab
from django_celery_beat.tzcrontab import TzAwareCrontab
from kombu.utils.json import dumps

from ..errors import ConfigurationError
from .declared import OPTIONS, Declaration, read

logger = logging.getLogger("reliable_tasks.beat")

#: How the place of such a declaration begins.
PLACE: Final = "CELERY_BEAT_SCHEDULE"
# What django-celery-beat writes of each; the rest is the operator's unless the entry has it.
_SAID: Final = frozenset({"task", "when", "args", "kwargs", "enabled", *OPTIONS})
_IN_JSON: Final = ("args", "kwargs")
_CLEANUP: Final = "celery.backend_cleanup"


def declared(app: Celery) -> tuple[list[Declaration], set[str]]:
    """Return the entries that can be read, and the names of all of them.

    One that cannot be read is logged and left out: the others must go on.

    Args:
        app: the Celery app whose entries they are.
    """
    found, names = [], set()
    for name, entry in _entries(app):
        names.add(name)
        try:
            found.append(_read(app, name, entry))
        except (ConfigurationError, TypeError, ValueError) as error:
            logger.error("The schedule %r is not taken over: %s", name, error)
    return found, names


def _entries(app: Celery) -> Iterator[tuple[str, Any]]:
    given = dict(app.conf.beat_schedule)
    if app.conf.result_expires and _CLEANUP not in given:
        # As django-celery-beat does for result backends that keep results for ever.
        options = {"expire_seconds": 12 * 3600}
        yield _CLEANUP, {"task": _CLEANUP, "schedule": crontab("0", "4"), "options": options}
    yield from given.items()


def _read(app: Celery, name: str, entry: Any) -> Declaration:
    where = f"{PLACE}[{name!r}]"
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{where}: must be a dict; it is {type(entry).__name__}.")
    given = {key: value for key, value in entry.items() if key != "relative"}
    given["options"] = _options(where, given.get("options") or {})
    for key in _IN_JSON:
        if given.get(key):
            given[key] = json.loads(dumps(given[key]))  # as Celery writes dates and the like
    when = given.get("schedule")
    if isinstance(when, crontab) and not isinstance(when, TzAwareCrontab):
        given.setdefault("timezone", str(app.timezone))
    found = read(name, given, where)
    says = _SAID | set(given) - {"options", "schedule", "timezone"}
    says |= {"one_off"} if found.row["one_off"] else set()
    return replace(found, says=says)


def _options(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in given.items() if key in OPTIONS}
    expires = given.get("expires")
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if isinstance(expires, (int, float)):
        kept.setdefault("expire_seconds", int(expires))
    lost = set(given) - set(kept) - ({"expires"} if "expire_seconds" in kept else set())
    if lost:
        logger.warning("%s: a row has no place for %s.", where, ", ".join(sorted(lost)))
    return kept
