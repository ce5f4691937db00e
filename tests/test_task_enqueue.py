"""Enqueue through the task: transactions, options, errors at the call site, and the message."""

from __future__ import annotations

import base64
import json
import warnings
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import redis
from celery.app.trace import build_tracer
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reliable_tasks import (
    ReliableTask,
    TransactionMismatch,
    codec,
    events,
    ledger,
    publish,
    sweeper,
)
from reliable_tasks.errors import ArgumentError, LedgerNotReady, OptionError
from reliable_tasks.link import Link
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from reliable_tasks.wakeup import MARK
from tests import services
from tests.app.models import Effect, Item
from tests.app.tasks import add, write_effect
from tests.celery_app import app
from tests.statements import TRANSACTION, verbs

transactions = pytest.mark.django_db(transaction=True)
two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Broker:
    """What really lies in the broker."""

    def __init__(self):
        self._client = redis.Redis.from_url(services.redis_url())

    def raw(self, queue="celery"):
        return self._client.lrange(services.redis_key_prefix() + queue, 0, -1)

    def messages(self, queue="celery"):
        return [json.loads(text) for text in self.raw(queue)]

    def ids(self, queue="celery"):
        return {message["headers"]["id"] for message in self.messages(queue)}

    def close(self):
        self._client.close()


@pytest.fixture
def broker(flush_broker, settings):
    """Give the test an empty broker, which a commit has reached when it returns."""
    settings.RELIABLE_TASKS = {"PUBLISH": "inline"}
    publish.publisher(app)._link.breaker.reset()
    found = Broker()
    yield found
    found.close()


@pytest.fixture
def unsent(monkeypatch):
    """Give the test the list of what is handed to the publisher, and send nothing."""
    submitted = []

    class Publisher:
        def submit(self, wakeups):
            submitted.extend(wakeups)

    monkeypatch.setattr("reliable_tasks.task.publisher", lambda app: Publisher())
    return submitted


@pytest.fixture
def make_task():
    """Give the test a function that makes tasks, which are forgotten when it ends."""
    made = []

    def nothing(*args, **kwargs):
        pass

    def make(function=nothing, **options):
        name = f"tests.made.{uuid4().hex}"
        made.append(name)
        return app.task(base=ReliableTask, name=name, typing=False, **options)(function)

    yield make
    for name in made:
        app.tasks.pop(name, None)


def deliver(task, entry_id):
    """Run the attempt that a wake-up for an entry begins, as a worker's process does."""
    request = {
        "id": str(entry_id),
        "task": task.name,
        MARK: 1,
        "hostname": "celery@test",
        "is_eager": False,
        "called_directly": False,
        "delivery_info": {"routing_key": "celery"},
    }
    tracer = build_tracer(task.name, app.tasks[task.name], app=app, hostname="celery@test")
    return tracer(str(entry_id), [], {}, request)


@contextmanager
def rolled_back(**kwargs):
    with suppress(ZeroDivisionError), transaction.atomic(**kwargs):
        yield
        raise ZeroDivisionError


def entry_of(result):
    return Entry.objects.get(pk=result.id)


# --------------------------------------------------------------------------------- transactions
@transactions
def test_without_a_transaction_the_entry_is_there_at_once(broker):
    """In autocommit the entry is committed and its message sent when delay() returns."""
    result = add.delay(1, 2)
    assert entry_of(result).state == State.PENDING
    assert broker.ids() == {result.id}


@transactions
def test_the_message_is_sent_after_the_commit(broker):
    """Nothing is on the broker while the transaction is open; the message is there after it."""
    with transaction.atomic():
        Item.objects.create(name="order")
        result = add.delay(1, 2)
        assert not broker.raw()
    assert broker.ids() == {result.id}
    assert entry_of(result).args == [1, 2]


@transactions
def test_a_rollback_leaves_no_ghost(broker):
    """An entry whose transaction rolls back never existed, and no message wakes it."""
    with rolled_back():
        Item.objects.create(name="order")
        add.delay(1, 2)
        add.enqueue_many([(1, 2), (3, 4)])
    assert not Entry.objects.exists()
    assert not broker.raw()


