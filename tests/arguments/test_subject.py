"""What an entry is about: written with it, found by an index, shown in any admin."""

from __future__ import annotations

from typing import Annotated

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from example_project.shop.models import Order
from reliable_tasks import Load, ledger
from reliable_tasks.admin import SubjectAdminMixin
from reliable_tasks.models import Entry
from tests import entries
from tests.app.models import Cafe, Document, Item, ItemProxy, Place, Shelf, Ticket
from tests.enqueue.calls import deliver


def about(entry):
    return entry.subject_type, entry.subject_id


@pytest.fixture
def ship(make_task):
    """Give the test a task about an item, with other models after it."""

    def body(note: str, order: Item, others: list[Document] = (), copy: Item | None = None):
        pass

    return make_task(body)


def test_the_first_model_argument_is_the_subject(run, ship, item):
    """The subject is the first parameter with one model, however it is passed."""
    other = Item.objects.create(name="other")
    label = "testapp.item", str(item.pk)
    assert about(run(ship, "x", item, copy=other)) == label
    assert about(run(ship, note="x", copy=other, order=item.pk)) == label


def test_the_next_one_is_it_where_the_first_is_none(run, make_task, item):
    """A model argument that is None is nothing to be about."""

    def body(one: Item | None, other: Item | None, more: list[Item] = ()):
        pass

    task = make_task(body)
    assert about(run(task, None, item)) == ("testapp.item", str(item.pk))
    assert about(run(task, None, None, [item])) == (None, None)


@pytest.mark.parametrize(
    ("option", "expected"),
    [("document", "testapp.document"), (False, None), (None, "testapp.item")],
)
def test_a_task_may_name_another_subject(run, make_task, item, option, expected):
    """subject= names another parameter, or says that there is none."""

    def body(order: Item, document: Document):
        pass

    document = Document.objects.create(title="x")
    entry = run(make_task(body, subject=option), item, document)
    assert entry.subject_type == expected


def test_a_task_without_models_has_no_subject(run, make_task):
    """Nothing is written where there is nothing to be about, so the index stays small."""
    assert about(run(make_task(), 1)) == (None, None)


def test_a_replacement_has_the_subject_of_its_successor(run, make_task, item):
    """An entry that turns into another task's is about what that one is about."""

    def second(order: Item):
        pass

    def first(self, document: Document):
        raise self.replace(make_second.s(item))

    make_second = make_task(second)
    document = Document.objects.create(title="x")
    assert about(run(make_task(first, bind=True), document)) == ("testapp.item", str(item.pk))


@pytest.mark.parametrize("how", ["many", "one"])
def test_bulk_writes_subjects_in_the_same_statement(unsent, transactional_db, make_task, how):
    """enqueue_many() writes each entry's own subject, and asks nothing before."""

    def body(order: Item | None, document: Document | None = None):
        pass

    task = make_task(body)
    items = Item.objects.bulk_create(Item(name=str(n)) for n in range(1_200))
    document = Document.objects.create(title="x")
    calls = [(each,) for each in items] + [(None,), (None, document)]
    if how == "one":
        calls = calls[:1] + calls[-2:]
    with CaptureQueriesContext(connection) as captured:
        found = task.enqueue_many(calls)
    assert not [query for query in captured.captured_queries if "SELECT" in query["sql"][:7]]
    rows = Entry.objects.in_bulk(found.ids)
    expected = [("testapp.item", str(each.pk)) for (each,) in calls[:-2]]
    expected += [(None, None), ("testapp.document", str(document.pk))]
    assert [about(rows[each]) for each in found.ids] == expected


# -- finding ---------------------------------------------------------------------------------------


@pytest.fixture
def task_of(make_task):
    """Give the test a function that enqueues a call about a row and returns its entry's id."""

    def enqueue(row):
        def body(thing):
            pass

        body.__annotations__ = {"thing": type(row)}
        return make_task(body).delay(row).id

    return enqueue


def ids(found):
    return [str(entry.pk) for entry in found]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Item.objects.create(name="x"),
        lambda: Document.objects.create(title="x"),
        lambda: Shelf.objects.create(room='ea"st', number=7),
        lambda: Ticket.objects.create(code="x" * 300),
        lambda: Cafe.objects.create(name="x"),
        lambda: ItemProxy.objects.create(name="x"),
    ],
    ids=["number", "uuid", "composite", "long text", "child", "proxy"],
)
def test_entries_of_an_object_are_found(unsent, transactional_db, task_of, make):
    """Whatever its key, an object's entries are found, newest first, and nobody else's."""
    row, other = make(), Place.objects.create(name="other")
    wanted = [task_of(row), task_of(row)]
    task_of(other)
    assert ids(Entry.objects.for_object(row)) == wanted[::-1]
    assert ids(Entry.objects.for_objects([row, other]).filter(pk__in=wanted)) == wanted[::-1]
    assert ids(Entry.objects.for_objects(type(row).objects.all())) == wanted[::-1]


def test_a_proxy_and_a_child_share_their_entries(unsent, transactional_db, task_of):
    """Entries about a parent belong to the child, those about a child not to the parent."""
    cafe = Cafe.objects.create(name="x")
    place = Place.objects.get()
    of_place, of_cafe = task_of(place), task_of(cafe)
    assert ids(Entry.objects.for_object(cafe)) == [of_cafe, of_place]
    assert ids(Entry.objects.for_object(place)) == [of_place]
    item = Item.objects.create(name="x")
    of_item = task_of(item)
    assert ids(Entry.objects.for_object(ItemProxy.objects.get())) == [of_item]


def test_nothing_is_found_for_nothing(db):
    """Without objects there are no entries, and no query."""
    with CaptureQueriesContext(connection) as captured:
        assert not list(Entry.objects.for_objects([]))
    assert not captured.captured_queries


