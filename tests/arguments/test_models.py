"""A parameter that is annotated with a model: keys are kept, fresh instances arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, List, Optional, TypeVar, Union  # noqa: UP035
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import Load
from reliable_tasks.models import Attempt, Entry
from tests.app.models import Cafe, Chapter, Document, Item, ItemProxy, Place, Shelf, Ticket
from tests.enqueue.calls import deliver, two_databases
from tests.statements import TRANSACTION, verbs

if TYPE_CHECKING:
    from tests.app import models as rows
    from tests.app.models import Effect


@pytest.fixture
def taking(make_task, got):
    """Give the test a function that makes a task with one parameter of an annotation."""

    def make(annotation, **options):
        def body(thing):
            got.append(thing)

        body.__annotations__ = {"thing": annotation}
        return make_task(body, **options)

    return make


# -- one ------------------------------------------------------------------------------------------


def test_an_instance_arrives_fresh(run, taking, got, item):
    """The entry holds the key; the body gets the row as it is when it runs, not as it was."""
    task = taking(Item)
    result = task.delay(item)
    Item.objects.update(name="after")
    deliver(task, result.id)
    entry = Entry.objects.get(pk=result.id)
    assert (entry.args, entry.state) == ([item.pk], "succeeded")
    assert got[0] == item
    assert got[0] is not item
    assert (item.name, got[0].name) == ("before", "after")


ANNOTATIONS = {
    "class": Item,
    "optional": Optional[Item],  # noqa: UP045
    "or none": Item | None,
    "union": Union[Item, None],  # noqa: UP007
    "or key": Item | int,
    "annotated": Annotated[Item, "anything"],
    "annotated with how": Annotated[Item, Load(only=("name",))],
    "annotated optional": Annotated[Item | None, Load()],
    "optional annotated": Annotated[Item, Load()] | None,
    "text": "Item",
    "text of a union": "Item | None",
    "text of another module": "rows.Item",
    "proxy": ItemProxy,
    "type variable": TypeVar("bound", bound=Item),
}


@pytest.mark.parametrize("annotation", ANNOTATIONS.values(), ids=ANNOTATIONS)
@pytest.mark.parametrize("way", ["instance", "key", "text", "by name"])
def test_every_form_of_the_annotation_is_honoured(run, taking, got, item, annotation, way):
    """A class, an optional one, text and Annotated mean the same, for an instance and for a key."""
    task = taking(annotation)
    entry = {
        "instance": lambda: run(task, item),
        "key": lambda: run(task, item.pk),
        "text": lambda: run(task, str(item.pk)),
        "by name": lambda: run(task, thing=item),
    }[way]()
    kept = entry.kwargs["thing"] if way == "by name" else entry.args[0]
    assert kept == item.pk
    assert [type(got[0]), got[0].pk] == [ItemProxy if annotation is ItemProxy else Item, item.pk]


def test_a_name_that_only_type_checkers_import_is_found(run, make_task, got, item):
    """An annotation may name what its module imports under TYPE_CHECKING only."""

    def body(effect: Effect, thing: rows.Item | None = None):
        got.extend([effect, thing])

    from tests.app.models import Effect as Real

    effect = Real.objects.create(name="x")
    assert run(make_task(body), effect, item).args == [effect.pk, item.pk]
    assert got == [effect, item]


def test_none_is_passed_where_the_annotation_allows_it(run, taking, got):
    """An optional parameter takes None and the body gets None."""
    assert run(taking(Item | None), None).state == "succeeded"
    assert got == [None]


def make_document():
    return Document.objects.create(title="a")


def make_shelf():
    return Shelf.objects.create(room="east", number=7, label="poems")


def make_cafe():
    # Parent and child have keys of different tables; let them differ from other rows' too.
    Place.objects.create(name="no cafe")
    return Cafe.objects.create(name="Ada's")


def make_ticket():
    return Ticket.objects.create(code="é/1")


@pytest.mark.parametrize(
    ("model", "make", "key"),
    [
        (Document, make_document, lambda row: {"__type__": "uuid", "value": str(row.pk)}),
        (Shelf, make_shelf, lambda row: ["east", 7]),
        (Cafe, make_cafe, lambda row: row.place_ptr_id),
        (Ticket, make_ticket, lambda row: "é/1"),
    ],
)
def test_every_kind_of_key_arrives(run, taking, got, model, make, key):
    """UUIDs, composite keys, text and the keys of multi-table children are kept and found."""
    row = make()
    task = taking(model)
    for value in (row, row.pk):
        entry = run(task, value)
        assert (entry.args, entry.state) == ([key(row)], "succeeded"), entry.reason
    assert got == [row, row]
    assert {type(each) for each in got} == {model}


def test_a_uuid_may_be_given_as_text(run, taking, got):
    """A key is brought into its model's own type before it is kept."""
    row = make_document()
    run(taking(Document), str(row.pk).upper())
    assert got == [row]
    assert isinstance(got[0].pk, UUID)


