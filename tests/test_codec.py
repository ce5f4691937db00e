"""Arguments: what comes back is what was given, and what cannot come back is refused."""

from __future__ import annotations

import enum
import json
import math
import zoneinfo
from collections import OrderedDict, UserString
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reliable_tasks import codec
from reliable_tasks.errors import ArgumentError, CorruptEntry, ReliableTasksError
from tests import entries
from tests.app.models import Item


class Mood(enum.Enum):
    """Values that JSON could not keep; they are kept by name."""

    GOOD = object()
    BAD = (1, 2)
    WORSE = BAD


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Outer:
    class Inner(enum.Enum):
        ONE = 1


# Neither NUL nor half of a surrogate pair: those are refused, see below.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
OFFSETS = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.uuids(),
    st.decimals(),
    st.datetimes(),
    st.datetimes(timezones=OFFSETS),
    st.dates(),
    st.times(),
    st.times(timezones=OFFSETS),
    st.timedeltas(),
    st.sampled_from(Mood),
    st.sampled_from([Rights(n) for n in range(4)]),
    st.just(Outer.Inner.ONE),
)
# "__type__" is reserved and refused, see below.
NAMES = TEXT.filter(lambda name: name != "__type__")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def tell(value):
    """Return a form that compares types as well as values, NaN and signs of zero included."""
    if isinstance(value, list):
        return [tell(item) for item in value]
    if isinstance(value, dict):
        return {key: tell(item) for key, item in value.items()}
    if isinstance(value, datetime | time):
        value = value.replace(fold=0)  # which ISO 8601 cannot tell; the offset of an aware time can
    return type(value), repr(value)


@given(args=st.lists(VALUES, max_size=4), kwargs=st.dictionaries(NAMES, VALUES, max_size=4))
def test_arguments_come_back_as_they_were(args, kwargs):
    """Any mixture of JSON values, UUIDs, Decimals and times comes back with its types."""
    found = codec.decode(*codec.encode(args, kwargs))
    assert tell(list(found)) == tell([args, kwargs])


@settings(max_examples=200)
@example(args=[1e23, -0.0, 1e300, 5e-324, 1e16, 0.1], kwargs={})
@example(args=["\\u0000", "\u2028", "\U0001f600", "é", "\x7f", "\ud7ff"], kwargs={"": ""})
@example(args=[timedelta.min, timedelta.max, timedelta(microseconds=-1)], kwargs={})
@example(args=[datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)], kwargs={})
@example(args=[date.min, date.max, time.max, Decimal("-0.0")], kwargs={})
@example(args=[{"value": 1, "type": {"a": []}}, [[[]]]], kwargs={"args": [], "kwargs": {}})
@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(NAMES, VALUES, max_size=3))
def test_arguments_survive_the_ledger(db, args, kwargs):
    """What a claim hands out is what was enqueued, on every database."""
    args_text, kwargs_text = codec.encode(args, kwargs)
    held = entries.running(args=args_text, kwargs=kwargs_text)
    assert tell(list(codec.decode(held.args, held.kwargs))) == tell([args, kwargs])


@given(args=st.lists(VALUES, max_size=3))
def test_the_ledger_holds_plain_json(args):
    """What is kept can be read by any JSON parser and by the model's own field."""
    text, _ = codec.encode(args, {})
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert tell(codec.decode(parsed, {})[0]) == tell(codec.decode(text, {})[0])


def test_no_arguments_are_an_empty_list_and_an_empty_object():
    """A call without arguments keeps the two shortest texts."""
    assert codec.encode((), {}) == ("[]", "{}")


class Point(NamedTuple):
    x: int
    y: int


def test_a_tuple_comes_back_as_a_list():
    """Tuples become lists, as on any JSON wire, at every depth."""
    found, _ = codec.decode(*codec.encode([(1, (2, 3)), Point(4, 5)], {}))
    assert found == [[1, [2, 3]], [4, 5]]


def test_an_aware_time_keeps_its_instant_and_offset():
    """A datetime of a named zone comes back as the same instant with the same offset."""
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    before, after = (datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=zone) for fold in (0, 1))
    (first, second), _ = codec.decode(*codec.encode([before, after], {}))
    assert first.timestamp() == before.timestamp()
    assert second.timestamp() == after.timestamp() == first.timestamp() + 3600
    assert (first.utcoffset(), second.utcoffset()) == (timedelta(hours=2), timedelta(hours=1))


class Colour(enum.StrEnum):
    RED = "red"


class OldColour(str, enum.Enum):  # noqa: UP042 - projects have such
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class FrozenTime(datetime):
    """What a library that freezes the clock puts in the place of datetime."""


class Half(float):
    pass


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        (Colour.RED, "red"),
        (OldColour.RED, "red"),
        (Size.BIG, 3),
        (Half(0.5), 0.5),
        (Half(1e300), 1e300),
        (FrozenTime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (OrderedDict(a=1), {"a": 1}),
        (type("Key", (UUID,), {})(int=7), UUID(int=7)),
        (type("Money", (Decimal,), {})("1.10"), Decimal("1.10")),
        (type("Key", (UUID,), {"__str__": lambda self: "k"})(int=7), UUID(int=7)),
        (type("Money", (Decimal,), {"__str__": lambda self: "1 EUR"})("1.10"), Decimal("1.10")),
    ],
)
def test_a_subclass_is_kept_as_what_it_extends(given_value, kept):
    """An enum of text, a frozen clock's datetime and such are kept as their plain value."""
    (found,), _ = codec.decode(*codec.encode([given_value], {}))
    assert tell(found) == tell(kept)


