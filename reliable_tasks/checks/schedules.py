"""Checks of schedules: what code declares, which beat is configured, and what the rows say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.apps import apps
from django.core.checks import CheckMessage
from django.db import DatabaseError, router

from ..conf import NAME, Settings
from ..errors import ConfigurationError
from . import catalogue
from .reading import configured_app, ledger_alias, named, package_settings

_BEAT: Final = "django_celery_beat"
#: Django's own name for dcb's scheduler, and the beginning of its path.
_STOCK: Final = ("django", f"{_BEAT}.")
#: Most messages of one kind: a table of schedules may be long.
_MOST: Final = 20


def check_declarations(**_: object) -> list[CheckMessage]:
    """Look whether what code declares can become schedules."""
    if package_settings() is None or not apps.is_installed(_BEAT):
        return []
    from ..schedules.declared import declarations

    try:
        declarations()
    except ConfigurationError as error:
        where, _colon, text = str(error).partition(": ")
        return [
            catalogue.DECLARATION.found(
                where if text else NAME,
                text or str(error),
                "No schedule that code declares is synced until it is right. The keys are those of "
                'CELERY_BEAT_SCHEDULE and of the policy: {"task": "shop.report", "schedule": '
                '"30 2 * * *", "overlap": "skip"}.',
            )
        ]
    return []


def check_scheduler(**_: object) -> list[CheckMessage]:
    """Look whether the configured scheduler is the stock one although schedules are declared."""
    app, ours = configured_app(), package_settings()
    if app is None or ours is None:
        return []
    scheduler = str(app.conf.beat_scheduler or "")
    if not scheduler.startswith(_STOCK) or not _declares(ours):
        return []
    return [
        catalogue.STOCK_SCHEDULER.found(
            "CELERY_BEAT_SCHEDULER",
            f"CELERY_BEAT_SCHEDULER is {scheduler!r}, while {NAME} declares schedules.",
            "That scheduler loses due times when the broker or a beat is down, repeats them when "
            "two run, and knows nothing of policies. Beside a beat of ours it fires everything "
            'twice. Set CELERY_BEAT_SCHEDULER = "reliable".',
        )
    ]


def _declares(ours: Settings) -> bool:
    from ..schedules import declared

    return bool(ours.SCHEDULES or declared.decorated())


def check_rows(databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Look at the rows of schedules and at the beats that run inside workers.

    Args:
        databases: aliases that may be asked, as with ``check --database`` and ``migrate``.
    """
    if not databases or not apps.is_installed(_BEAT) or package_settings() is None:
        return []
    from django_celery_beat.models import PeriodicTask

    try:
        found: list[CheckMessage] = []
        if ledger_alias() in databases:
            found += _embedded()
            found += _rival()
        if router.db_for_read(PeriodicTask) in databases:
            found += _rows()
    except DatabaseError:
        return []  # no such table before the first migrate; an outage has a check of its own
    return found


def _embedded() -> list[CheckMessage]:
    from ..schedules.beats import embedded_beats

    names = embedded_beats()
    if not names:
        return []
    return [
        catalogue.EMBEDDED_BEAT.found(
            named(names),
            f"A beat runs inside a worker (-B): {named(names)}.",
            "It is a child of the worker that nobody starts again when it dies, and it ends with "
            "the worker at every deploy. No due time is lost for ever, but all are late. Run "
            "`celery -A <project> beat -S reliable` as a process of its own; two of them on two "
            "machines are better still.",
        )
    ]


def _rival() -> list[CheckMessage]:
    from ..schedules.rivals import seen

    rival = seen()
    if rival is None:
        return []
    return [
        catalogue.RIVAL.found(
            f"schedule {named(rival.names)}",
            str(rival),
            "A beat of ours sees to them as well, so their tasks are called twice. Find the other "
            "`celery beat`, which runs without -S reliable, and stop it. This is told for a day "
            "after its last run.",
        )
    ]


def _rows() -> Iterator[CheckMessage]:
    from ..schedules.trouble import Kind, Trouble, troubles

    rules = {
        Kind.UNKNOWN_TASK: catalogue.SCHEDULED_TASK,
        Kind.NO_JSON: catalogue.SCHEDULED_JSON,
        Kind.WRONG_CALL: catalogue.SCHEDULED_CALL,
        Kind.MISSING_ROW: catalogue.SCHEDULED_ROW,
    }
    found: dict[tuple[Kind, Trouble], list[str]] = defaultdict(list)
    for schedule in enabled_schedules():
        for trouble in troubles(schedule):
            found[trouble.kind, trouble].append(schedule.name)
    count: dict[Any, int] = defaultdict(int)
    for (kind, trouble), names in found.items():
        count[kind] += 1
        if count[kind] > _MOST:
            continue
        yield rules[kind].found(
            f"schedule {named(names)}",
            trouble.text,
            f"Each run of it fails or is refused. {trouble.remedy} All of one schedule: "
            f"manage.py reliable_tasks schedules show {names[0]!r}.",
        )


def enabled_schedules() -> Iterator[Any]:
    """Yield the enabled schedules, as far as arguments and tasks are concerned."""
    from django_celery_beat.models import PeriodicTask

    rows = PeriodicTask.objects.filter(enabled=True).order_by("name")
    yield from rows.only("name", "task", "args", "kwargs", "headers").iterator()
