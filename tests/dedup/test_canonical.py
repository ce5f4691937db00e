"""Canonical keys: equal calls meet, different ones never do."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import ReliableTask, codec, dedup, keying
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import NewEntry

app = Celery("canonical", set_as_current=False)


@app.task(base=ReliableTask)
def task(a, b=2, *rest, c=None, **more):
    """Take one of each kind."""


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "1", "true", "null", "a_b-1", "é", "None"])
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
    | st.timedeltas()
)
names = st.sampled_from(["x", "y", "z", "k-1", "k_1"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@app.task(base=ReliableTask)
def twin(a, b=2, *rest, c=None, **more):
    """Take the same."""


@app.task(base=ReliableTask)
def namesakes(a, /, *rest, **more):
    """Take extra names that are parameters' own."""


def hold(args=(), kwargs=None, *, task=task, **once):
    args_text, kwargs_text = codec.encode(args, kwargs or {})
    entry = NewEntry(
        id=new_id(), task=task.name, queue="q", crash_budget=3, args=args_text, kwargs=kwargs_text
    )
    policy = dedup.parse(task.name, once or True)
    return keying.with_key(task, entry, policy, args, kwargs or {}).hold


def typed(value):
    """Return a value with its types, so that == tells what a body could tell."""
    if isinstance(value, dict):
        return ("dict", frozenset((k, typed(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return ("list", tuple(typed(v) for v in value))
    if isinstance(value, float):
        return ("float", repr(value))
    return (type(value).__name__, value)


@given(values, values)
def test_two_calls_have_one_key_if_they_are_equal_and_only_then(one, other):
    """The digests of two calls are equal exactly when their arguments are, types included."""
    assert (hold((one,)).digest == hold((other,)).digest) == (typed(one) == typed(other))
    assert (hold((one,)).arguments == hold((other,)).arguments) == (typed(one) == typed(other))


@given(values, values, values)
def test_how_a_call_is_written_makes_no_difference(a, b, c):
    """By position, by name or by default: what falls on the same parameters is the same key."""
    assert hold((a, b), {"c": c}).digest == hold((), {"c": c, "b": b, "a": a}).digest
    assert hold((a,)).digest == hold((a, 2)).digest == hold((a,), {"c": None, "b": 2}).digest


@given(values, values)
def test_arguments_do_not_run_into_each_other(a, b):
    """The border between two arguments cannot be moved by what they contain."""
    split = hold((a, b)).digest
    assert split != hold(([a, b],)).digest
    assert split != hold((a, b), {"d": None}).digest
    assert (split == hold((b, a)).digest) == (typed(a) == typed(b))


@given(values, values, st.sampled_from(["a", "rest", "more"]))
def test_an_extra_name_may_be_a_parameters_own(one, other, name):
    """What falls on **kwargs under a parameter's name counts beside that parameter."""
    here = hold((one,), {name: other}, task=namesakes).digest
    assert here != hold((one,), task=namesakes).digest
    assert here != hold((one,), {"x": other}, task=namesakes).digest
    assert here != hold((one,), {"more": {name: other}}, task=namesakes).digest
    swapped = hold((other,), {name: one}, task=namesakes).digest
    assert (here == swapped) == (typed(one) == typed(other))


def test_keys_may_name_all_extra_names():
    """`keys` with the name of **more stand for all that falls on it, parameters' own names too."""
    names = [{}, {"x": 1}, {"x": 2}, {"a": 1}, {"more": 1}, {"x": 1, "a": 1}, {"rest": None}]
    digests = [hold((1,), each, task=namesakes, keys=["more"]).digest for each in names]
    assert len(set(digests)) == len(names)
    assert [hold((2,), each, task=namesakes, keys=["more"]).digest for each in names] == digests


@given(st.dictionaries(names, scalars, max_size=4))
def test_the_order_of_a_dict_makes_no_difference(mapping):
    """Dicts that are equal are one key, in whatever order they were filled."""
    backwards = dict(reversed(mapping.items()))
    assert hold((mapping,)).digest == hold((backwards,)).digest
    assert hold((), {"a": 1, **mapping}).digest == hold((), {**backwards, "a": 1}).digest


@given(values)
def test_what_is_kept_reads_back(value):
    """A key that went through an entry's options is the same key."""
    made = hold((value,), window="forever", after_death="hold")
    options = {"once": json.loads(json.dumps(made.kept()))}
    assert dedup.Hold.of(options, made.text) == made


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.0"), Decimal("1.00")),
        (Decimal("1.5E+1000000"), Decimal("15.0E+999999")),
        (Decimal("0.00"), Decimal("-0")),
        (
            datetime(2031, 1, 1, 12, tzinfo=UTC),
            datetime(2031, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
        (
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
            datetime.max.replace(hour=22, tzinfo=timezone(timedelta(hours=-6))),
        ),
        (
            datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
            datetime(1, 1, 1, 2, tzinfo=timezone(timedelta(hours=6))),
        ),
        ((1, 2), [1, 2]),
    ],
)
def test_one_value_has_one_spelling(one, other):
    """Values that are equal and of one type are one key, however they are written."""
    assert hold((one,)).digest == hold((other,)).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (None, "None"),
        (Decimal(1), 1),
        (Decimal(f"1.{'0' * 30}1"), Decimal(f"1.{'0' * 30}2")),
        (Decimal("1E+1000000"), Decimal("1E+1000001")),
        (Decimal("1E-2000000"), Decimal(0)),
        (
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-6))),
        ),
        (date(2031, 1, 1), "2031-01-01"),
        (UUID(int=1), str(UUID(int=1))),
        ("1_b-2", 1),
        ([], {}),
    ],
)
def test_types_count(one, other):
    """Values that look alike and are not of one type are two keys."""
    assert hold((one,)).digest != hold((other,)).digest


