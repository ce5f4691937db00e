"""The checks name every task whose annotations or options cannot be honoured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

import pytest
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet

from reliable_tasks import ConfigurationError, Load, ReliableTask
from reliable_tasks.checks import arguments
from tests.app.models import Chapter, Dated, Document, Item
from tests.checking import codes, use_app

if TYPE_CHECKING:
    from nowhere import Missing  # noqa: F401

    from tests.app.models import Absent  # noqa: F401


def declared(monkeypatch, annotation, **options):
    """Register a task whose parameter has an annotation, and return it."""
    app = use_app(monkeypatch)

    def body(order):
        """Do nothing."""

    body.__annotations__ = {"order": annotation}
    return app.task(name="shop.ship", shared=False, base=ReliableTask, **options)(body)


@pytest.mark.parametrize(
    "annotation",
    [
        Item | Document,
        Union[Item, Document, None],  # noqa: UP007
        Item | dict,
        Item | list[Item],
        Dated,
        Model,
        QuerySet[Item],
        Item.objects.__class__,
        set[Item],
        dict[str, Item],
        list[Item | None],
        list[list[Item]],
        tuple[Item, Item],
        tuple[Item, str],
        list[Item] | dict[str, Item],
        Annotated[int, Load()],
        Annotated[Item, Load],
        TypeVar("OneOf", Item, Document),
        "Item | Document",
        "dict[str, list[Item]]",
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_an_error(monkeypatch, db, annotation):
    """A model that cannot be told from its annotation is an error, and its calls are refused."""
    task = declared(monkeypatch, annotation)
    (message,) = arguments.check_parameters()
    assert codes([message]) == ["E040"]
    assert "shop.ship: the annotation of 'order' cannot be honoured" in message.msg
    with pytest.raises(ConfigurationError, match="the annotation of 'order' cannot be honoured"):
        task.delay(1)


@pytest.mark.parametrize(
    "annotation",
    [int, "int", Any, None, list[int], dict[str, Any], str | None, type[Item], "Item", list[Item]],
    ids=str,
)
def test_other_annotations_are_quiet(monkeypatch, annotation):
    """Annotations without a model, and those that are honoured, say nothing."""
    declared(monkeypatch, annotation)
    assert arguments.check_parameters() == []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("Nothing", "name 'Nothing' is not defined"),
        ("Missing", "its import fails: No module named 'nowhere'"),
        ("Absent", "its import fails"),
        ("order the", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        (TypeVar("Late", bound="Item"), "bound to a text"),
    ],
)
def test_what_cannot_be_read_is_a_warning(monkeypatch, db, annotation, words):
    """Text that cannot be evaluated is a warning with the reason; calls with a key go through."""
    task = declared(monkeypatch, annotation)
    (message,) = arguments.check_parameters()
    assert codes([message]) == ["W040"]
    assert words in message.msg
    assert task.s(1).args == (1,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sensitive": ("token",)}, "sensitive names 'token', which is no parameter"),
        ({"sensitive": "order"}, "sensitive is a str"),
        ({"on_missing": "ignore"}, "on_missing is 'ignore'"),
        ({"subject": "customer"}, "subject is 'customer', which is no parameter with one model"),
    ],
)
def test_options_that_name_nothing_are_errors(monkeypatch, db, options, words):
    """A misspelt option is an error at start-up and at the call."""
    task = declared(monkeypatch, Item, **options)
    (message,) = arguments.check_parameters()
    assert codes([message]) == ["E041"]
    assert words in message.msg
    with pytest.raises(ConfigurationError, match=words):
        task.delay(1)


def test_a_lock_needs_a_transaction(monkeypatch, db):
    """for_update without atomic=True is an error at start-up and at the call."""
    task = declared(monkeypatch, Annotated[Item, Load(for_update=True)])
    assert codes(arguments.check_parameters()) == ["E042"]
    with pytest.raises(ConfigurationError, match="is to be locked, but the task is not atomic"):
        task.delay(1)
    declared(monkeypatch, Annotated[Item, Load(for_update=True)], atomic=True)
    assert arguments.check_parameters() == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"select_related": ("documents",)}, "Invalid field name(s) given in select_related"),
        ({"only": ("nummer",)}, "cannot be read"),
        ({"only": ("number",), "select_related": ("document",)}, "cannot be both deferred and"),
        ({"manager": "visible"}, "names the manager 'visible'"),
        ({"using": "replica"}, "names the database 'replica'"),
        ({"using": "other", "for_update": True}, "locks rows on 'other'"),
    ],
)
def test_impossible_loads_are_errors(monkeypatch, how, words):
    """Load(…) with names that do not exist, or a lock that nothing holds, is an error."""
    declared(monkeypatch, Annotated[Chapter, Load(**how)], atomic=True)
    (message,) = arguments.check_parameters()
    assert codes([message]) == ["E043"]
    assert words in message.msg


def test_a_load_that_is_possible_is_quiet(monkeypatch):
    """Names that exist say nothing, and no database is asked."""
    how = Load(select_related=("document",), only=("number", "document__title"))
    declared(monkeypatch, Annotated[Chapter, how])
    assert arguments.check_parameters() == []


@pytest.mark.parametrize(
    ("how", "words"),
    [({"only": "name"}, r"takes a tuple: \('name',\)"), ({"on_missing": "x"}, "dead, discard")],
)
def test_a_wrong_load_is_refused_where_it_is_written(how, words):
    """Load(…) itself refuses what can be seen at once."""
    with pytest.raises((TypeError, ValueError), match=words):
        Load(**how)


def test_a_swapped_user_model_is_named(monkeypatch):
    """An annotation with a model that the project has swapped says for which."""
    monkeypatch.setattr(User._meta, "swapped", "accounts.Person")
    declared(monkeypatch, User)
    (message,) = arguments.check_parameters()
    assert "User is swapped for accounts.Person" in message.hint


@pytest.mark.parametrize(
    ("args", "expected"), [((1,), []), (({1},), ["W041"]), (("x",), ["W041"]), ((None,), ["W041"])]
)
def test_schedules_with_refused_arguments_are_named(monkeypatch, args, expected):
    """A schedule in the settings that passes what the task refuses is a warning."""
    task = declared(monkeypatch, Item)
    task.app.conf.beat_schedule = {
        "nightly": {"task": "shop.ship", "schedule": 60, "args": args},
        "other": {"task": "shop.unknown", "schedule": 60, "args": ({1},)},
    }
    found = arguments.check_scheduled_arguments()
    assert codes(found) == expected
    assert all("'nightly'" in message.msg for message in found)


@pytest.mark.parametrize(("args", "expected"), [([1], []), (["x"], ["W041"])])
def test_declared_schedules_with_refused_arguments_are_named(monkeypatch, settings, args, expected):
    """A schedule that this package's settings declare is looked at as well."""
    declared(monkeypatch, Item)
    nightly = {"task": "shop.ship", "schedule": 60, "args": args}
    settings.RELIABLE_TASKS = {"SCHEDULES": {"nightly": nightly}}
    found = arguments.check_scheduled_arguments()
    assert codes(found) == expected
    assert all("SCHEDULES" in message.obj for message in found)
