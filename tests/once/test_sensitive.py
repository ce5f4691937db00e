"""A sensitive argument may make a key, and nobody reads it there."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reliable_tasks import AlreadyQueued
from reliable_tasks.errors import KeyReused
from reliable_tasks.models import Entry, Key
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
