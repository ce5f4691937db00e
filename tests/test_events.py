"""The one seam through which everything is told to the outside."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError, fields
from uuid import UUID

import pytest
from django.dispatch import Signal

from reliable_tasks import events

ENTRY = UUID(int=7)
SAMPLES = {"int": 3, "float": 1.5, "str": "words"}
KINDS = [
    value
    for value in vars(events).values()
    if isinstance(value, type) and issubclass(value, events.Event) and value is not events.Event
]


def sample(kind, **changes):
    values = {
        field.name: SAMPLES[str(field.type)]
        for field in fields(kind)
        if field.name not in {"entry", "task"}
    }
    return kind(**{"entry": ENTRY, "task": "app.charge", **values, **changes})


@pytest.fixture
def received():
    """Give the test the list of all that any signal of the package sends."""
    seen = []

    def note(sender, event, **kwargs):
        seen.append((kwargs["signal"], sender, event))

    for kind in KINDS:
        kind.signal.connect(note)
    yield seen
    for kind in KINDS:
        kind.signal.disconnect(note)


def test_each_kind_has_a_signal_of_its_own():
    """There is one public signal for each kind of event, and no other."""
    public = {value for value in vars(events).values() if isinstance(value, Signal)}
    assert {kind.signal for kind in KINDS} == public
    assert len(KINDS) == len(public)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_signalled_logged_and_counted(kind, received, caplog):
    """Each kind of event sends its signal with the task as sender, logs a line and counts one."""
    caplog.set_level(logging.DEBUG, "reliable_tasks")
    before = sum(events.counts().values())
    event = sample(kind)
    events.emit(event)
    assert received == [(kind.signal, "app.charge", event)]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("reliable_tasks", kind.level)
    assert record.getMessage().startswith(f"app.charge[{ENTRY}] {kind.words}")
    assert sum(events.counts().values()) == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_log_line_carries_its_fields(kind, caplog):
    """A structured handler finds entry, task and each detail as attributes of the record."""
    caplog.set_level(logging.DEBUG, "reliable_tasks")
    event = sample(kind)
    events.emit(event)
    record = caplog.records[0]
    assert (record.reliable_entry, record.reliable_task) == (str(ENTRY), "app.charge")
    for field in fields(kind):
        if field.name not in {"entry", "task"}:
            assert getattr(record, f"reliable_{field.name}") == getattr(event, field.name)
            assert f"{field.name}={getattr(event, field.name)!r}" in record.getMessage()


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (events.Died, logging.ERROR),
        (events.FencedOff, logging.ERROR),
        (events.Rescheduled, logging.WARNING),
        (events.Rescued, logging.WARNING),
        (events.Expired, logging.WARNING),
        (events.PublishFailed, logging.WARNING),
    ],
)
def test_what_needs_a_person_is_loud(kind, level):
    """A death and a fenced attempt are errors, what mends itself is a warning."""
    assert kind.level == level


def test_the_happy_path_is_silent(caplog):
    """An entry that is enqueued, published, claimed and succeeds logs nothing above debug."""
    caplog.set_level(logging.INFO, "reliable_tasks")
    for kind in (events.Enqueued, events.Published, events.Claimed, events.Succeeded):
        events.emit(sample(kind))
    assert not caplog.records


def test_a_receiver_that_raises_disturbs_nobody(received, caplog):
    """A broken receiver is logged with its traceback, and the others are still called."""

    def broken(**kwargs):
        raise RuntimeError("receiver")

    events.entry_died.connect(broken)
    try:
        events.emit(sample(events.Died))
    finally:
        events.entry_died.disconnect(broken)
    assert len(received) == 1
    failures = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in failures] == ["receiver"]


def test_drops_are_counted_by_reason():
    """How many messages woke nothing is known for each reason."""
    before = events.counts()
    for reason in ("running", "running", "no entry"):
        events.emit(sample(events.Dropped, reason=reason))
    after = events.counts()
    assert after["Dropped:running"] - before.get("Dropped:running", 0) == 2
    assert after["Dropped:no entry"] - before.get("Dropped:no entry", 0) == 1


@pytest.mark.parametrize("listening", [True, False])
def test_the_same_event_of_many_entries_is_told_for_each(request, listening):
    """Many entries of one kind are signalled one by one where somebody listens, always counted."""
    seen = request.getfixturevalue("received") if listening else None
    before = events.counts().get("Enqueued", 0)
    ids = [UUID(int=n) for n in range(3)]
    events.emit_many(events.Enqueued, "app.charge", ids, queue="slow")
    assert events.counts()["Enqueued"] == before + 3
    if listening:
        assert [(event.entry, event.queue) for _, _, event in seen] == [
            (entry, "slow") for entry in ids
        ]


def test_an_event_of_many_entries_names_none(received):
    """An event that means many entries can be told without an id."""
    events.emit(sample(events.PublishFailed, entry=None))
    assert received[0][2].entry is None


def test_events_cannot_be_changed():
    """A receiver cannot change what the next receiver sees."""
    with pytest.raises(FrozenInstanceError):
        sample(events.Claimed).attempt = 4