@transactions
def test_a_rolled_back_savepoint_takes_its_entries_along(broker):
    """What is enqueued in a savepoint that rolls back is gone; the rest commits and is sent."""
    with transaction.atomic():
        before = add.delay(1, 1)
        with rolled_back():
            add.delay(2, 2)
            add.enqueue_many([(3, 3)])
        after = add.delay(4, 4)
    assert set(Entry.objects.values_list("pk", flat=True)) == {UUID(before.id), UUID(after.id)}
    assert broker.ids() == {before.id, after.id}


@transactions
def test_a_nested_block_waits_for_the_outermost_commit(broker):
    """The end of an inner block sends nothing; the outermost commit sends everything."""
    with transaction.atomic():
        with transaction.atomic():
            inner = add.delay(1, 2)
        assert not broker.raw()
    assert broker.ids() == {inner.id}


@transactions
def test_the_outermost_rollback_wins(broker):
    """What an inner block had finished is gone when the outer one rolls back."""
    with rolled_back(), transaction.atomic():
        add.delay(1, 2)
    assert not Entry.objects.exists()
    assert not broker.raw()


def test_an_entry_is_invisible_until_the_commit(second_connection, unsent):
    """No other connection sees an entry before its transaction commits."""
    with transaction.atomic():
        result = add.delay(1, 2)
        assert not second_connection.run(ledger.exists, UUID(result.id))
    assert second_connection.run(ledger.exists, UUID(result.id))


@transactions
@pytest.mark.parametrize("call", [add.delay, add.delay_on_commit])
def test_on_commit_variants_are_the_same(broker, call):
    """Code written for Celery's delay_on_commit() goes on working, and knows the id at once."""
    with transaction.atomic():
        result = call(1, 2)
        assert entry_of(result).args == [1, 2]
    assert broker.ids() == {result.id}


@transactions
def test_a_publish_that_fails_does_not_reach_the_caller(monkeypatch):
    """An error while publishing is not the caller's: the entry is committed and will be swept."""

    class Broken:
        def submit(self, wakeups):
            raise RuntimeError("publisher")

    monkeypatch.setattr("reliable_tasks.task.publisher", lambda app: Broken())
    result = add.delay(1, 2)
    many = add.enqueue_many([(3, 4)])
    assert set(Entry.objects.values_list("pk", flat=True)) == {UUID(result.id), *many.ids}


@transactions
def test_the_background_thread_sends_as_well(broker, settings):
    """By default another thread sends the message, and flush() waits until it has."""
    settings.RELIABLE_TASKS = {}
    result = add.delay(1, 2)
    assert publish.flush(10.0)
    assert broker.ids() == {result.id}


@transactions
def test_an_enqueue_in_a_broken_transaction_is_an_error(unsent):
    """In a transaction that is to be rolled back, enqueueing raises instead of being lost."""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            add.delay(1, 2)
    assert not Entry.objects.exists()
    assert not unsent


# -------------------------------------------------------------------------------- two databases
@two_databases
@pytest.mark.parametrize(
    "enqueue", [lambda: add.delay(1, 2), lambda: add.enqueue_many([(1, 2)])], ids=["one", "many"]
)
def test_a_transaction_on_another_database_only_is_refused(unsent, enqueue):
    """An entry that another database's rollback would not take along is not enqueued silently."""
    with transaction.atomic(using="other"):
        Item.objects.using("other").create(name="order")
        with pytest.raises(TransactionMismatch, match=r"'other'.*ledger lives on 'default'"):
            enqueue()
    assert not Entry.objects.exists()
    assert not unsent


@two_databases
def test_the_other_database_may_be_used_beside_the_ledgers(broker):
    """With a transaction on the ledger's database too, the entry belongs to that one."""
    with transaction.atomic(using="other"), rolled_back():
        add.delay(1, 2)
    assert not Entry.objects.exists()
    with rolled_back(using="other"), transaction.atomic():
        result = add.delay(3, 4)
    assert broker.ids() == {result.id}


@two_databases
def test_outside_a_transaction_the_other_database_does_not_matter(unsent):
    """A connection to another database, without a transaction, is no reason to refuse."""
    Item.objects.using("other").count()
    assert entry_of(add.delay(1, 2)).args == [1, 2]