def itself():
    value = []
    value.append([value])
    return value


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (enum.Enum("Local", "A", qualname="here.<locals>.Local").A, "no other process can import"),
        (codec.Secret(b"x"), "is a bytes that the ledger cannot keep; it is sensitive"),
        (b"raw", r"argument 1 is bytes\. Pass text \(base64\)"),
        (bytearray(), "is bytearray. Pass text"),
        ({3, 1}, r"is a set, which has no order\. Pass sorted"),
        (frozenset(), "is a frozenset"),
        (
            time(12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            "is a time in Europe/Berlin, whose offset depends on the day",
        ),
        (object(), "is a object, which the ledger cannot keep. Pass an id"),
        (1j, "is a complex, which the ledger cannot keep"),
        (UserString("x"), "is a UserString, which the ledger cannot keep"),
        (len, "a callable. Pass its name"),
        (gettext_lazy("Save"), r"lazy translation.*Pass str\(value\)"),
        (math.nan, "is nan, which JSON cannot hold"),
        (math.inf, "is inf, which JSON cannot hold"),
        (Half("-inf"), "is -inf, which JSON cannot hold"),
        ({1: "x"}, "has the key 1 of type int"),
        ({None: "x"}, "has the key None of type NoneType"),
        ({"__type__": "uuid"}, "has the key '__type__', which is reserved"),
        ("nul \x00", "NUL character"),
        ({"\x00": 1}, "NUL character"),
        ("\\\x00", "NUL character"),
        ("half \ud800", "half of a surrogate pair"),
        (itself(), "contains itself"),
        (deep(), "nested too deeply"),
        (Item(name="unsaved"), "is an unsaved Item instance. Save it first"),
        (Item(pk=7), r"is a Item instance.*pass its primary key \(7\)"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_what_cannot_be_kept_is_refused_with_the_remedy(value, message):
    """A value that would not come back is refused as a TypeError that says what to pass instead."""
    with pytest.raises(ArgumentError, match=message) as caught:
        codec.encode([value], {})
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ReliableTasksError)


def test_a_queryset_is_refused_without_being_read(db, django_assert_num_queries):
    """A queryset is refused with the expression that gives its ids, and is not evaluated."""
    with (
        django_assert_num_queries(0),
        pytest.raises(ArgumentError, match=r"list\(QuerySet.values_list\('pk', flat=True\)\)"),
    ):
        codec.encode([Item.objects.all()], {})


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ([1, set()], {}, "argument 2 is"),
        ([[0, {"a": [b""]}]], {}, r"argument 1\[1\]\['a'\]\[0\] is"),
        ([], {"when": {"from": object()}}, r"argument 'when'\['from'\] is"),
    ],
)
def test_the_message_names_the_place(args, kwargs, place):
    """The refusal says which argument, and where inside it."""
    with pytest.raises(ArgumentError, match=place):
        codec.encode(args, kwargs)


def test_a_reserved_name_of_an_argument_is_refused():
    """A keyword argument that the worker would misread is refused at the call."""
    with pytest.raises(ArgumentError, match="'__type__' is reserved"):
        codec.encode([], {"__type__": "uuid", "value": str(uuid4())})


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ("{", "{}"),
        ("", "{}"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("null", "{}"),
        ('[{"__type__":"uuid","value":"no uuid"}]', "{}"),
        ('[{"__type__":"uuid"}]', "{}"),
        ('[{"__type__":"pickle","value":""}]', "{}"),
        ('[{"__type__":["uuid"],"value":""}]', "{}"),
        ('[{"__type__":"decimal","value":"1,5"}]', "{}"),
        ('[{"__type__":"datetime","value":7}]', "{}"),
        ("[]", '{"a":{"__type__":"date","value":"2026-13-01"}}'),
        ('[{"__type__":"timedelta","value":"soon"}]', "{}"),
        ('[{"__type__":"enum","value":["tests.test_codec:Mood","GONE"]}]', "{}"),
        ('[{"__type__":"enum","value":["tests.test_codec:Moved","GOOD"]}]', "{}"),
        ('[{"__type__":"enum","value":["tests.nowhere:Mood","GOOD"]}]', "{}"),
        ('[{"__type__":"enum","value":["os:getcwd","GOOD"]}]', "{}"),
        ('[{"__type__":"enum","value":["tests.test_codec:Point","x"]}]', "{}"),
        ('[{"__type__":"enum","value":"Mood"}]', "{}"),
        ('[{"__type__":"secret"}]', "{}"),
    ],
)
def test_what_cannot_be_read_back_is_called_corrupt(args, kwargs):
    """A row that somebody edited into nonsense is reported as corrupt, never half read."""
    with pytest.raises(CorruptEntry, match="cannot be read"):
        codec.decode(args, kwargs)


@given(value=VALUES)
def test_a_secret_comes_back_and_is_never_shown(value):
    """Whatever is sensitive arrives as it was, and has a mask in its place where it is shown."""
    text, _ = codec.encode([1, codec.Secret(value)], {})
    assert tell(codec.decode(text, "{}")[0]) == tell([1, value])
    assert codec.shown(json.loads(text)) == [1, "***"]
    assert repr(codec.Secret(value)) == "***"


def test_a_member_keeps_its_class(db):
    """A member of an Enum arrives as itself, through the ledger, wherever it is nested."""
    given_value = [Mood.GOOD, {"a": [Rights.READ | Rights.WRITE, Outer.Inner.ONE, Mood.WORSE]}]
    args, kwargs = codec.encode(given_value, {})
    held = entries.running(args=args, kwargs=kwargs)
    (first, second), _ = codec.decode(held.args, held.kwargs)
    assert first is Mood.GOOD
    assert second == {"a": [Rights(3), Outer.Inner.ONE, Mood.BAD]}
