"""The options of a call: refusals, what an entry keeps, and reading it back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from celery import chain, signature
from celery.app.task import Context, extract_exec_options
from hypothesis import given
from hypothesis import strategies as st
from kombu import Queue

from reliable_tasks import options
from reliable_tasks.errors import CorruptEntry, OptionError
from tests.app.tasks import add
from tests.entries import T0, later

TASK = "app.tasks.charge"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# ------------------------------------------------------------------------------------- refusals
@given(st.text())
def test_only_known_options_are_taken(name):
    """Whatever is not an option is refused by name, whatever the name."""
    if name in options._KNOWN:
        options.check(TASK, {name: None})
    else:
        with pytest.raises(OptionError, match="there is no option"):
            options.check(TASK, {name: None})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("contdown", "countdown"),
        ("expire", "expires"),
        ("soft_timelimit", "soft_time_limit"),
        ("que", "queue"),
    ],
)
def test_a_misspelt_option_suggests_the_nearest(written, meant):
    """A misspelt option is refused with the task and the name that was probably meant."""
    with pytest.raises(OptionError, match=rf"{TASK}: .*'{written}'\. Did you mean '{meant}'\?"):
        options.check(TASK, {written: 1})


def test_what_celery_passes_is_known():
    """Every option that Celery's own canvas, retry and task classes pass along is taken."""
    passed = {*Context(id="x").as_execution_options(), *extract_exec_options(add)} - {"task_id"}
    options.check(TASK, dict.fromkeys(passed))


def test_a_stamp_is_an_option():
    """A header that canvas stamps onto a call is an option of that call."""
    options.check(TASK, {"stamped_headers": ["tenant"], "tenant": "acme"})
    with pytest.raises(OptionError, match="tenant"):
        options.check(TASK, {"stamped_headers": [], "tenant": "acme"})


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"countdown": -1}, "countdown must be a number of seconds, zero or more, not -1"),
        ({"countdown": "5"}, "countdown must be a number"),
        ({"countdown": True}, "countdown must be a number"),
        ({"countdown": timedelta(1)}, "countdown must be a number"),
        ({"countdown": math.nan}, "countdown must be a number"),
        ({"countdown": math.inf}, "countdown must be a number"),
        ({"countdown": 10**10}, "countdown=10000000000 is more than a hundred years ahead"),
        ({"eta": 5}, "eta must be a datetime, not int"),
        ({"eta": T0.date()}, "eta must be a datetime, not date"),
        ({"expires": 0}, "expires=0 has passed already"),
        ({"expires": -3.5}, "expires=-3.5 has passed already"),
        ({"expires": True}, "expires must be seconds or a datetime, not bool"),
        ({"expires": math.nan}, "expires must be seconds"),
        ({"expires": 1e12}, "expires=1000000000000.0 is more than a hundred years ahead"),
        ({"expires": [1]}, "expires must be seconds or a datetime, not list"),
        ({"time_limit": 0}, "time_limit must be seconds greater than zero, not 0"),
        ({"time_limit": "1m"}, "time_limit must be seconds"),
        ({"soft_time_limit": -1}, "soft_time_limit must be seconds greater than zero"),
        ({"soft_time_limit": math.inf}, "soft_time_limit must be seconds"),
        ({"time_limit": 5, "soft_time_limit": 6}, r"soft_time_limit \(6\) is longer than time_lim"),
        ({"priority": -1}, "priority must be a whole number from 0 to 255, not -1"),
        ({"priority": 256}, "priority must be a whole number"),
        ({"priority": 1.5}, "priority must be a whole number"),
        ({"priority": False}, "priority must be a whole number"),
        ({"queue": ""}, "queue must be a name, not ''"),
        ({"queue": 3}, "queue must be a name, not 3"),
    ],
)
def test_an_impossible_value_is_refused(given_options, message):
    """A value that could never be meant is refused as a ValueError that names task and option."""
    with pytest.raises(OptionError, match=message) as caught:
        options.check(TASK, given_options)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(f"{TASK}: ")


