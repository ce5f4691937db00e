"""What a call leaves in the row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import connections
from django.utils import timezone

from reliable_tasks import (
    codec,
    ledger,
)
from reliable_tasks.models import Entry
from tests.app.tasks import add
from tests.celery_app import app
from tests.enqueue.calls import (
    deliver,
    entry_of,
)


def test_arguments_of_all_kinds_arrive(enqueued, make_task):
    """Positional and keyword arguments arrive in the body as they were passed."""
    seen = []

    def see(*args, **kwargs):
        seen.append((args, kwargs))

    task = make_task(see)
    when, money, key = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), Decimal("1.10"), uuid4()
    result = task.delay("ü", [1, (2,)], when, key=key, money=money, nothing=None)
    deliver(task, result.id)
    assert seen == [(("ü", [1, [2]], when), {"key": key, "money": money, "nothing": None})]


def test_an_entry_says_which_task_it_is(enqueued):
    """The row has the task's name, its queue and its budgets."""
    found = enqueued()
    assert (found.task, found.queue, found.priority) == (add.name, "celery", None)
    assert (found.max_retries, found.crash_budget, found.options) == (20, 3, None)


def test_a_tasks_own_budgets_win_over_the_settings(settings, enqueued, make_task):
    """A budget set on the task is the entry's; the settings fill in the rest."""
    settings.RELIABLE_TASKS = {"MAX_RETRIES": 4, "CRASH_BUDGET": 5}
    assert (enqueued().max_retries, enqueued().crash_budget) == (4, 5)
    found = enqueued(task=make_task(max_retries=None, crash_budget=1))
    assert (found.max_retries, found.crash_budget) == (None, 1)


def test_the_result_has_the_entrys_id(db, unsent):
    """The id is known at once and is the same for result, entry and message."""
    wanted = uuid4()
    assert add.apply_async((1, 2), task_id=wanted).id == str(wanted)
    assert add.apply_async((3, 4), task_id=str(uuid4())).state == "PENDING"
    assert Entry.objects.get(pk=wanted).args == [1, 2]


def test_a_call_repeated_with_its_id_is_one_entry(db, unsent):
    """A second call with the same id writes nothing, sends nothing and returns the same result."""
    wanted = uuid4()
    first, second = (add.apply_async(args, task_id=wanted) for args in ((1, 2), (3, 4)))
    assert first.id == second.id
    assert Entry.objects.get().args == [1, 2]
    assert len(unsent) <= 1


@pytest.mark.parametrize("countdown", [60, 60.5])
def test_a_countdown_is_kept_in_the_row(enqueued, unsent, countdown):
    """A countdown counts from the database's present and sends nothing before its time."""
    found = enqueued(countdown=countdown)
    assert found.due_at - found.enqueued_at == timedelta(seconds=countdown)
    assert found.wake_at == found.due_at


def test_an_eta_is_kept_in_the_row(enqueued):
    """An eta is the time at which the entry is due, whatever zone or form it was given in."""
    eta = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    for given in (eta, eta.astimezone(timezone.get_fixed_timezone(330)), eta.isoformat()):
        found = enqueued(eta=given)
        assert (found.due_at, found.wake_at) == (eta, eta)


def test_a_countdown_wins_over_an_eta(enqueued):
    """With both given, the countdown counts, as in Celery."""
    found = enqueued(countdown=5, eta=datetime(2031, 1, 1, tzinfo=UTC))
    assert found.due_at - found.enqueued_at == timedelta(seconds=5)


def test_an_eta_in_the_past_is_due_now(enqueued):
    """An eta that has passed can be claimed at once."""
    found = enqueued(eta=timezone.now() - timedelta(days=1))
    assert ledger.claim(found.pk, "w", lease=5.0) is not None


def test_an_expiry_is_kept_in_the_row(enqueued):
    """An expiry is seconds from now or a time, and kept as a time."""
    found = enqueued(expires=90)
    assert found.expires_at - found.enqueued_at == timedelta(seconds=90)
    at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert enqueued(expires=at).expires_at == enqueued(expires=at.isoformat()).expires_at == at


def test_options_that_a_later_publish_needs_are_kept(enqueued):
    """Headers, callbacks, limits and names are in the row, for whoever publishes or runs it."""
    found = enqueued(
        headers={"traceparent": "00-1"},
        link=add.s(3),
        link_error=[add.si(4, 5)],
        time_limit=30,
        soft_time_limit=20,
        shadow="sum",
        priority=7,
        ignore_result=True,
    )
    assert found.priority == 7
    kept = found.options
    assert kept["headers"] == {"traceparent": "00-1"}
    assert (kept["timelimit"], kept["shadow"], kept["ignore_result"]) == ([30, 20], "sum", True)
    assert kept["link"]["args"] == [3]
    assert kept["link_error"][0]["args"] == [4, 5]


def test_links_to_the_workflow_are_kept(enqueued):
    """Root, parent and group of a canvas are in the row."""
    links = {name: uuid4() for name in ("root_id", "parent_id", "group_id")}
    found = enqueued(**{name: str(value) for name, value in links.items()})
    assert {name: getattr(found, name) for name in links} == links


def test_a_task_that_enqueues_is_the_parent(enqueued, make_task):
    """An entry that is enqueued by an attempt knows its parent and the root of all."""

    def grow(depth):
        if depth:
            task.delay(depth - 1)

    task = make_task(grow)
    root = entry_of(task.delay(2))
    deliver(task, root.pk)
    child = Entry.objects.get(parent_id=root.pk)
    deliver(task, child.pk)
    grandchild = Entry.objects.get(parent_id=child.pk)
    assert (root.parent_id, root.root_id) == (None, None)
    assert (child.root_id, grandchild.root_id) == (root.pk, root.pk)


def test_a_schedules_name_is_kept(enqueued):
    """An entry that a schedule enqueued names the schedule."""
    assert enqueued(headers={"periodic_task_name": "nightly"}).schedule == "nightly"
    assert enqueued().schedule == ""


def test_the_queue_is_chosen_as_celery_chooses_it(enqueued, monkeypatch):
    """The call's queue wins over the project's routes, and those over the default."""
    assert enqueued().queue == "celery"
    assert enqueued(queue="slow").queue == "slow"
    monkeypatch.setitem(app.conf.maps[0], "task_routes", {add.name: {"queue": "routed"}})
    monkeypatch.setattr(app.amqp, "_rtable", None)
    monkeypatch.delitem(app.amqp.__dict__, "router", raising=False)
    assert enqueued().queue == "routed"
    assert enqueued(queue="slow").queue == "slow"


def test_a_direct_call_writes_nothing(db, unsent):
    """A task that is called as a function is a plain function."""
    assert add(1, 2) == 3
    assert not Entry.objects.exists()
    assert not connections["default"].in_atomic_block or not unsent


def test_what_is_enqueued_is_what_is_decoded(db, unsent):
    """The row's arguments decode to what was passed to the call."""
    found = entry_of(add.delay(Decimal("0.1"), uuid4()))
    args, _ = codec.decode(found.args, found.kwargs)
    assert [type(value) for value in args] == [Decimal, UUID]