def test_a_child_is_also_its_parent(run, taking, got):
    """A parameter of a parent model takes a child and receives the parent."""
    cafe = make_cafe()
    assert run(taking(Place), cafe).args == [cafe.pk]
    assert [type(each) for each in got] == [Place]


def test_a_proxy_and_its_model_are_alike(run, taking, got, item):
    """A parameter of a proxy takes an instance of its model, and the other way round."""
    run(taking(ItemProxy), item)
    run(taking(Item), ItemProxy.objects.get())
    assert [type(each) for each in got] == [ItemProxy, Item]


# -- several --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "container"),
    [
        (list[Item], list),
        (List[Item], list),  # noqa: UP006
        (Sequence[Item], list),
        (tuple[Item, ...], tuple),
        (list["Item"], list),
        ("list[Item]", list),
        (list[Item] | None, list),
        (Annotated[list[Item], Load()], list),
        (list[Annotated[Item, Load()]], list),
    ],
)
def test_a_list_arrives_in_order(run, taking, got, annotation, container):
    """Several rows arrive in the order of the call, repeated where the call repeats them."""
    rows = [Item.objects.create(name=str(n)) for n in range(4)]
    given = [rows[2], rows[0].pk, rows[3], rows[2]]
    entry = run(taking(annotation), given)
    assert entry.args == [[rows[2].pk, rows[0].pk, rows[3].pk, rows[2].pk]]
    assert got == [container([rows[2], rows[0], rows[3], rows[2]])]


def test_an_empty_list_costs_no_query(run, taking, got):
    """An empty list arrives as one."""
    assert run(taking(list[Item]), []).state == "succeeded"
    assert got == [[]]


def test_rest_and_named_rest_are_models_too(run, make_task, got):
    """Annotations of *args and **kwargs hold for each of their values."""

    def body(first, *rest: Item, **more: Document):
        got.append((first, rest, more))

    items = [Item.objects.create(name=str(n)) for n in range(3)]
    document = make_document()
    run(make_task(body), 0, *items, about=document)
    assert got == [(0, tuple(items), {"about": document})]


def reads(captured):
    return [verb for verb in verbs(captured, "testapp_") if verb == "SELECT"]


def test_an_extra_name_is_not_the_parameter_of_that_name(run, make_task, got, item):
    """What falls on **kwargs under the name of a positional-only model is passed as it is."""

    def body(a: Item, /, **more):
        got.extend([a, more])

    task = make_task(body)
    task.typing = False  # Celery's own check at the call knows no positional-only parameters
    run(task, item.pk, a="x")
    assert got == [item, {"a": "x"}]


def test_many_of_a_model_are_one_query(run, make_task, got):
    """A thousand rows in three parameters cost one query; a second model costs one more."""

    def body(one: Item, other: Item, several: list[Item], document: Document):
        got.append([one, other, *several, document])

    task = make_task(body)
    items = Item.objects.bulk_create(Item(name=str(n)) for n in range(900))
    document = make_document()
    result = task.delay(items[0], items[1], items[2:], document)
    with CaptureQueriesContext(connection) as captured:
        deliver(task, result.id)
    assert got == [[*items, document]]
    assert len(reads(captured)) == 2


def test_more_than_a_statement_takes_are_read_all_the_same(run, taking, got):
    """A list longer than a statement's parameters arrives whole."""
    items = Item.objects.bulk_create(Item(name=str(n)) for n in range(2_500))
    run(taking(list[Item]), items)
    assert got == [items]


def test_the_same_row_is_the_same_instance(run, make_task, got, item):
    """Two parameters with one row share its instance, so that neither works on a stale copy."""

    def body(one: Item, other: Item):
        got.append(one is other)

    run(make_task(body), item, item.pk)
    assert got == [True]


# -- how they are read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "queries"),
    [(Load(), 2), (Load(select_related=("document",)), 1)],
)
def test_relations_are_joined_as_asked(run, make_task, how, queries):
    """select_related saves the body a query."""

    def body(chapter: Any):
        assert chapter.document.title

    body.__annotations__["chapter"] = Annotated[Chapter, how]
    task = make_task(body)
    chapter = Chapter.objects.create(document=make_document(), number=1)
    result = task.delay(chapter)
    with CaptureQueriesContext(connection) as captured:
        deliver(task, result.id)
    assert len(reads(captured)) == queries