@app.task(base=ReliableTask)
def unset(a, b=object(), c=frozenset()):  # noqa: B008 - what cannot be passed
    """Tell by its defaults what was not passed."""


def test_a_default_may_be_what_cannot_be_passed():
    """Calls that leave such a parameter out are equal, and no call that passes it equals them."""
    left_out = hold((1,), task=unset)
    assert left_out == hold((), {"a": 1}, task=unset)
    passed = [hold((1, each), task=unset) for each in (None, "its default", {}, [])]
    assert left_out.digest not in {each.digest for each in passed}
    assert left_out.arguments not in {each.arguments for each in passed}
    assert left_out.digest != hold((2,), task=unset).digest
    assert hold((1,), task=unset, keys=["a"]).digest == hold((1, 2), task=unset, keys=["a"]).digest


def test_keys_of_different_making_never_meet():
    """A given key, a text and arguments cannot be the same key by accident."""
    digests = {
        hold((1,)).digest,
        hold((1,), keys=["a"]).digest,
        hold((1,), key=1).digest,
        hold((1,), key={"a": 1}).digest,
        hold((1,), textual=True).digest,
        hold((1,), keys=[]).digest,
    }
    assert len(digests) == 6


@pytest.mark.parametrize("once", [{}, {"keys": ["a"]}, {"keys": []}, {"key": 1}])
def test_equal_calls_of_two_tasks_never_meet(once):
    """A key belongs to its task, however it is made."""
    assert hold((1,), **once).digest != hold((1,), task=twin, **once).digest


def test_the_readable_form_fits_and_stays_its_own():
    """A long key is cut for people and still ends in something of its own."""
    one, other = ({"a": n, "b": ["x" * 400] * 9, "c": ["y" * 300] * 9} for n in (1, 2))
    more = {f"name{n}": "z" * 50 for n in range(9)}
    texts = {hold((), {**each, **more}).text for each in (one, other)}
    assert len(texts) == 2
    assert {len(text) for text in texts} == {255}
    assert (
        hold(("x",), {"c": 5}).text == 'tests.dedup.test_canonical.task(a="x", b=2, c=5, rest=[])'
    )


@given(what=values)
def test_a_digest_is_a_uuid_that_every_database_takes(what):
    """A digest is marked as a name-based UUID: MariaDB refuses many numbers that have no mark."""
    digest = dedup.digest_of("arguments", "app.tasks.ship", json.loads(codec.encode([what], {})[0]))
    assert (digest.version, digest.variant) == (5, "specified in RFC 4122")
