"""A sensitive argument reaches the body, and nobody else sees it."""

from __future__ import annotations

import io
import json
import logging

import pytest
from celery import chain
from celery.app.trace import build_tracer
from django.core import serializers
from django.urls import reverse
from django_celery_results.models import TaskResult

from reliable_tasks import ArgumentError, events
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.shown import shown_arguments, shown_options
from reliable_tasks.worker.request import ReliableRequest
from tests.app.argument_tasks import use_token
from tests.app.models import Item
from tests.celery_app import app
from tests.commands import reliable_tasks
from tests.enqueue.calls import deliver

SECRET = "tok-4111-9f3e"
OTHER = "other-5222-aa"


@pytest.fixture
def heard():
    """Give the test all that is logged and signalled while it runs, as text."""
    stream = io.StringIO()

    class Everything(logging.Handler):
        def emit(self, record):
            stream.write(f"{record.getMessage()} {record.args!r} {vars(record)!r}\n")
            if record.exc_info:
                stream.write(logging.Formatter().formatException(record.exc_info))

    handler = Everything(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("", "reliable_tasks", "celery")]
    before = [(each, each.level) for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)

    def note(event, **kwargs):
        stream.write(f"{event!r}\n")

    signals = [each for each in vars(events).values() if isinstance(each, events.Signal)]
    for signal in signals:
        signal.connect(note)
    yield stream
    for signal in signals:
        signal.disconnect(note)
    loggers[0].removeHandler(handler)
    for each, level in before:
        each.setLevel(level)


def everything(entry, client, heard):
    """Return all that is shown of an entry anywhere, by where."""
    admin = client.get(reverse("admin:reliable_tasks_entry_change", args=[entry.pk]))
    rows = [{**vars(row), "_state": ""} for row in Entry.objects.filter(pk=entry.pk)]
    for row in rows:  # where the value has to be
        row.update(args="", kwargs="", options="")
    return {
        "show": reliable_tasks("show", entry.pk).out,
        "show --json": reliable_tasks("show", entry.pk, "--json").out,
        "list": reliable_tasks("list").out + reliable_tasks("list", "--json").out,
        "admin": admin.content.decode(),
        "entry": repr(rows),
        "attempts": serializers.serialize("json", Attempt.objects.all()),
        "results": serializers.serialize("json", TaskResult.objects.all()),
        "logs and signals": heard.getvalue(),
        "shown": repr(shown_arguments(entry)) + repr(shown_options(entry)),
    }


@pytest.fixture
def extended(monkeypatch):
    """Have results stored with arguments, as CELERY_RESULT_EXTENDED does."""
    monkeypatch.setitem(app.conf.changes, "result_extended", True)


