"""A sensitive argument may make a key, and nobody reads it there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from celery.app.trace import build_tracer
from django.urls import reverse

from reliable_tasks import AlreadyQueued, arguments, keying
from reliable_tasks.errors import KeyReused
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import NewEntry
from reliable_tasks.models import Entry, Key
from reliable_tasks.testing import enqueued
from tests.celery_app import app
from tests.commands import reliable_tasks

pytestmark = pytest.mark.django_db

SECRET = "tok-4111-9f3e"


def use(user, token, **more):
    return user


class SpellsItOut:
    """What celery_once's users override to make a key of their own."""

    def get_key(self, args, kwargs):
        return f"mine-{kwargs['token']}"


WAYS = {
    "all arguments": {"once": True},
    "one parameter": {"once": {"keys": ["token"]}},
    "a function": {"once": {"key": lambda user, token, **more: token}},
    "its text": {"once": {"textual": True}},
}
BASES = {
    "celery_once's options": {"once": {"keys": ["token"]}},
    "celery_once's key": {"once": {"keys": ["token"], "textual": True}},
}


def told(task, client, **how):
    """Return all that is shown of a key that is held, and of a call that is refused."""
    task.delay(1, token=SECRET, key=SECRET)
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(1, token=SECRET, key=SECRET, **how)
    key, entry = Key.objects.get(), Entry.objects.get()
    admin = client.get(reverse("admin:reliable_tasks_entry_change", args=[entry.pk]))
    error = caught.value
    shown = [str(error), repr(error), repr(vars(error)), key.text, repr(entry.key)]
    shown += [reliable_tasks("keys", *flag).out for flag in ([], ["--json"])]
    shown.append(reliable_tasks("keys", "explain", key.text).out)
    return "\n".join([*shown, admin.content.decode()]), key


@pytest.mark.parametrize("way", WAYS)
def test_a_key_does_not_tell_it(make_task, admin_client, way):
    """However the key is made, neither its receipt, the command nor the admin tells the value."""
    task = make_task(use, sensitive=("token", "more"), **WAYS[way])
    text, key = told(task, admin_client)
    assert SECRET not in text
    assert task.name in key.text


@pytest.mark.parametrize("way", BASES)
def test_nor_does_a_key_of_celery_once(queue_once, admin_client, way):
    """The same on the base with celery_once's interface."""
    text, key = told(queue_once(use, sensitive=("token", "more"), **BASES[way]), admin_client)
    assert SECRET not in text
    assert "…" in key.text


@pytest.mark.parametrize("way", BASES)
def test_its_own_spelling_finds_it_all_the_same(queue_once, way):
    """clear_lock(get_key()) releases the key of that very call, and no other."""
    task = queue_once(use, sensitive=("token", "more"), **BASES[way])
    task.delay(1, token=SECRET)
    task.delay(1, token="other")
    lock = task.get_key((1,), {"token": SECRET})
    with pytest.raises(AlreadyQueued):
        task.once_backend.raise_or_lock(lock, timeout=60)
    task.once_backend.clear_lock(lock)
    assert Key.objects.count() == 1
    task.once_backend.raise_or_lock(lock, timeout=60)


def test_nor_does_a_key_that_a_class_spells_itself(queue_once, admin_client):
    """An overridden get_key decides what is equal; what people read has the values hidden."""
    task = queue_once(use, sensitive=("token", "more"))
    type(task).get_key = SpellsItOut.get_key
    text, _ = told(task, admin_client)
    assert SECRET not in text


def test_a_key_that_is_reused_does_not_tell_it(once):
    """Nor does the error of an idempotency key that comes with another payload."""
    task = once(keys=["order"], window="forever")
    type(task).sensitive = ("order", "kind")
    task.delay(SECRET, kind=SECRET)
    with pytest.raises(KeyReused) as caught:
        task.delay(SECRET, kind=f"{SECRET}-2")
    assert SECRET not in f"{caught.value} {vars(caught.value)!r}"


def test_what_is_not_sensitive_is_shown(make_task):
    """The other parameters of the same task can still be read."""
    make_task(use, sensitive=("token",), once=True).delay(17, token=SECRET)
    text = Key.objects.get().text
    assert "user=17" in text
    assert "token=…" in text


def digests(make_task, sensitive):
    """Return what an entry keeps of one call's key, with other sensitive parameters each time."""

    def body(user, token=None):
        pass

    task = make_task(body, sensitive=sensitive, once={"window": "forever", "conflict": "return"})
    task.name = "tests.made.renamed"
    args_text, kwargs_text = arguments.texts(task, (1,), {"token": SECRET})
    entry = NewEntry(
        id=new_id(), task=task.name, queue="q", crash_budget=3, args=args_text, kwargs=kwargs_text
    )
    hold = keying.with_key(task, entry, keying.policy_of(task, {}), (1,), {"token": SECRET}).hold
    return hold.digest, hold.arguments


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"token": None}),
        ({"token": Decimal("1.0")}, {"token": Decimal("1.00")}),
        (
            {"token": datetime(2031, 1, 1, 12, tzinfo=UTC)},
            {"token": datetime(2031, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))},
        ),
    ],
    ids=["default", "decimal", "zone"],
)
def test_equal_calls_are_one_key(make_task, first, second):
    """A sensitive value makes the key that it would make if it were not: defaults and spellings."""

    def body(user, token=None):
        pass

    task = make_task(body, sensitive=("token",), once=True)
    result = task.delay(1, **first)
    with pytest.raises(AlreadyQueued):
        task.delay(1, **second)
    assert task.delay(1, token="other").id != result.id


def test_what_becomes_sensitive_later_keeps_its_keys(make_task):
    """A key that is held for ever still holds after its parameter was named sensitive."""
    assert digests(make_task, ()) == digests(make_task, ("token",))


def test_enqueued_finds_a_call_whose_default_is_sensitive(make_task):
    """A test finds the call whether a sensitive default was passed or left out."""

    def body(user, token=None):
        pass

    task = make_task(body, sensitive=("token",))
    ids = {task.delay(1).id, task.delay(1, token=None).id}
    assert {str(entry.pk) for entry in enqueued(task, 1)} == ids
    assert {str(entry.pk) for entry in enqueued(task, 1, None)} == ids


def test_one_name_without_a_tuple_hides_it_too(make_task):
    """``sensitive="token"`` is refused at a call; in the key of an adopted message it hides."""
    told = []

    def body(user, token):
        told.append(Key.objects.get().text)

    task = make_task(body, sensitive="token", once=True)
    request = {
        "id": "6f7ff3a5-0c41-4b55-a6f8-5d3c1b6f2c12",
        "task": task.name,
        "is_eager": False,
        "called_directly": False,
        "delivery_info": {},
    }
    tracer = build_tracer(task.name, task, app=app, hostname="a@b")
    tracer(request["id"], [1, SECRET], {}, {**request, "args": [1, SECRET], "kwargs": {}})
    assert told == [f"{task.name}(token=…, user=1)"]


def test_an_extra_name_that_is_a_parameters_own_is_hidden_with_it(make_task):
    """A name that is sensitive is so where it is one among **kwargs as well."""

    def body(token, /, **more):
        pass

    task = make_task(body, sensitive=("token",), once=True, typing=False)
    task.delay(1, token=SECRET)
    assert Key.objects.get().text.endswith("(more=…, token=…)")