@pytest.mark.parametrize(
    "given_options",
    [
        {"countdown": 0},
        {"countdown": 0.25, "expires": 60},
        {"eta": T0, "expires": later(1)},
        {"eta": "2031-05-06T07:08:09+00:00", "expires": "2031-05-06T07:08:10Z"},
        {"time_limit": 5, "soft_time_limit": 5},
        {"time_limit": 0.5},
        {"priority": 0},
        {"priority": 255},
        {"queue": "slow"},
        {"queue": Queue("slow")},
    ],
)
def test_a_possible_value_is_taken(given_options):
    """Values at the edges of what has a meaning are taken."""
    options.check(TASK, given_options)


# ---------------------------------------------------------------------------------------- times
@pytest.mark.parametrize("value", [T0, T0.isoformat(), "2031-05-06T07:08:09.123Z"])
def test_a_time_may_be_a_datetime_or_its_text(value):
    """An eta is the same instant as a datetime and as ISO 8601 text."""
    assert options.moment_of(TASK, "eta", value, UTC, T0) == T0


def test_a_naive_time_is_in_utc():
    """A time without a zone means UTC, as it does to Celery's own worker, whatever its zone."""
    tokyo = ZoneInfo("Asia/Tokyo")
    assert options.moment_of(TASK, "eta", T0.replace(tzinfo=None), tokyo, T0) == T0


def test_text_that_is_no_time_is_refused():
    """Text that is no ISO 8601 time is refused with the option's name."""
    with pytest.raises(OptionError, match="eta='tomorrow' is not an ISO 8601 time"):
        options.moment_of(TASK, "eta", "tomorrow", UTC, T0)


@given(seconds=st.floats(-1e6, 1e6))
def test_an_expiry_must_lie_ahead(seconds):
    """An expiry in the past is refused; an eta in the past means now."""
    moment = later(seconds)
    assert options.moment_of(TASK, "eta", moment, UTC, T0) == moment
    if moment > T0:
        assert options.moment_of(TASK, "expires", moment, UTC, T0) == moment
    else:
        with pytest.raises(OptionError, match="has passed already"):
            options.moment_of(TASK, "expires", moment, UTC, T0)


# ----------------------------------------------------------------------------------- what is kept
@given(st.dictionaries(st.sampled_from(sorted(options._KNOWN)), st.just("x")))
def test_times_and_routing_are_not_kept_twice(given_options):
    """What has a column of its own is not kept among the options, and nothing else is lost."""
    found = options.kept({**given_options, "stamped_headers": None})
    own_columns = {"countdown", "eta", "expires", "queue", "priority", "root_id", "parent_id"}
    assert not own_columns & set(found)
    assert {name for name in given_options if name in options._KEPT} - {"stamped_headers"} <= set(
        found
    )


def test_time_limits_are_kept_as_celery_sends_them():
    """Time limits of a call are kept as the pair that Celery's worker reads from a message."""
    assert options.kept({"time_limit": 9}) == {"timelimit": [9, None]}
    assert options.kept({"time_limit": 9, "soft_time_limit": 5}) == {"timelimit": [9, 5]}


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_an_empty_option_is_not_kept(nothing):
    """An option without content leaves no trace."""
    assert options.kept({"headers": nothing, "link": nothing}) == {}


def test_false_is_kept():
    """An option that is switched off is kept, since its absence would mean the task's default."""
    assert options.kept({"ignore_result": False}) == {"ignore_result": False}


def test_stamps_are_kept_with_their_values():
    """Stamps are kept by name and value."""
    found = options.kept({"stamped_headers": ["tenant", "gone"], "tenant": "acme"})
    assert found == {"stamped_headers": ["tenant", "gone"], "stamps": {"tenant": "acme"}}


