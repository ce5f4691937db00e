"""A task that could not be kept in the ledger is refused when it is made."""

from __future__ import annotations

import pytest
from celery import Celery

from reliable_tasks import OptionError, ReliableTask
from reliable_tasks.errors import ConfigurationError
from tests.app.tasks import add


def made(**options):
    """Make a task with these options."""
    app = Celery("definitions", set_as_current=False)

    def body():
        """Do nothing."""

    return app.task(base=ReliableTask, lazy=False, **options)(body)


@pytest.mark.parametrize(
    "options", [{"crash_budget": 1}, {"max_retries": None}, {"max_retries": 0}]
)
def test_what_fits_is_taken(options):
    """Every value that an entry can hold is a task's choice."""
    assert made(name="fits", **options).name == "fits"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crash_budget": None}, r"crash_budget must be a whole number from 1.*; it is None"),
        ({"crash_budget": 0}, "crash_budget must be .*; it is 0"),
        ({"crash_budget": 40_000}, "from 1 to 32767"),
        ({"max_retries": -1}, "max_retries must be None or .*; it is -1"),
        ({"max_retries": True}, "it is True"),
        ({"name": "n" * 256}, "may have 255 characters, not 256"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    """The error names the task, the option, its value and what it may be."""
    with pytest.raises(ConfigurationError, match=words):
        made(**{"name": "odd", **options})


@pytest.mark.parametrize("routed", [False, True])
def test_a_queue_whose_name_is_too_long_is_refused(db, monkeypatch, routed):
    """The call says so, wherever the name came from; no row is written for it."""
    if routed:
        monkeypatch.setattr(add.app.amqp.router, "route", lambda *_, **__: {"queue": "q" * 256})
    call = {"exchange": "x"} if routed else {"queue": "q" * 256}
    with pytest.raises(OptionError, match="a queue may have 255 characters, not 256"):
        add.apply_async((1, 2), **call)