# -- in the admin ----------------------------------------------------------------------------------


class DocumentAdmin(SubjectAdminMixin, admin.ModelAdmin):
    list_display = ("title", "entries_by_state")
    list_per_page = 30


@pytest.fixture
def page(transactional_db):
    """Give the test the admin of documents and a request of somebody with permissions."""

    def make(*permissions):
        user = User.objects.create_user(f"u{User.objects.count()}", is_staff=True)
        granted = [*permissions, "view_document", "change_document"]
        user.user_permissions.set(Permission.objects.filter(codename__in=granted))
        request = RequestFactory().get("/")
        request.user = User.objects.get(pk=user.pk)
        return DocumentAdmin(Document, admin.site), request

    return make


@pytest.fixture
def browse(transactional_db, client):
    """Give the test a function that gets an order's page, or the list, as somebody of the staff."""

    def get(path, *permissions):
        user = User.objects.create_user("ann", is_staff=True)
        granted = Permission.objects.filter(codename__in=[*permissions, "view_order"])
        user.user_permissions.set(granted)
        client.force_login(user)
        return client.get(f"/admin/shop/order/{path}").content.decode()

    return get


def test_an_objects_page_shows_its_entries(browse, unsent, task_of):
    """The page of an object lists its newest entries with links, task, state and error."""
    order, other = (Order.objects.create(email=f"{name}@x.com", total=1) for name in "ab")
    mine, others = task_of(order), task_of(other)
    entries.bury(entries.claim(Entry.objects.get(pk=mine).pk, now=None), now=None)
    text = browse(f"{order.pk}/change/", "view_entry")
    assert f"/reliable_tasks/entry/{mine}/change/" in text
    assert "dead" in text
    assert "GatewayDown" in text
    assert others not in text
    assert "@x.com" in text


def test_long_lists_of_entries_end_with_a_link_to_all(page, unsent, task_of):
    """A page shows twenty entries and leads to the rest, filtered by an index."""
    document = Document.objects.create(title="a")
    every = [task_of(document) for _ in range(22)]
    site, _ = page("view_entry")
    html = site.entries_of_object(document)
    assert html.count("<tr><td>") == 20
    assert every[0] not in html
    assert f"?subject_type=testapp.document&amp;subject_id={document.pk}" in html


def test_the_link_to_all_lists_them(admin_client, unsent, task_of):
    """The list of entries takes the link's filter."""
    document = Document.objects.create(title="a")
    mine = task_of(document)
    task_of(Document.objects.create(title="b"))
    query = {"subject_type": "testapp.document", "subject_id": str(document.pk)}
    answer = admin_client.get("/admin/reliable_tasks/entry/", query)
    assert ids(answer.context["cl"].result_list) == [mine]


def test_a_column_costs_one_query(page, unsent, task_of):
    """The states of all rows' entries are counted with one query, however many rows there are."""
    documents = [Document.objects.create(title=str(n)) for n in range(30)]
    for document in documents[:3]:
        task_of(document)
        task_of(document)
    dead = Entry.objects.first()
    entries.bury(entries.claim(dead.pk, now=None), now=None)
    site, request = page("view_entry")
    with CaptureQueriesContext(connection) as captured:
        rows = site.get_changelist_instance(request).result_list
        texts = [site.entries_by_state(row) for row in rows]
    asked = [q for q in captured.captured_queries if "reliable_tasks_entry" in q["sql"]]
    assert len(asked) == 1
    assert sum("2 pending" in text for text in texts) == 2
    assert sum("1 pending · 1 dead" in text for text in texts) == 1
    assert texts.count("-") == 27


def test_who_may_not_view_entries_sees_none(browse, page, unsent, task_of):
    """Without the permission neither the section nor the column is there."""
    order = Order.objects.create(email="a@x.com", total=1)
    mine = task_of(order)
    site, request = page()
    assert "entries_by_state" not in site.get_list_display(request)
    text = browse(f"{order.pk}/change/")
    assert "entries_of_object" not in text
    assert mine not in text
    assert "a@x.com" in text


def test_the_list_of_objects_counts_their_entries(browse, unsent, task_of):
    """The column is shown in the list, with a link to the entries."""
    order = Order.objects.create(email="a@x.com", total=1)
    task_of(order)
    text = browse("", "view_entry")
    assert "1 pending" in text
    assert f"subject_type=shop.order&amp;subject_id={order.pk}" in text


def test_a_new_object_has_no_entries_to_show(page):
    """The page that adds an object has no section for entries."""
    site, request = page("view_entry", "add_document")
    fields = [name for _, options in site.get_fieldsets(request) for name in options["fields"]]
    assert "title" in fields
    assert "entries_of_object" not in fields


def test_a_retry_with_another_argument_keeps_the_subject(run, make_task, item):
    """self.retry(kwargs=…) leaves the positional arguments, and so what the entry is about."""
    made = Document.objects.create(title="x")

    def body(self, order: Item, document: Document | None = None):
        raise self.retry(kwargs={"document": made}, countdown=60)

    entry = run(make_task(body, bind=True), item)
    assert (entry.args, entry.kwargs["document"]["value"]) == ([item.pk], str(made.pk))
    assert about(entry) == ("testapp.item", str(item.pk))


def test_a_body_that_ran_keeps_its_subject(run, make_task, item):
    """What an entry is about stays after it has ended."""

    def body(order: Annotated[Item, Load()]):
        pass

    task = make_task(body)
    result = task.delay(item)
    deliver(task, result.id)
    assert ids(Entry.objects.for_object(item).ended()) == [result.id]
    assert ledger.exists(Entry.objects.get().pk)
