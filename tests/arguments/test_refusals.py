"""What is refused is refused where the call is made, with parameter, type and remedy."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, group, signature

from reliable_tasks import ArgumentError, OptionError
from reliable_tasks.models import Entry
from tests.app.models import Cafe, Chapter, Document, Item, Place, Shelf, Ticket
from tests.celery_app import app

pytestmark = pytest.mark.django_db


@dataclass
class Point:
    x: int


def deleted():
    row = Item.objects.create(name="x")
    row.delete()
    return row


def deleted_shelf():
    row = Shelf.objects.create(room="a", number=1)
    row.delete()
    return row


SAVE = "that is not in the database: it was never saved, or was deleted. Save it first"
WRONG = {
    "unsaved": (Item, Item, SAVE),
    "unsaved with a key": (Document, Document, SAVE),
    "deleted": (Item, deleted, SAVE),
    "deleted with a composite key": (Shelf, deleted_shelf, SAVE),
    "another model": (
        Item,
        lambda: Document.objects.create(title="x"),
        "is a Document instance, but its parameter is annotated with Item. Pass a Item",
    ),
    "the parent": (Cafe, lambda: Place.objects.create(name="x"), "annotated with Cafe"),
    "none": (Item, lambda: None, "is None (an object that was not saved has no key yet)"),
    "queryset": (Item, Item.objects.all, "is a queryset. Pass primary keys"),
    "class": (Item, lambda: Item, "is a ModelBase. Pass a Item instance or its primary key"),
    "bytes": (Item, lambda: b"1", "is bytes"),
    "set": (Item, lambda: {1}, "is a set"),
    "list": (Item, lambda: [1], "is a list. Pass a Item instance or its primary key"),
    "dict": (Item, lambda: {"pk": 1}, "is a dict. Pass a Item instance"),
    "object": (Item, object, "is a object. Pass a Item instance"),
    "truth": (Item, lambda: True, "is a bool. Pass a Item instance"),
    "text": (Item, lambda: "seven", "is a str that is no key of it"),
    "a fraction": (Item, lambda: 1.5, "is a float that is no key of it"),
    "too large": (Item, lambda: 2**70, "is a number too large for a key"),
    "no uuid": (Document, lambda: "x", "is a str that is no key of it"),
    "a list as text": (Ticket, lambda: ["a"], "is a list. Pass a Ticket instance"),
    "half of a key": (Shelf, lambda: ("a",), "the primary key of Shelf is (room, number)"),
    "one for two": (Shelf, lambda: "a", "is a str, but the primary key of Shelf is (room, number)"),
    "wrong part": (Shelf, lambda: ("a", "b"), "is a str that is no key of it"),
    "one for several": (list[Item], lambda: 1, "is a int. Pass a list of Item instances or keys"),
    "text for several": (list[Item], lambda: "12", "is a str. Pass a list of Item instances"),
    "queryset for several": (list[Item], Item.objects.all, "is a queryset"),
    "set for several": (list[Item], lambda: {1}, "is a set"),
    "none for several": (list[Item], lambda: None, "is a NoneType. Pass a list of Item"),
    "wrong within": (list[Item], lambda: [1, Item()], "has an item that is wrong: [1] is a Item"),
    "none within": (list[Item], lambda: [None], "has an item that is wrong: [0] is None"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("way", ["delay", "by name", "many", "si", "apply", "eager"])
def test_what_is_no_row_is_refused(monkeypatch, unsent, make_task, case, way):
    """Each way to call refuses what is no row, names parameter, type and remedy, writes nothing."""
    annotation, make, words = WRONG[case]

    def body(order):
        raise AssertionError("the body ran")

    body.__annotations__ = {"order": annotation}
    task, value = make_task(body), make()
    if way == "eager":
        monkeypatch.setitem(app.conf.changes, "task_always_eager", True)
    calls = {
        "delay": lambda: task.delay(value),
        "by name": lambda: task.apply_async(kwargs={"order": value}),
        "many": lambda: task.enqueue_many([(value,)]),
        "si": lambda: task.si(value),
        "apply": lambda: task.apply((value,), throw=True),
        "eager": lambda: task.delay(value),
    }
    with pytest.raises(ArgumentError) as caught:
        calls[way]()
    assert str(caught.value).startswith(f"{task.name}: argument 'order' ")
    assert words in str(caught.value)
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1}, "is a set, which has no order. Pass sorted(value)"),
        (b"x", "is bytes. Pass text (base64)"),
        (object(), "is a object, which the ledger cannot keep. Pass an id"),
        (Point(1), "is a Point, a dataclass. Pass dataclasses.asdict(value)"),
        ([{"a": {1}}], "argument 'thing'[0]['a'] is a set"),
        (enum.Enum("Local", "A").A, "is a member of"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("way", ["s", "si", "delay", "by name", "retry"])
def test_what_cannot_be_kept_is_refused_with_its_parameter(
    unsent, make_task, run, value, words, way
):
    """The refusal names the parameter also where the value was passed by position."""

    def body(self, thing: Any = None):
        raise self.retry(args=(value,))

    task = make_task(body, bind=True)
    if type(value) is enum.EnumMeta or isinstance(value, enum.Enum):
        type(value).__qualname__ = "here.<locals>.Local"
    if way == "retry":
        entry = run(task)
        assert words in entry.error_message
        return
    calls = {
        "s": lambda: task.s(value),
        "si": lambda: task.si(value),
        "delay": lambda: task.delay(value),
        "by name": lambda: task.s(thing=value),
    }
    with pytest.raises(ArgumentError) as caught:
        calls[way]()
    assert words in str(caught.value)
    if way in ("si", "delay", "by name"):
        assert "argument 'thing'" in str(caught.value)


def test_an_instance_without_an_annotation_is_refused_with_both_remedies(refusal, make_task):
    """An instance where no model is annotated is told how to pass its key, or to annotate."""

    def body(note, order=None):
        pass

    item = Item.objects.create(name="x")
    text = refusal(make_task(body), "a", item)
    assert "argument 'order' is a Item instance" in text
    assert f"pass its primary key ({item.pk})" in text
    assert "annotate the parameter with Item" in text


# -- signatures -----------------------------------------------------------------------------------


@pytest.fixture
def ship(make_task, got):
    """Give the test a task with two models."""

    def body(order: Item, document: Document | None = None, *more: Item, note: Item | None = None):
        got.append((order, document, more, note))

    return make_task(body)


@pytest.fixture
def rows(item):
    """Give the test an item and a document."""
    return item, Document.objects.create(title="x")


def test_signatures_hold_keys(ship, rows):
    """Instances in a signature become keys at once, so that it can be sent and kept."""
    item, document = rows
    made = ship.s(item, document, note=item)
    assert (made.args, made.kwargs) == ((item.pk, document.pk), {"note": item.pk})
    assert ship.si(item).args == (item.pk,)
    assert ship.subtask((item,), immutable=True).args == (item.pk,)


def test_a_partial_signature_may_get_arguments_before_its_own(ship, rows):
    """In s() an instance may stand for a later parameter, because a result comes before it."""
    _item, document = rows
    assert ship.s(document).args == (document.pk,)
    with pytest.raises(ArgumentError, match=r"argument 'order' is a Chapter instance"):
        ship.s(Chapter.objects.create(document=document, number=1))


def test_a_chain_hands_keys_on(run, make_task, ship, rows, got):
    """The result of one step is the key that the next step's model parameter loads."""
    item, document = rows

    def make(thing: Item):
        return thing.pk

    first = make_task(make)
    chain(first.s(item), ship.s(document)).apply_async()
    for _ in range(2):
        deliver_all()
    assert got == [(item, document, (), None)]