def test_fields_and_lookups_are_read_as_asked(run, make_task, got):
    """Both only and prefetch_related are those of a queryset."""

    def body(document: Annotated[Document, Load(only=("id",), prefetch_related=("chapters",))]):
        got.extend([document.get_deferred_fields(), document._prefetched_objects_cache])

    document = make_document()
    run(make_task(body), document)
    assert got[0] == {"title"}
    assert "chapters" in got[1]


def test_the_default_manager_decides_what_is_there(run, taking, got):
    """What the default manager hides is gone; another manager can be named."""
    ticket = Ticket.everything.create(code="a", hidden=True)
    hidden = run(taking(Ticket), ticket)
    assert (hidden.state, got) == ("dead", [])
    run(taking(Annotated[Ticket, Load(manager="everything")]), ticket)
    assert got == [ticket]


def test_rows_are_locked_as_asked(run, make_task, got, item):
    """for_update reads with a lock, inside the transaction of the body."""

    def body(thing: Annotated[Item, Load(for_update=True)]):
        got.append(connection.in_atomic_block)
        thing.name = "counted"
        thing.save()

    task = make_task(body, atomic=True)
    result = task.delay(item)
    with CaptureQueriesContext(connection) as captured:
        deliver(task, result.id)
    assert got == [True]
    if connection.features.has_select_for_update:
        assert any("FOR UPDATE" in query["sql"] for query in captured.captured_queries)
    item.refresh_from_db()
    assert item.name == "counted"


def test_a_nullable_join_does_not_prevent_the_lock(run, make_task, got):
    """A lock with joined relations locks the row itself and works on every database."""

    def body(chapter: Annotated[Chapter, Load(for_update=True, select_related=("document",))]):
        got.append(chapter.document.title)

    chapter = Chapter.objects.create(document=make_document(), number=1)
    assert run(make_task(body, atomic=True), chapter).state == "succeeded"
    assert got == ["a"]


def test_an_atomic_body_reads_in_its_own_transaction(run, make_task, item):
    """The rows of an atomic task are read between BEGIN and COMMIT of its body."""

    def body(thing: Item):
        pass

    task = make_task(body, atomic=True)
    result = task.delay(item)
    with CaptureQueriesContext(connection) as captured:
        deliver(task, result.id)
    assert verbs(captured)[:5] == ["UPDATE", "BEGIN", "SELECT", "UPDATE", "COMMIT"]


# -- other databases ------------------------------------------------------------------------------


@two_databases
def test_rows_of_another_database_are_read_there(unsent, taking, got):
    """using= names the database that the rows are on."""
    Item.objects.create(name="decoy")
    row = Item.objects.using("other").create(name="there")
    task = taking(Annotated[Item, Load(using="other")])
    for value in (row, row.pk):
        deliver(task, task.delay(value).id)
    assert [(each.name, each._state.db) for each in got] == [("there", "other")] * 2


@two_databases
def test_routers_say_where_a_model_is(settings, unsent, taking, got):
    """Without using= rows are read from where routers write the model, also those of a replica."""
    settings.DATABASE_ROUTERS = ["tests.routers.ItemsElsewhere"]
    row = Item.objects.using("other").create(name="there")
    task = taking(Item)
    deliver(task, task.delay(row).id)
    assert [each.name for each in got] == ["there"]


@two_databases
def test_an_instance_of_a_database_where_nobody_would_look_is_refused(refusal, taking):
    """A key of one database is not looked up in another one, where it is another row's."""
    row = Item.objects.using("other").create(name="there")
    text = refusal(taking(Item), row)
    assert "argument 'thing' is a Item instance from the database 'other'" in text
    assert "Annotated[Item, Load(using='other')]" in text


# -- other ways to call ---------------------------------------------------------------------------


def test_a_direct_call_gets_what_it_is_given(taking, got, item):
    """A task that is called as a function gets the very instance."""
    taking(Item)(item)
    assert got[0] is item


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("always", [True, False])
def test_an_eager_call_gets_a_fresh_instance(monkeypatch, taking, got, item, always, atomic):
    """Eager calls load the row as a worker does, so a test sees what production would."""
    from tests.celery_app import app

    monkeypatch.setitem(app.conf.changes, "task_always_eager", always)
    task = taking(Item, atomic=atomic)
    stale = Item.objects.get()
    Item.objects.update(name="after")
    with transaction.atomic():
        (task.delay if always else lambda row: task.apply((row,)))(stale)
    assert got[0] is not stale
    assert got[0].name == "after"
    assert Entry.objects.get().args == [item.pk]


