"""A mistake is refused where it is made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from reliable_tasks.errors import ArgumentError, LedgerNotReady, OptionError
from reliable_tasks.models import Entry
from tests.app.models import Item
from tests.app.tasks import add
from tests.celery_app import app

WRONG = {
    "too few arguments": (((1,), {}), {}, TypeError, "missing 1 required positional argument"),
    "too many arguments": (((1, 2, 3), {}), {}, TypeError, "takes 2 positional arguments"),
    "unknown argument": (((1,), {"z": 2}), {}, TypeError, "unexpected keyword argument 'z'"),
    "args is text": (("12", {}), {}, ArgumentError, "args must be a list or tuple"),
    "args is a set": (({1, 2}, {}), {}, ArgumentError, "args must be a list or tuple"),
    "kwargs is a list": (((1, 2), [("x", 1)]), {}, ArgumentError, "kwargs a dict"),
    "model instance": (((1, Item(pk=4)), {}), {}, ArgumentError, "pass its primary key"),
    "unsaved instance": (((1, Item()), {}), {}, ArgumentError, "Save it first"),
    "set": (((1, {2}), {}), {}, ArgumentError, "sorted"),
    "bytes": (((1,), {"y": b"2"}), {}, ArgumentError, "argument 'y' is bytes"),
    "nul": (((1, "\x00"), {}), {}, ArgumentError, "NUL"),
    "unknown option": (((1, 2), {}), {"countdwn": 3}, OptionError, "Did you mean 'countdown'"),
    "negative countdown": (((1, 2), {}), {"countdown": -1}, OptionError, "countdown must be"),
    "past expiry": (((1, 2), {}), {"expires": -1}, OptionError, "has passed already"),
    "past expiry time": (
        ((1, 2), {}),
        {"expires": datetime(2001, 1, 1, tzinfo=UTC)},
        OptionError,
        "has passed already",
    ),
    "no time": (((1, 2), {}), {"eta": "soon"}, OptionError, "not an ISO 8601 time"),
    "priority": (((1, 2), {}), {"priority": 999}, OptionError, "priority must be"),
    "limits": (((1, 2), {}), {"time_limit": -5}, OptionError, "time_limit must be"),
    "header": (((1, 2), {}), {"headers": {"x": object()}}, OptionError, "cannot be kept"),
}


@pytest.mark.parametrize("always_eager", [False, True], ids=["enqueued", "eager"])
@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_refused_where_it_is_made(db, unsent, monkeypatch, case, always_eager):
    """A call that cannot be kept raises at the call, and neither entry nor message comes of it."""
    (args, kwargs), options, kind, message = WRONG[case]
    monkeypatch.setitem(app.conf.maps[0], "task_always_eager", always_eager)
    with pytest.raises(kind, match=message):
        add.apply_async(args, kwargs, **options)
    assert not Entry.objects.exists()
    assert not unsent


def test_an_id_that_is_no_uuid_is_refused(db, unsent):
    """An id that cannot be an entry's primary key is refused with the reason."""
    with pytest.raises(OptionError, match=r"task_id must be a UUID.*'order-7'"):
        add.apply_async((1, 2), task_id="order-7")
    assert not Entry.objects.exists()


def test_a_missing_table_is_told_at_the_call(db, unsent):
    """Before the first migrate the call says which command to run."""
    if not connection.features.can_rollback_ddl:
        pytest.skip("this database could not undo it")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reliable_tasks_entry RENAME TO elsewhere")
    with pytest.raises(LedgerNotReady, match="migrate reliable_tasks"), transaction.atomic():
        add.delay(1, 2)
    assert not unsent


def test_an_unknown_queue_is_refused_where_queues_are_fixed(db, unsent, monkeypatch):
    """Where missing queues are not created, a queue that does not exist is refused at the call."""
    monkeypatch.setattr(app.amqp.queues, "create_missing", False)
    monkeypatch.setattr(app.amqp.router, "create_missing", False)
    with pytest.raises(OptionError, match="there is no queue 'no-such-queue'"):
        add.apply_async((1, 2), queue="no-such-queue")
    assert not Entry.objects.exists()