def test_links_and_groups_take_instances(run, make_task, ship, rows, got):
    """Links and members of groups load what they were given."""
    item, _ = rows

    def nothing():
        pass

    make_task(nothing).apply_async(link=ship.si(item))
    group(ship.s(item), ship.s(item.pk))()
    for _ in range(2):
        deliver_all()
    assert got == [(item, None, (), None)] * 3


def deliver_all():
    from tests.enqueue.calls import deliver

    for entry in Entry.objects.filter(state="pending"):
        deliver(app.tasks[entry.task], entry.pk)


def test_a_signature_by_name_is_checked_when_it_is_called(unsent, ship, rows):
    """A signature that was made of a name alone is checked by the call."""
    item, document = rows
    signature(ship.name, args=(item,), app=app).apply_async()
    assert Entry.objects.get().args == [item.pk]
    with pytest.raises(ArgumentError, match="annotated with Item"):
        signature(ship.name, args=(document,), app=app).apply_async()


def test_an_instance_that_nobody_can_send_is_refused(unsent, make_task, ship, rows):
    """A signature by name with an instance inside a chain is refused when the chain is sent."""
    item, _ = rows
    by_name = signature(ship.name, args=(item,), app=app, immutable=True)
    with pytest.raises((OptionError, ArgumentError)):
        chain(make_task().si(), by_name).apply_async()


def test_a_signature_of_a_request_is_not_checked(make_task):
    """Celery makes signatures of messages that arrived; what they hold is not refused there."""
    task = make_task()
    task.push_request(args=({1},), kwargs={}, called_directly=True)
    try:
        assert task.signature_from_request().args == ({1},)
    finally:
        task.pop_request()


def test_other_kinds_of_keys_are_brought_into_the_models_type(unsent, make_task):
    """A UUID as text, a Decimal or a float without a fraction become the key that is meant."""

    def body(order: Item, document: Document, ticket: Ticket):
        pass

    task, key = make_task(body), uuid4()
    entry = Entry.objects.get(pk=task.delay(Decimal(7), key.hex, 12).id)
    assert entry.args == [7, {"__type__": "uuid", "value": str(key)}, "12"]
    assert Entry.objects.get(pk=task.delay(7.0, key, "x").id).args[0] == 7


def test_a_moment_is_no_key(refusal, make_task):
    """A date where a number is the key is refused."""

    def body(order: Item):
        pass

    assert "is a datetime that is no key" in refusal(make_task(body), datetime.now(UTC))
