"""Checks of the Django settings."""

from __future__ import annotations

from typing import Final

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage

from ..conf import NAME, current
from ..errors import ConfigurationError
from . import catalogue
from .reading import configured_app

_RESULTS: Final = "django_celery_results"
_BEAT: Final = "django_celery_beat"


def check_settings(**_: object) -> list[CheckMessage]:
    """Look for unknown names, wrong types and values in ``RELIABLE_TASKS``."""
    try:
        current()
    except ConfigurationError as error:
        return [
            catalogue.SETTINGS.found(
                NAME,
                str(error),
                "Nothing is enqueued or run until it is right. Names are in capitals, times are "
                f'seconds: {NAME} = {{"LEASE_SECONDS": 10.0}}. Leave out what you do not want to '
                "change.",
            )
        ]
    return []


def check_time_zones(**_: object) -> list[CheckMessage]:
    """Look whether Django works with aware times."""
    if settings.USE_TZ:
        return []
    return [
        catalogue.USE_TZ.found(
            "USE_TZ",
            "USE_TZ is off, so Django reads and writes times without a time zone.",
            "The ledger compares times with the database's clock in UTC: delays, leases and expiry "
            "would fail, or be wrong by your distance from UTC. Set USE_TZ = True.",
        )
    ]


def check_companions(**_: object) -> list[CheckMessage]:
    """Look for the two apps that this one works with."""
    app = configured_app()
    backend = str(app.conf.result_backend or "") if app is not None else ""
    found = []
    if not apps.is_installed(_RESULTS):
        if backend.startswith(("django-db", "django-cache", _RESULTS)):
            found.append(_needed(_RESULTS, "CELERY_RESULT_BACKEND", backend))
        elif not backend:
            found.append(
                _missing(
                    _RESULTS,
                    "no result backend is set, so what tasks return is not kept anywhere and "
                    "AsyncResult.get() waits for ever",
                    ' and set CELERY_RESULT_BACKEND = "django-db"',
                )
            )
    if not apps.is_installed(_BEAT):
        found.append(
            catalogue.BEAT_NEEDED.found(
                "INSTALLED_APPS",
                f"{_BEAT!r} is not in INSTALLED_APPS.",
                "The tables of schedules refer to its rows, so `migrate` fails. It is installed "
                f"with this package. {_install(_BEAT)}.",
            )
        )
    return found


def _needed(name: str, setting: str, value: str) -> CheckMessage:
    return catalogue.APP_NEEDED.found(
        "INSTALLED_APPS",
        f"{setting} is {value!r}, but {name!r} is not in INSTALLED_APPS.",
        f"Celery would fail as soon as it needs it. {_install(name)}.",
    )


def _missing(name: str, why: str, then: str) -> CheckMessage:
    return catalogue.COMPANION.found(
        "INSTALLED_APPS",
        f"{name!r} is not in INSTALLED_APPS.",
        f"It is installed with this package and made use of: {why}. {_install(name)}{then}.",
    )


def _install(name: str) -> str:
    return f'Write INSTALLED_APPS += ["{name}"], run `manage.py migrate {name}`'