@two_databases
@pytest.mark.parametrize(("mode", "warned"), [("warn", 1), ("allow", 0)])
def test_the_weaker_promise_can_be_chosen(settings, unsent, mode, warned):
    """A project that accepts it gets the entry at once, with a warning or without."""
    settings.RELIABLE_TASKS = {"OTHER_TRANSACTION": mode}
    with warnings.catch_warnings(record=True) as caught, rolled_back(using="other"):
        warnings.simplefilter("always")
        result = add.delay(1, 2)
    assert entry_of(result).state == State.PENDING
    assert len(caught) == warned
    for warning in caught:
        assert issubclass(warning.category, RuntimeWarning)
        assert warning.filename == __file__


@two_databases
def test_a_ledger_on_another_database_follows_that_ones_transactions(settings, broker):
    """Where routers put the ledger elsewhere, that database's commit and rollback decide."""
    settings.DATABASE_ROUTERS = ["tests.routers.LedgerElsewhere"]
    with rolled_back(using="other"):
        add.delay(1, 2)
    assert not Entry.objects.exists()
    with transaction.atomic(using="other"):
        result = add.delay(3, 4)
        assert not broker.raw()
    assert broker.ids() == {result.id}
    assert Entry.objects.using("other").get().args == [3, 4]
    assert not Entry.objects.using("default").exists()
    with transaction.atomic(), pytest.raises(TransactionMismatch, match="ledger lives on 'other'"):
        add.delay(5, 6)


@two_databases
def test_a_ledger_on_another_database_runs_entries(settings, unsent):
    """An entry on another database than the default one is claimed, run and finished there."""
    settings.DATABASE_ROUTERS = ["tests.routers.LedgerElsewhere"]
    result = add.delay(3, 4)
    deliver(add, result.id)
    assert Entry.objects.using("other").get().state == State.SUCCEEDED


# ------------------------------------------------------------------------------- what is written
@pytest.fixture
def enqueued(db, unsent):
    """Give the test a function that enqueues and reads the row."""

    def call(*args, task=add, **options):
        return entry_of(task.apply_async(args or (1, 2), **options))

    return call


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
    assert Entry.objects.filter(pk=wanted, args=[1, 2]).exists()


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


# --------------------------------------------------------------------------------------- queues
def test_the_queue_is_chosen_as_celery_chooses_it(enqueued, monkeypatch):
    """The call's queue wins over the project's routes, and those over the default."""
    assert enqueued().queue == "celery"
    assert enqueued(queue="slow").queue == "slow"
    monkeypatch.setitem(app.conf.maps[0], "task_routes", {add.name: {"queue": "routed"}})
    monkeypatch.setattr(app.amqp, "_rtable", None)
    monkeypatch.delitem(app.amqp.__dict__, "router", raising=False)
    assert enqueued().queue == "routed"
    assert enqueued(queue="slow").queue == "slow"


def test_an_unknown_queue_is_refused_where_queues_are_fixed(db, unsent, monkeypatch):
    """Where missing queues are not created, a queue that does not exist is refused at the call."""
    monkeypatch.setattr(app.amqp.queues, "create_missing", False)
    monkeypatch.setattr(app.amqp.router, "create_missing", False)
    with pytest.raises(OptionError, match="there is no queue 'no-such-queue'"):
        add.apply_async((1, 2), queue="no-such-queue")
    assert not Entry.objects.exists()


# ------------------------------------------------------------------------ errors at the call site
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
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE reliable_tasks_entry RENAME TO elsewhere")
    with pytest.raises(LedgerNotReady, match="migrate reliable_tasks"), transaction.atomic():
        add.delay(1, 2)
    assert not unsent


# ------------------------------------------------------------------------------------------ many
def test_many_calls_are_tuples_lists_and_dicts(db, unsent):
    """Each item is one call: a tuple or list of positional arguments, or a dict of named ones."""
    found = add.enqueue_many(iter([(1, 2), [3, 4], {"x": 5, "y": 6}]))
    rows = Entry.objects.in_bulk(found.ids)
    assert [(rows[each].args, rows[each].kwargs) for each in found.ids] == [
        ([1, 2], {}),
        ([3, 4], {}),
        ([], {"x": 5, "y": 6}),
    ]