@pytest.mark.parametrize(
    "headers",
    [{"x": "\x00"}, {"x\x00": 1}, {"x": ["\ud800"]}, {"x": "\udfff"}],
    ids=["NUL", "NUL in a name", "first half", "second half"],
)
def test_what_some_database_cannot_store_is_refused(headers):
    """A NUL or half a surrogate pair in a header is an error of the call, on every database."""
    with pytest.raises(OptionError, match="cannot store"):
        options.dumps({"headers": headers})


def test_what_only_looks_like_it_is_kept():
    """An escaped backslash before u0000, and a whole pair, are ordinary text."""
    kept = {"headers": {"path": "C:\\u0000", "face": "\U0001f600"}}
    assert options.loads(options.dumps(kept)) == kept


# ------------------------------------------------------------------------------- there and back
def test_no_options_are_nothing():
    """A call without options to keep has NULL in its row, and NULL reads as no options."""
    assert options.dumps({}) is None
    assert options.loads(None) == {}


@given(
    st.dictionaries(st.text(), JSON, min_size=1, max_size=4).filter(
        lambda headers: not options.unstorable(json.dumps(headers))
    )
)
def test_headers_come_back(headers):
    """Headers come back as they were, from text and from what a driver has parsed."""
    text = options.dumps({"headers": headers})
    assert options.loads(text) == {"headers": headers}
    assert options.loads({"headers": headers}) == {"headers": headers}


def test_times_and_ids_in_headers_come_back():
    """What Celery's own messages can carry in headers comes back with its type."""
    headers = {"id": uuid4(), "at": T0}
    assert options.loads(options.dumps({"headers": headers})) == {"headers": headers}


def test_signatures_come_back_as_signatures():
    """A callback and a chain come back as something Celery can call."""
    kept = {"link": [add.s(1).set(queue="slow")], "chain": [chain(add.s(2), add.s(3))]}
    found = options.loads(options.dumps(kept))
    link, step = signature(found["link"][0]), signature(found["chain"][0])
    assert (link.task, list(link.args), link.options) == (add.name, [1], {"queue": "slow"})
    assert [list(task.args) for task in step.tasks] == [[2], [3]]


@pytest.mark.parametrize("value", [object(), {1, 2}, math.nan, add])
def test_a_header_that_cannot_be_kept_is_refused(value):
    """A header that JSON cannot hold is refused when the call is made."""
    with pytest.raises(OptionError, match="cannot be kept"):
        options.dumps({"headers": {"x": value}})


@pytest.mark.parametrize("text", ["{", "[1]", '"text"', "7", b"\xff", [1], "true"])
def test_corrupt_options_are_called_corrupt(text):
    """Options that are no JSON object are reported as corrupt."""
    with pytest.raises(CorruptEntry):
        options.loads(text)


def test_a_json_null_reads_as_no_options():
    """A row whose options hold JSON's null has no options."""
    assert options.loads("null") == {}


# ------------------------------------------------------------------------------------------- ids
@given(st.uuids())
def test_a_uuid_is_itself(value):
    """A task id that is a UUID, or its text, is the entry's id."""
    assert options.entry_id(value) == options.entry_id(str(value)) == value
    assert options.as_uuid(str(value)) == value


@given(st.text().filter(lambda text: options.as_uuid(text) is None))
def test_a_foreign_id_maps_to_the_same_entry_always(text):
    """A task id that is no UUID maps to one and the same UUID, each time."""
    assert options.entry_id(text) == options.entry_id(text)
    assert isinstance(options.entry_id(text), UUID)
    assert options.entry_id(text) != options.entry_id(text + "x")


def test_the_mapping_of_foreign_ids_never_changes():
    """Foreign ids map as they did in earlier releases: messages may be waiting in a broker."""
    assert options.entry_id("order-7") == UUID("d4283d05-0976-557c-b706-74b184d062bd")


@pytest.mark.parametrize("value", [None, 7, b"x", [], datetime.now(UTC)])
def test_what_is_no_uuid_is_none(value):
    """Whatever is no UUID reads as none and raises nothing."""
    assert options.as_uuid(value) is None
