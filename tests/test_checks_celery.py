"""The checks of the Celery app's wiring and of its broker."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.contrib.testing.app import Trap

from reliable_tasks import ReliableTask
from reliable_tasks.checks import broker, processes, tasks, wiring
from tests.checking import codes, declare, make_current, use_app

ALL_CELERY_CHECKS = (
    wiring.check_configuration,
    wiring.check_celery_tasks,
    broker.check_serializers,
    broker.check_visibility_timeout,
    broker.check_socket_timeout,
    broker.check_confirm_publish,
    broker.check_prefetch,
    tasks.check_pins,
    tasks.check_time_limit,
    tasks.check_acks_late,
    tasks.check_chords,
    processes.check_eager,
    processes.check_green_pool,
    processes.check_connections,
)


def fallback_app() -> Celery:
    """Return an app as Celery makes one where it is asked and there is none."""
    return Celery("default", fixups=[], set_as_current=False)


# -- wiring -----------------------------------------------------------------------------------


def test_wired_app_passes(monkeypatch):
    """A Celery app that is made as Celery's manual says is not reported."""
    use_app(monkeypatch)
    assert wiring.check_app() == []
    assert wiring.check_configuration() == []


@pytest.mark.parametrize("default", [None, fallback_app, Trap])
def test_missing_app_is_reported(monkeypatch, default):
    """A project that loads no Celery app is warned, and Celery's other checks say nothing."""
    make_current(monkeypatch, None, default=default and default())
    assert codes(wiring.check_app()) == ["W007"]
    assert [check() for check in ALL_CELERY_CHECKS] == [[]] * len(ALL_CELERY_CHECKS)


def test_looking_for_an_app_makes_none(monkeypatch):
    """The check leaves Celery without a default app if there is none: one may come later."""
    from celery import _state

    make_current(monkeypatch, None)
    wiring.check_app()
    assert _state.default_app is None


def test_app_without_django_is_reported(monkeypatch):
    """An app that was made before Django's settings were named is a warning."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    app = Celery("shop", set_as_current=False)
    make_current(monkeypatch, app)
    assert codes(wiring.check_app()) == ["W008"]


@pytest.mark.parametrize(
    "other", [fallback_app, lambda: Celery("second", set_as_current=False), Trap]
)
def test_other_app_in_other_threads_is_reported(monkeypatch, other):
    """An app that is not the default of all threads is a warning."""
    app = Celery("shop", set_as_current=False)
    make_current(monkeypatch, app, default=other())
    assert codes(wiring.check_app()) == ["W009"]


def test_app_is_found_from_other_threads(monkeypatch):
    """Where only another thread has the app, it is found and said to be missing here."""
    app = Celery("shop", set_as_current=False)
    make_current(monkeypatch, app, default=fallback_app())
    monkeypatch.setattr("celery._state._tls.current_app", None)
    assert codes(wiring.check_app()) == ["W009"]


@pytest.mark.parametrize("named", [True, False])
def test_missing_broker_is_reported(monkeypatch, settings, named):
    """An app without a broker URL is a warning, which tells whether Django's settings had one."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = Celery("shop", set_as_current=False)
    make_current(monkeypatch, app)
    if named:
        settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    else:
        del settings.CELERY_BROKER_URL
    [message] = wiring.check_configuration()
    assert codes([message]) == ["W010"]
    assert ("does not read it" in message.msg) is named
    assert ("config_from_object" in message.hint) is named


def test_unreadable_configuration_is_an_error(monkeypatch):
    """A configuration that Celery cannot read is one error, and no check falls over it."""
    app = Celery("shop", set_as_current=False)
    app.config_from_object({"CELERY_RESULT_BACKEND": "x", "task_always_eager": True})
    make_current(monkeypatch, app)
    assert [code for check in ALL_CELERY_CHECKS for code in codes(check())] == ["E009"]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, []),
        (ReliableTask, ["W016"]),
        ("reliable_tasks.task:ReliableTask", ["W016"]),
        ("no.such:Task", []),
    ],
)
def test_base_of_all_tasks_is_reported(monkeypatch, base, expected):
    """An app that makes Celery's own tasks reliable is a warning."""
    app = Celery("shop", set_as_current=False, **({"task_cls": base} if base else {}))
    make_current(monkeypatch, app)
    assert codes(wiring.check_celery_tasks()) == expected


# -- broker -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, []),
        ({"accept_content": ["application/json"]}, []),
        ({"accept_content": ["yaml"]}, ["E007"]),
        ({"accept_content": "json"}, ["E007"]),
        ({"accept_content": ["json", "pickle"]}, ["W011"]),
        ({"accept_content": ["application/x-python-serialize"]}, ["E007", "W011"]),
        ({"task_serializer": "pickle"}, ["W011"]),
        ({"result_serializer": "pickle", "result_accept_content": ["pickle"]}, ["W011"]),
    ],
)
def test_serializers_are_checked(monkeypatch, conf, expected):
    """Workers that refuse JSON are an error; pickle, wherever it stands, is a warning."""
    use_app(monkeypatch, **conf)
    assert codes(broker.check_serializers()) == expected


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, []),
        ({"broker_transport_options": {"visibility_timeout": 43200}}, []),
        ({"broker_transport_options": {"visibility_timeout": 60}}, ["W012"]),
        (
            {
                "broker_transport_options": {"visibility_timeout": 600},
                "task_time_limit": 1800,
            },
            ["W012"],
        ),
        (
            {
                "broker_transport_options": {"visibility_timeout": 60},
                "broker_url": "amqp://127.0.0.1:1//",
            },
            [],
        ),
    ],
)
def test_short_visibility_timeout_is_reported(monkeypatch, conf, expected):
    """A visibility timeout that plain tasks may outlast is a warning."""
    use_app(monkeypatch, **conf)
    assert codes(broker.check_visibility_timeout()) == expected


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("redis://h", {}, ["W018"]),
        ("rediss://h", None, ["W018"]),
        ("redis+socket:///tmp/s", {}, ["W018"]),
        ("sentinel://a;sentinel://b", {}, ["W018"]),
        (["redis://a", "redis://b"], {}, ["W018"]),
        ("redis://h", {"socket_timeout": 5.0}, []),
        ("amqp://h", {}, []),
        ("memory://", {}, []),
    ],
)
def test_missing_socket_timeout_is_reported(monkeypatch, url, options, expected):
    """Redis in any form without a socket timeout is a warning."""
    use_app(monkeypatch, broker_url=url, broker_transport_options=options)
    assert codes(broker.check_socket_timeout()) == expected


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("amqp://h", {}, ["I005"]),
        ("pyamqp://h", {}, ["I005"]),
        ("amqps://h", {"confirm_publish": True}, []),
        ("redis://h", {}, []),
    ],
)
def test_unconfirmed_publishing_is_told(monkeypatch, url, options, expected):
    """RabbitMQ without publisher confirms is worth knowing."""
    use_app(monkeypatch, broker_url=url, broker_transport_options=options)
    assert codes(broker.check_confirm_publish()) == expected


@pytest.mark.parametrize(
    ("multiplier", "limit", "expected"),
    [(4, None, []), (4, 60, []), (4, 3600, ["I004"]), (1, 3600, []), (0, None, ["I004"])],
)
def test_hoarding_is_told(monkeypatch, multiplier, limit, expected):
    """Prefetching is mentioned where it is unlimited, or where a task may run for long."""
    app = use_app(monkeypatch, worker_prefetch_multiplier=multiplier)
    declare(app, "shop.long", base=ReliableTask, time_limit=limit)
    assert codes(broker.check_prefetch()) == expected