def test_many_calls_take_instances(run, taking, got, django_assert_num_queries):
    """enqueue_many() takes instances and keys, as tuples and dicts, in one statement."""
    rows = Item.objects.bulk_create(Item(name=str(n)) for n in range(3))
    task = taking(Item)
    with django_assert_num_queries(3):  # BEGIN, INSERT, COMMIT
        found = task.enqueue_many([(rows[0],), (rows[1].pk,), {"thing": rows[2]}])
    for entry_id in found.ids:
        deliver(task, entry_id)
    assert got == rows


def test_a_retry_may_have_other_rows(run, make_task, got):
    """self.retry(args=…) takes instances; the next attempt loads them, and the subject follows."""

    def body(self, thing: Item):
        got.append(thing.name)
        if thing.name == "first":
            raise self.retry(args=(second,), countdown=0)

    first, second = (Item.objects.create(name=name) for name in ("first", "second"))
    task = make_task(body, bind=True)
    entry = run(task, first)
    assert (entry.state, entry.args, entry.subject_id) == (
        "retrying",
        [second.pk],
        str(second.pk),
    )
    deliver(task, entry.pk)
    assert got == ["first", "second"]
    assert Attempt.objects.get().outcome == "retry"


def test_every_attempt_loads_anew(run, make_task, got, item):
    """A retried attempt sees the row as it is by then."""

    def body(self, thing: Item):
        got.append(thing.name)
        if self.attempt == 1:
            Item.objects.update(name="later")
            raise self.retry(countdown=0)

    task = make_task(body, bind=True)
    deliver(task, run(task, item).pk)
    assert got == ["before", "later"]


def test_what_is_not_used_costs_no_query(run, make_task):
    """A task without model parameters runs the same statements as ever."""

    def body(number: int, text: str = ""):
        pass

    task = make_task(body)
    with CaptureQueriesContext(connection) as captured:
        result = task.delay(1)
        deliver(task, result.id)
    ours = [each for each in verbs(captured, "reliable_tasks_entry") if each not in TRANSACTION]
    assert ours == ["INSERT", "UPDATE", "UPDATE"]
    assert not reads(captured)


def test_a_call_with_a_model_is_one_statement(run, taking, item):
    """Enqueueing with an instance costs the INSERT and nothing else."""
    task = taking(Item)
    task.delay(item)
    with CaptureQueriesContext(connection) as captured:
        task.delay(item)
    assert verbs(captured) == ["INSERT"]


def test_a_key_of_an_unknown_row_is_taken(run, taking, got):
    """A key is not looked up at the call, because that would be a query."""
    assert run(taking(Document), uuid4()).state == "dead"
    assert not got


@pytest.mark.parametrize("way", ["all", "keys"])
def test_an_instance_and_its_key_are_one_dedup_key(taking, db, unsent, item, way):
    """An object and its primary key, passed in any way, are the same call; another is not."""
    task = taking(
        Item, once={"conflict": "return", **({"keys": ["thing"]} if way == "keys" else {})}
    )
    first = task.delay(item)
    assert {task.delay(item.pk).id, task.delay(thing=item).id, task.delay(str(item.pk)).id} == {
        first.id
    }
    assert task.delay(Item.objects.create(name="another")).id != first.id


def test_instances_in_a_list_and_their_keys_are_one_dedup_key(taking, db, unsent, item):
    """The same holds for a list, in which the order counts."""
    other = Item.objects.create(name="other")
    task = taking(list[Item], once={"conflict": "return"})
    first = task.delay([item, other])
    assert task.delay([item.pk, other]).id == first.id
    assert task.delay([other, item]).id != first.id


def test_a_uuid_key_and_its_instance_are_one_dedup_key(taking, db, unsent):
    """The same holds for a primary key that is no number, also as text."""
    ticket = Ticket.objects.create()
    task = taking(Ticket, once={"conflict": "return"})
    ids = {task.delay(each).id for each in (ticket, ticket.pk, str(ticket.pk))}
    assert len(ids) == 1


def made_of_text():
    """Return instances as who saved them has them, and as the database does."""
    key = uuid4()
    yield Document.objects.create(id=key.hex.upper()), key
    yield Item.objects.create(pk="77", name="text"), 77
    yield Ticket.objects.create(code=78), "78"
    yield Shelf.objects.create(room=1, number="2"), ("1", 2)


def test_an_instance_that_was_saved_with_a_text_for_its_key_is_the_same_row(taking, db, unsent):
    """Django leaves it the key that it was given until it is read; the entry has the real one."""
    for instance, key in made_of_text():
        task = taking(type(instance), once={"conflict": "return"})
        first = task.delay(instance)
        assert task.delay(key).id == first.id
        assert task.delay(type(instance).objects.get(pk=key)).id == first.id
        entry = Entry.objects.get(pk=first.id)
        assert list(Entry.objects.for_object(instance)) == [entry]
        assert list(Entry.objects.for_object(type(instance).objects.get(pk=key))) == [entry]
