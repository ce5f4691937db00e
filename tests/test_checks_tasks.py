"""The checks of the registered tasks, and of the processes that they run in."""

from __future__ import annotations

import pytest

from reliable_tasks import ReliableTask
from reliable_tasks.checks import processes, tasks
from reliable_tasks.pins import PINNED
from tests.checking import codes, declare, use_app


class AnnotateAll:
    """An annotation that is an object."""

    def annotate_any(self):
        return {"acks_late": True}


class AnnotateSome:
    """An annotation that decides by the task."""

    def annotate(self, task):
        return {"reject_on_worker_lost": True} if task.name == "shop.ship" else None


def test_the_base_pins_what_is_looked_for():
    """The base itself keeps off what the check and the worker look for."""
    assert not any(getattr(ReliableTask, name) for name in PINNED)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, []),
        ({"*": {"rate_limit": "10/s"}}, []),
        ({"*": {"acks_late": False}}, []),
        ({"*": {"acks_late": True}}, ["acks_late"]),
        ([{"*": {"acks_late": True, "retry_on_worker_lost": True}}], ["acks_late", "retry_on"]),
        ({"shop.ship": {"reject_on_worker_lost": True}}, ["shop.ship"]),
        ({"shop.plain": {"reject_on_worker_lost": True}}, []),
        ({"shop.ship": {"acks_late": True}, "*": {"acks_late": False}}, []),
        (AnnotateAll(), ["acks_late"]),
        ([AnnotateSome()], ["shop.ship"]),
        (f"{__name__}.AnnotateAll", ["acks_late"]),
        ([{"shop.other": {}}, AnnotateSome()], ["shop.ship"]),
    ],
)
def test_undoing_annotations_are_reported(monkeypatch, annotations, expected):
    """An annotation that undoes a pin of a reliable task is a warning, in each of its forms."""
    app = use_app(monkeypatch, task_annotations=annotations)
    declare(app, "shop.ship", base=ReliableTask)
    declare(app, "shop.plain")
    found = tasks.check_pins()
    assert codes(found) == ["W014"] * len(expected)
    assert all(word in message.msg for word, message in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"acks_late": True}, ["W015"]),
        ({"acks_late": True, "reject_on_worker_lost": True}, ["W015", "W015"]),
        ({"retry_on_worker_lost": True}, ["W015"]),
    ],
)
def test_undoing_options_are_reported(monkeypatch, options, expected):
    """An option of a reliable task that undoes a pin is a warning; of a plain task it is not."""
    app = use_app(monkeypatch)
    declare(app, "shop.ship", base=ReliableTask, **options)
    declare(app, "shop.plain", acks_late=True)
    assert codes(tasks.check_pins()) == expected


def test_global_late_acknowledgement_does_not_undo_the_pin(monkeypatch):
    """`task_acks_late` leaves reliable tasks as they are; it is told, not warned of."""
    app = use_app(monkeypatch)
    declare(app, "shop.ship", base=ReliableTask)
    assert tasks.check_acks_late() == []
    app.conf.task_acks_late = True
    assert tasks.check_pins() == []
    assert codes(tasks.check_acks_late()) == ["I001"]


@pytest.mark.parametrize(
    ("conf", "own", "expected"),
    [
        ({}, None, ["W019"]),
        ({"task_soft_time_limit": 60}, None, ["W019"]),
        ({"task_time_limit": 60}, None, []),
        ({}, 60, []),
        ({"task_time_limit": 60, "worker_pool": "threads"}, None, ["W019"]),
    ],
)
def test_missing_time_limit_is_reported(monkeypatch, conf, own, expected):
    """Reliable tasks that no hard time limit ends are a warning."""
    app = use_app(monkeypatch, **conf)
    declare(app, "shop.ship", base=ReliableTask, time_limit=own)
    assert codes(tasks.check_time_limit()) == expected


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({"result_backend": "django-db", "task_acks_late": True}, ["I003"]),
        ({"result_backend": "django-db"}, []),
        ({"result_backend": "redis://127.0.0.1:1/1", "task_acks_late": True}, []),
    ],
)
def test_fragile_chords_are_told(monkeypatch, conf, expected):
    """Chords in Django's database are mentioned where plain tasks may be delivered twice."""
    app = use_app(monkeypatch, **conf)
    declare(app, "shop.plain")
    assert codes(tasks.check_chords()) == expected


# -- processes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eager", "debug", "testing", "expected"),
    [
        (True, False, False, ["W013"]),
        (True, True, False, []),
        (True, False, True, []),
        (False, False, False, []),
    ],
)
def test_eager_mode_is_reported(monkeypatch, settings, eager, debug, testing, expected):
    """Eager mode is a warning outside development and tests."""
    use_app(monkeypatch, task_always_eager=eager)
    settings.DEBUG = debug
    if not testing:
        monkeypatch.delattr("django.core.mail.outbox")
    assert codes(processes.check_eager()) == expected


@pytest.mark.parametrize(
    ("pool", "lease", "expected"),
    [
        ("prefork", 10, []),
        ("gevent", 10, ["W017"]),
        ("eventlet", 10, ["W017"]),
        ("gevent", 60, []),
    ],
)
def test_short_lease_on_green_threads_is_reported(monkeypatch, settings, pool, lease, expected):
    """A short lease on a pool of green threads is a warning."""
    use_app(monkeypatch, worker_pool=pool)
    settings.RELIABLE_TASKS = {"LEASE_SECONDS": lease}
    assert codes(processes.check_green_pool()) == expected


@pytest.mark.parametrize(
    ("once", "says"),
    [
        (None, None),
        (True, None),
        ({"keys": ["order"], "window": 60}, None),
        ({"keys": ["ordre"]}, "'ordre', which is no parameter"),
        ({"kyes": ["order"]}, "Did you mean 'keys'"),
        ("always", "must be True, False or a dict"),
    ],
)
def test_once(monkeypatch, once, says):
    """A dedup policy that each call would refuse is an error of the check."""
    app = use_app(monkeypatch)

    @app.task(base=ReliableTask, name="shop.ship_once", once=once)
    def ship_once(order):
        """Take one argument."""

    found = tasks.check_once()
    if says is None:
        assert found == []
    else:
        assert codes(found) == ["E030"]
        assert says in found[0].msg
        assert found[0].obj == "shop.ship_once"