def test_many_results_are_a_sequence(db, unsent):
    """The answer is a sequence of results in the order of the calls."""
    found = add.enqueue_many([(n, n) for n in range(5)])
    assert len(found) == 5
    assert [result.id for result in found] == [str(each) for each in found.ids]
    assert found[-1].id == str(found.ids[4])
    assert [result.id for result in found[1:3]] == [str(each) for each in found.ids[1:3]]


def test_many_share_their_options(db, unsent):
    """Options of the call hold for each of its entries."""
    found = add.enqueue_many([(1, 2), (3, 4)], queue="slow", countdown=60, headers={"x": 1})
    for row in Entry.objects.in_bulk(found.ids).values():
        assert (row.queue, row.options) == ("slow", {"headers": {"x": 1}})
        assert row.due_at - row.enqueued_at == timedelta(seconds=60)


@pytest.mark.parametrize(
    ("calls", "kind", "message"),
    [
        ([(1, 2), (3,)], TypeError, "missing 1 required"),
        ([(1, 2), (3, {4})], ArgumentError, "argument 2 is a set"),
        ([(1, 2), 3], ArgumentError, r"it got 3\. For one argument a call: \[\(3,\), …\]"),
        (["12"], ArgumentError, "it got '12'"),
    ],
)
def test_one_wrong_call_of_many_writes_nothing(db, unsent, calls, kind, message):
    """If one call of many is wrong, none is enqueued."""
    with pytest.raises(kind, match=message):
        add.enqueue_many(calls)
    assert not Entry.objects.exists()


def test_wrong_options_of_many_write_nothing(db, unsent):
    """A wrong option of many calls is refused before anything is written."""
    with pytest.raises(OptionError, match="Did you mean 'queue'"):
        add.enqueue_many([(1, 2)], qeue="slow")
    assert not Entry.objects.exists()


def test_no_calls_are_no_entries(db, unsent, django_assert_num_queries):
    """An empty list of calls does nothing."""
    with django_assert_num_queries(0):
        assert len(add.enqueue_many([])) == 0


@transactions
def test_many_are_sent_after_the_commit(broker):
    """The messages of many entries are sent when their transaction commits."""
    with transaction.atomic():
        found = add.enqueue_many([(n, n) for n in range(1_500)])
        assert not broker.raw()
    assert broker.ids() == {str(each) for each in found.ids}


# --------------------------------------------------------------------------------------- the wire
SECRET = "4111-1111-1111-1111"


def body_of(message):
    return json.loads(base64.b64decode(message["body"]))


@transactions
def test_the_message_is_an_id_and_no_arguments(broker, make_task):
    """No argument of a call ever leaves the database for the broker."""
    task = make_task()
    result = task.delay(SECRET, card=SECRET)
    (raw,) = broker.raw()
    (message,) = broker.messages()
    assert SECRET.encode() not in raw
    assert SECRET.encode() not in base64.b64decode(message["body"])
    assert message["headers"] == {"task": task.name, "id": result.id, MARK: 1}
    assert body_of(message)[:2] == [[], {}]
    assert len(raw) < 500


@transactions
def test_times_are_never_on_the_wire(broker):
    """Neither countdown nor eta nor expiry is given to the broker, now or when they are due."""
    add.apply_async((1, 2), countdown=60, expires=3600)
    add.apply_async(
        (1, 2),
        eta=timezone.now() + timedelta(seconds=60),
        expires=timezone.now() + timedelta(hours=1),
    )
    expiring = add.apply_async((1, 2), expires=3600)
    assert broker.ids() == {expiring.id}
    report = sweeper.sweep(app, Link(app), now=timezone.now() + timedelta(seconds=61))
    assert report.published == 2
    assert len(broker.raw()) == 3
    for raw in broker.raw():
        for word in (b"eta", b"expires", b"countdown"):
            assert word not in raw


@transactions
def test_what_celery_needs_early_is_on_the_wire(broker):
    """Time limits, a shadow name and the caller's headers reach the worker with the message."""
    add.apply_async(
        (1, 2), time_limit=30, shadow="sum", headers={"traceparent": "00-1"}, priority=0
    )
    (message,) = broker.messages()
    headers = message["headers"]
    assert (headers["timelimit"], headers["shadow"]) == ([30, None], "sum")
    assert headers["traceparent"] == "00-1"
    assert message["properties"]["priority"] == 0