WAYS = ["", "raise", "nest", "retry", "retry with", "odd"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("by_name", [True, False])
def test_no_output_has_the_secret(
    transactional_db, unsent, extended, admin_client, heard, how, by_name
):
    """Whatever becomes of the entry, nothing that is shown of it has a sensitive argument."""
    result = (
        use_token.delay(1, token=SECRET, how=how, key=OTHER)
        if by_name
        else use_token.delay(1, SECRET, how, key=OTHER)
    )
    for _ in range(3):
        Entry.objects.update(due_at="2001-01-01T00:00Z")
        deliver(use_token, result.id)
    entry = Entry.objects.get()
    assert entry.state == {"": "succeeded", "retry": "succeeded"}.get(how, "dead")
    shown = everything(entry, admin_client, heard)
    assert len(shown["logs and signals"]) > 200
    for where, text in shown.items():
        assert SECRET not in text, where
        assert OTHER not in text, where
    assert "***" in shown["show"]
    assert "***" in shown["admin"]
    assert "***" in shown["results"]


def test_the_body_gets_the_secret(transactional_db, unsent):
    """The value itself arrives."""
    result = use_token.delay(1, SECRET, key=OTHER)
    deliver(use_token, result.id)
    assert result.get() == f"{len(SECRET)} ['key']"


def test_messages_keep_what_is_not_secret(transactional_db, unsent):
    """Of a message only the secret itself is masked."""
    result = use_token.delay(1, SECRET, "raise")
    deliver(use_token, result.id)
    assert Attempt.objects.get().error_message == "user 1: bad token ***"
    assert "ValueError: user 1: bad token ***" in Attempt.objects.get().traceback


def test_a_secret_that_a_retry_is_given_is_masked_already(make_task, transactional_db):
    """What self.retry() passes to the next attempt is not told in what this one raises."""

    def body(self, token):
        raise self.retry(args=(OTHER,), exc=ValueError(f"{token} was renewed: {OTHER}"))

    task = make_task(body, bind=True, sensitive=("token",))
    deliver(task, task.delay(SECRET).id)
    attempt = Attempt.objects.get()
    assert attempt.error_message == "*** was renewed: ***"
    assert OTHER not in attempt.traceback


def test_the_mark_is_in_the_entry(transactional_db, unsent, monkeypatch):
    """A process that does not know the task hides what is sensitive all the same."""
    use_token.delay(1, SECRET, key=OTHER)
    Entry.objects.update(task="gone.and_forgotten")
    entry = Entry.objects.get()
    assert shown_arguments(entry) == ([1, "***"], {"key": "***"})
    assert SECRET not in reliable_tasks("show", entry.pk).out


def test_what_becomes_sensitive_later_is_hidden_too(transactional_db):
    """Entries from before a parameter was named are masked where its task is known."""
    from tests import entries

    pk = entries.enqueue(task=use_token.name, args=json.dumps([1, SECRET]), now=None)
    assert shown_arguments(Entry.objects.get(pk=pk)) == ([1, "***"], {})


def test_steps_of_a_chain_are_hidden_too(transactional_db, unsent, admin_client, heard):
    """A secret in what follows an entry is masked in its options."""
    chain(use_token.si(1, OTHER), use_token.si(2, SECRET), use_token.s(SECRET)).apply_async()
    use_token.apply_async((1, OTHER), link=use_token.si(3, token=SECRET))
    for entry in Entry.objects.all():
        assert SECRET in json.dumps(entry.options)
        for where, text in everything(entry, admin_client, heard).items():
            assert SECRET not in text, where
            assert OTHER not in text, where


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, {SECRET}), {}),
        ((1, {SECRET: {SECRET}, 2: 3}), {}),
        ((1, SECRET.encode()), {}),
        ((), {"user": 1, "token": object()}),
        ((1, SECRET, "", SECRET), {}),
    ],
)
def test_refusals_do_not_tell_it(transactional_db, unsent, args, kwargs):
    """An error at the call says what is wrong without the value."""
    with pytest.raises(TypeError) as caught:
        use_token.apply_async(args, kwargs)
    assert SECRET not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        use_token.enqueue_many([SECRET])
    assert SECRET not in str(caught.value)
    with pytest.raises(ArgumentError) as caught:
        use_token.apply_async(SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("how", WAYS)
def test_eager_calls_hide_it(transactional_db, extended, admin_client, heard, monkeypatch, how):
    """Eager calls show it as little as a worker does."""
    monkeypatch.setitem(app.conf.changes, "task_store_eager_result", True)
    use_token.apply((1, SECRET, how), {"key": OTHER})
    for where, text in everything(Entry.objects.get(), admin_client, heard).items():
        assert SECRET not in text, where
        assert OTHER not in text, where


@pytest.mark.parametrize("kwargs", [{"key": OTHER}, {"key": [b"x"]}], ids=["kept", "unreadable"])
def test_adopted_messages_hide_it(transactional_db, extended, admin_client, heard, kwargs):
    """A message of another service is masked as soon as it is an entry, readable or not."""
    request = {
        "id": "6f7ff3a5-0c41-4b55-a6f8-5d3c1b6f2c11",
        "task": use_token.name,
        "is_eager": False,
        "called_directly": False,
        "hostname": "a@b",
        "delivery_info": {},
        "args": [1, SECRET],
        "kwargs": kwargs,
    }
    tracer = build_tracer(use_token.name, app.tasks[use_token.name], app=app, hostname="a@b")
    tracer(request["id"], [1, SECRET], kwargs, request)
    entry = Entry.objects.get()
    assert entry.state == ("dead" if "unreadable" in entry.kwargs else "succeeded")
    for where, text in everything(entry, admin_client, heard).items():
        assert SECRET not in text, where
        assert OTHER not in text, where


def test_the_workers_view_of_a_message_hides_it():
    """Events, Celery's log and `celery inspect` show an adopted message's arguments masked."""
    task = app.tasks[use_token.name]
    headers = {"id": "1", "task": task.name, "argsrepr": SECRET, "kwargsrepr": SECRET}

    class Message:
        delivery_info, properties, content_type = {}, {}, "application/json"
        content_encoding, acknowledged = "utf-8", False
        body, payload = None, ([1, SECRET], {"key": OTHER}, {})

    request = ReliableRequest(
        Message(),
        headers=headers,
        body=Message.payload,
        app=app,
        task=task,
        hostname="a@b",
        decoded=True,
    )
    told = f"{request.argsrepr} {request.kwargsrepr} {request.info()} {request.info(safe=True)}"
    assert SECRET not in told
    assert OTHER not in told
    assert told.count("***") == 6


def test_the_request_has_it_masked(run, make_task, got):
    """self.request.args, which Celery shows in many places, has the mask."""

    def body(self, user, token):
        got.extend([token, self.request.args, self.request.argsrepr])

    run(make_task(body, bind=True, sensitive=("token",)), 1, SECRET)
    assert got == [SECRET, [1, "***"], "[1, '***']"]


def test_keys_of_models_may_be_sensitive(run, make_task, got, item):
    """A model parameter may be sensitive as well; the instance arrives."""

    def body(order):
        got.append(order)

    body.__annotations__["order"] = Item
    entry = run(make_task(body, sensitive=("order",), subject=False), item)
    assert (got, shown_arguments(entry)[0]) == ([item], ["***"])


@pytest.mark.parametrize(
    ("sensitive", "expected"),
    [
        (("rest",), ([1, "***", "***"], {"x": 1, "k": 2})),
        (("more",), ([1, "b", "c"], {"x": "***", "k": 2})),
        (("x",), ([1, "b", "c"], {"x": "***", "k": 2})),
        (("k", "a"), (["***", "b", "c"], {"x": 1, "k": "***"})),
    ],
)
def test_every_kind_of_parameter_can_be_named(run, make_task, sensitive, expected):
    """Parameters by position or name, *args, **kwargs, and one name among **kwargs."""

    def body(a, *rest, k=0, **more):
        pass

    entry = run(make_task(body, sensitive=sensitive), 1, "b", "c", x=1, k=2)
    assert shown_arguments(entry) == expected
    assert entry.state == "succeeded"


def test_enqueue_many_marks_it(unsent, transactional_db):
    """Bulk calls mark each value."""
    found = use_token.enqueue_many([(1, SECRET), {"user": 2, "token": OTHER}])
    shown = [shown_arguments(Entry.objects.get(pk=each)) for each in found.ids]
    assert shown == [([1, "***"], {}), ([], {"user": 2, "token": "***"})]
