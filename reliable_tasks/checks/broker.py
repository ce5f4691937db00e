"""Checks of the broker, and of what travels over it."""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from django.core.checks import CheckMessage

from . import catalogue
from .reading import configured_app, named, reliable_tasks, transports

_JSON: Final = {"json", "application/json"}
_PICKLE: Final = {"pickle", "application/x-python-serialize"}
#: Below this many seconds, messages that merely wait in a worker are delivered again.
_SHORTEST_VISIBILITY: Final = 300.0
#: A task that may run this many seconds is worth not to be queued behind.
_LONG: Final = 600.0


def check_serializers(**_: object) -> list[CheckMessage]:
    """Look whether workers take JSON, and nothing that runs code."""
    app = configured_app()
    if app is None:
        return []
    found = []
    accepted = app.conf.accept_content
    # A bare "json" would be read letter by letter.
    if isinstance(accepted, str) or not _names(accepted or _JSON) & _JSON:
        found.append(_refuses_json(accepted))
    places = [
        name
        for name in (
            "accept_content",
            "result_accept_content",
            "task_serializer",
            "result_serializer",
            "event_serializer",
        )
        if _names(app.conf[name]) & _PICKLE
    ]
    if places:
        found.append(_takes_pickle([f"CELERY_{name.upper()}" for name in places]))
    return found


def _names(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())


def _refuses_json(accepted: Any) -> CheckMessage:
    return catalogue.JSON_REFUSED.found(
        "CELERY_ACCEPT_CONTENT",
        f"CELERY_ACCEPT_CONTENT is {accepted!r}, not a list with JSON in it.",
        "A wake-up is an empty JSON message; workers would throw each of them away and no reliable "
        'task would ever run. Set CELERY_ACCEPT_CONTENT = ["json"]; other formats may stand beside '
        "it.",
    )


def _takes_pickle(places: list[str]) -> CheckMessage:
    return catalogue.PICKLE.found(
        places[0],
        f"Pickle is named in {', '.join(places)}.",
        "Unpickling runs code: whoever can write to the broker or the result backend owns the "
        "workers. Reliable tasks need JSON only. Remove pickle there (Celery's default is JSON "
        "everywhere) and pass ids instead of objects.",
    )


def check_visibility_timeout(**_: object) -> list[CheckMessage]:
    """Look whether the broker gives plain tasks enough time."""
    app = configured_app()
    if app is None:
        return []
    seconds = _transport_options(app).get("visibility_timeout")
    needed = max(_SHORTEST_VISIBILITY, app.conf.task_time_limit or 0.0)
    if seconds is None or seconds >= needed or not transports(app) & {"redis", "sqs"}:
        return []
    return [
        catalogue.VISIBILITY.found(
            "CELERY_BROKER_TRANSPORT_OPTIONS",
            f"visibility_timeout is {seconds:g} s.",
            "Reliable tasks do not depend on it: a lost one is taken over within seconds, a second "
            "delivery is dropped. But every plain task that waits in a worker, has a countdown or "
            "runs with acks_late for longer than this is delivered again and runs twice. Remove "
            "visibility_timeout (the default is an hour on Redis), or set it to at least "
            f"{needed:g}.",
        )
    ]


def check_socket_timeout(**_: object) -> list[CheckMessage]:
    """Look whether a Redis that accepts and never answers is given up."""
    app = configured_app()
    if app is None or "redis" not in transports(app):
        return []
    if _transport_options(app).get("socket_timeout"):
        return []
    return [
        catalogue.SOCKET_TIMEOUT.found(
            "CELERY_BROKER_TRANSPORT_OPTIONS",
            "There is no socket_timeout for Redis.",
            "Enqueuing a reliable task is bounded all the same (PUBLISH_TIMEOUT). But a plain "
            "delay(), a worker and beat wait for ever when Redis vanishes without closing the "
            "connection, as after a failover. Set CELERY_BROKER_TRANSPORT_OPTIONS = "
            '{"socket_timeout": 5.0, "socket_connect_timeout": 2.0}.',
        )
    ]


def check_confirm_publish(**_: object) -> list[CheckMessage]:
    """Look whether RabbitMQ confirms messages."""
    app = configured_app()
    if app is None or "amqp" not in transports(app):
        return []
    if _transport_options(app).get("confirm_publish"):
        return []
    return [
        catalogue.CONFIRM.found(
            "CELERY_BROKER_TRANSPORT_OPTIONS",
            "There is no confirm_publish for RabbitMQ.",
            "A plain task whose message RabbitMQ loses or refuses is gone without an error. (A "
            "reliable task is published again by the sweeper.) Set "
            'CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}.',
        )
    ]


def check_prefetch(**_: object) -> list[CheckMessage]:
    """Look whether a worker takes more messages than it can soon run."""
    app = configured_app()
    if app is None:
        return []
    multiplier = app.conf.worker_prefetch_multiplier
    if multiplier == 1:
        return []
    long = [task.name for task in reliable_tasks(app) if (task.time_limit or 0) >= _LONG]
    if multiplier == 0:
        message = "CELERY_WORKER_PREFETCH_MULTIPLIER is 0: one worker takes the whole queue."
    elif long:
        message = (
            f"A worker takes {multiplier} messages for each of its processes, and {named(long)} "
            "may run for ten minutes or more."
        )
    else:
        return []
    return [
        catalogue.PREFETCH.found(
            "CELERY_WORKER_PREFETCH_MULTIPLIER",
            message,
            "Messages wait behind a long task while other workers are idle. Nothing is lost: the "
            "sweeper publishes again what nobody claims, but that costs time and messages. Set "
            "CELERY_WORKER_PREFETCH_MULTIPLIER = 1, or give long tasks a queue and workers of "
            "their own.",
        )
    ]


def _transport_options(app: Celery) -> dict[str, Any]:
    return app.conf.broker_transport_options or {}
