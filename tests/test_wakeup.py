"""What a message says: an id, and no more than Celery's main process needs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import options
from reliable_tasks.wakeup import MARK, WakeUp

PLAIN = WakeUp("00000000-0000-0000-0000-000000000007", "app.charge", "celery")
OURS = {"task", "id", MARK}


def test_a_plain_wakeup_is_id_task_and_mark():
    """A message for an entry without options carries three headers and no property."""
    assert PLAIN.headers() == {"task": "app.charge", "id": PLAIN.entry, MARK: 1}
    assert PLAIN.properties() == {}
    assert PLAIN.routing() == {}
    assert len(json.dumps(PLAIN.headers())) < 100


@given(st.dictionaries(st.sampled_from(sorted(options._KNOWN)), st.text(min_size=1), max_size=9))
def test_most_options_never_travel(given_options):
    """Whatever the options, only those travel that Celery needs before any task code runs."""
    kept = options.kept(
        {**given_options, "headers": {"x-trace": "1"}, "stamped_headers": ["tenant"], "tenant": 1}
    )
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, PLAIN.queue, None, kept)
    travelling = {"timelimit", "shadow", "ignore_result", "stamped_headers", "stamps", "x-trace"}
    assert set(wakeup.headers()) <= OURS | travelling
    assert set(wakeup.properties()) <= {"reply_to", "correlation_id"}
    assert set(wakeup.routing()) <= {"exchange", "routing_key", "delivery_mode"}


def test_time_limits_travel():
    """Time limits of the call reach the worker's main process, which enforces them."""
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, PLAIN.queue, None, {"timelimit": [9, 5]})
    assert wakeup.headers()["timelimit"] == [9, 5]


def test_the_callers_headers_travel():
    """Headers of the caller, such as a tracing context, reach the worker."""
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, PLAIN.queue, None, {"headers": {"traceparent": "00"}})
    assert wakeup.headers()["traceparent"] == "00"


@pytest.mark.parametrize("name", [*sorted(OURS), "timelimit"])
def test_a_header_of_the_caller_cannot_stand_in_for_ours(name):
    """A caller's header of the same name neither wakes another entry nor hides the mark."""
    kept = {"headers": {name: "theirs"}, "timelimit": [9, None]}
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, PLAIN.queue, None, kept)
    assert wakeup.headers() == {**PLAIN.headers(), "timelimit": [9, None]}


def test_the_priority_is_a_property():
    """The priority travels where brokers look for it, zero included."""
    assert WakeUp(PLAIN.entry, PLAIN.task, "q", 0).properties() == {"priority": 0}


def test_a_reply_names_the_entry():
    """Where the result backend needs a reply queue, the reply is told by the entry's id."""
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, "q", None, {"reply_to": "inbox"})
    assert wakeup.properties() == {"reply_to": "inbox", "correlation_id": PLAIN.entry}


def test_routing_beyond_the_queue_is_kept():
    """An exchange and a routing key that the call asked for are used for each publish."""
    kept = {"exchange": "events", "routing_key": "order.paid", "delivery_mode": 1, "link": []}
    wakeup = WakeUp(PLAIN.entry, PLAIN.task, "q", None, kept)
    assert wakeup.routing() == {
        "exchange": "events",
        "routing_key": "order.paid",
        "delivery_mode": 1,
    }