@transactions
def test_each_entry_goes_to_its_queue(broker):
    """A message lies on the queue of its entry."""
    slow, normal = add.apply_async((1, 2), queue="slow"), add.delay(1, 2)
    assert (broker.ids("slow"), broker.ids()) == ({slow.id}, {normal.id})


# ------------------------------------------------------------------------------------- statements
@transactions
@pytest.mark.parametrize("options", [{}, {"countdown": 5, "expires": 60, "headers": {"x": 1}}])
def test_enqueue_is_one_statement(unsent, options):
    """One call costs one statement and no transaction of its own, whatever its options."""
    with CaptureQueriesContext(connection) as captured:
        add.apply_async((1, 2), **options)
    assert verbs(captured) == ["INSERT"]


@transactions
def test_enqueue_adds_one_statement_to_the_callers_transaction(unsent):
    """In the caller's transaction one call adds one statement and nothing else."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        Item.objects.create(name="order")
        add.delay(1, 2)
    assert verbs(captured) == ["BEGIN", "INSERT", "INSERT", "COMMIT"]


@transactions
def test_many_calls_cost_few_statements(unsent):
    """A thousand calls cost one transaction with one statement."""
    with CaptureQueriesContext(connection) as captured:
        add.enqueue_many([(n, n) for n in range(1_000)])
    begin, *inserts, commit = captured.captured_queries
    assert (begin["sql"].split()[0], commit["sql"].split()[0]) == ("BEGIN", "COMMIT")
    assert len(inserts) == 1
    assert Entry.objects.count() == 1_000


@transactions
def test_a_plain_task_costs_three_statements_in_all(unsent):
    """From enqueue to success: one statement to enqueue, one to claim, one to finish."""
    with CaptureQueriesContext(connection) as captured:
        result = add.delay(1, 2)
        deliver(add, result.id)
    ours = [verb for verb in verbs(captured, "reliable_tasks_entry") if verb not in TRANSACTION]
    assert ours == ["INSERT", "UPDATE", "UPDATE"]
    assert entry_of(result).state == State.SUCCEEDED


@transactions
def test_an_atomic_task_adds_one_transaction(unsent):
    """An atomic task finishes with one statement inside the transaction of its body."""
    result = write_effect.delay("paid")
    with CaptureQueriesContext(connection) as captured:
        deliver(write_effect, result.id)
    found = verbs(captured, "")
    assert found[:5] == ["UPDATE", "BEGIN", "INSERT", "UPDATE", "COMMIT"]
    ours = verbs(captured, "reliable_tasks_entry")
    assert [verb for verb in ours if verb not in TRANSACTION] == ["UPDATE", "UPDATE"]
    assert (Effect.objects.count(), entry_of(result).state) == (1, State.SUCCEEDED)


@transactions
def test_a_message_that_wakes_nothing_costs_two_statements(unsent):
    """A second copy of a message costs the failed claim and a look at what is there."""
    result = add.delay(1, 2)
    deliver(add, result.id)
    before = events.counts().get("Dropped:succeeded", 0)
    with CaptureQueriesContext(connection) as captured:
        deliver(add, result.id)
    assert verbs(captured, "reliable_tasks_entry") == ["UPDATE", "SELECT"]
    assert events.counts()["Dropped:succeeded"] == before + 1


# ---------------------------------------------------------------------------------- what is told
@transactions
def test_an_enqueue_is_told_once(unsent):
    """Each new entry is told with task and queue; a repeated one is not."""
    told = []

    def note(event, **kwargs):
        told.append((event.entry, event.task, event.queue))

    events.entry_enqueued.connect(note)
    try:
        wanted = uuid4()
        for _ in range(2):
            add.apply_async((1, 2), task_id=wanted, queue="slow")
        (other,) = add.enqueue_many([(1, 2)]).ids
    finally:
        events.entry_enqueued.disconnect(note)
    assert told == [(wanted, add.name, "slow"), (other, add.name, "celery")]


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
