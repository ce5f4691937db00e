"""`manage.py reliable_tasks show`: the whole life of one entry."""

from datetime import timedelta

import pytest

from reliable_tasks import ledger, operations, overview
from reliable_tasks.failure import Failure
from reliable_tasks.ids import new_id
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.commands import reliable_tasks


def ago(**length):
    return overview.now() - timedelta(**length)


def died_twice():
    held = entries.running(
        now=ago(seconds=60), args='[7, "x"]', kwargs='{"y": 1}', options='{"shadow": "z"}'
    )
    entries.reschedule(held, now=ago(seconds=59), delay=1.0)
    again = entries.claim(held.entry, now=ago(seconds=50))
    failure = Failure("app.NotToBe", "no <b>", "Traceback\n  line two", "f" * 16)
    ledger.bury(again, failure, Outcome.FAILED, reason="It was not to be.", now=ago(seconds=49))
    return held.entry


def test_show_tells_the_whole_life(db):
    """State, reason, call, each attempt's traceback and the timeline are shown in order."""
    ran = reliable_tasks("show", died_twice())
    assert ran.code == 0
    for words in (
        "state      dead",
        "reason     It was not to be.",
        "error      NotToBe: no <b>",
        'args       [7, "x"]',
        'kwargs     {"y": 1}',
        'options    {"shadow": "z"}',
        "Attempt 1: failed after 1s, on celery@here#0a0a0a0a",
        "Attempt 2: failed",
        "  Traceback\n    line two",
    ):
        assert words in ran.out
    steps = ran.out.partition("Timeline")[2].split("\n")
    told = [" ".join(step.split()[2:]) for step in steps if step]
    assert [step.rpartition(" (")[0] for step in told] == [
        "enqueued for 'celery'",
        "attempt 1 began on celery@here#0a0a0a0a",
        "attempt 1 ended: failed, GatewayDown: 503",
        "attempt 2 began on celery@here#0a0a0a0a",
        "attempt 2 ended: failed, NotToBe: no <b>",
        "dead",
    ]


def test_show_as_json(db):
    """Programs get the call, the attempts and the timeline."""
    found = reliable_tasks("show", died_twice(), "--json").json
    assert (found["args"], found["kwargs"], found["state"]) == ([7, "x"], {"y": 1}, "dead")
    assert [each["number"] for each in found["attempts"]] == [1, 2]
    assert found["attempts"][1]["traceback"] == "Traceback\n  line two"
    assert found["timeline"][0]["what"] == "enqueued for 'celery'"
    assert found["timeline"][-1]["what"] == "dead"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.PENDING, "the sweeper looks next"),
        (State.RUNNING, "the lease ends"),
        (State.RETRYING, "attempt 1 ended: failed"),
        (State.SUCCEEDED, "succeeded"),
        (State.CANCELLED, "Cancelled by a person."),
    ],
)
def test_show_of_each_state(db, state, words):
    """An entry in any state can be shown, with what happens next to it."""
    ran = reliable_tasks("show", entries.in_state(state, now=ago(seconds=1)))
    assert ran.code == 0
    assert f"state      {state}" in ran.out
    assert words in ran.out


def test_show_of_what_is_to_come(db):
    """A due time ahead, an expiry and a wish to stop are part of the timeline."""
    timed = entries.enqueue(now=None, delay=600.0, expires_in=900.0)
    running = entries.in_state(State.RUNNING, now=ago(seconds=3))
    ledger.cancel([running])
    out = reliable_tasks("show", timed).out
    assert "due        in 9m 59s" in out or "due        in 10m" in out
    assert "expires (in 1" in out
    assert "asked to stop" in reliable_tasks("show", running).out


def test_show_of_an_unknown_entry(db):
    """An id that the ledger does not have is an error without a traceback."""
    missing = new_id()
    ran = reliable_tasks("show", missing)
    assert (ran.code, ran.out) == (1, "")
    assert f"There is no entry {missing} in the ledger" in ran.err


def test_nothing_in_an_entry_steers_the_terminal(db):
    """Control characters of messages and arguments are shown, not obeyed."""
    held = entries.running(now=ago(seconds=2), kwargs=r'{"a": "\u001b[2J"}', task="evil\x1b[31m\n")
    failure = Failure("E", "\x1b]0;title\x07 \u202egnp", "trace\x1b[2J\rback", "0" * 16)
    ledger.bury(held, failure, Outcome.FAILED, reason="\x9b31m", now=ago(seconds=1))
    for ran in (reliable_tasks("show", held.entry), reliable_tasks("list")):
        assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e"} & set(ran.out)
    assert "trace\\x1b[2J" in reliable_tasks("show", held.entry).out


def test_show_reads_the_newest_attempts_only(db):
    """An entry that is retried for ever is shown with its newest attempts, and how many more."""
    pk = entries.enqueue(now=ago(minutes=5))
    for number in range(1, 6):
        entries.reschedule(
            entries.claim(pk, now=ago(minutes=5 - number / 2)),
            delay=0.001,
            now=ago(minutes=5 - number / 2),
        )
    ran = reliable_tasks("show", pk, "--attempts", 2)
    assert "3 older attempts are not shown; --attempts 5 shows all." in ran.out
    assert "Attempt 3:" not in ran.out
    assert "Attempt 4: failed" in ran.out
    found = reliable_tasks("show", pk, "--attempts", 2, "--json").json
    assert [each["number"] for each in found["attempts"]] == [4, 5]
    assert found["older_attempts"] == 3
    assert reliable_tasks("show", pk, "--json").json["older_attempts"] == 0
    assert "not shown" not in reliable_tasks("show", pk, "--attempts", 5).out


def test_show_tells_what_people_did(db):
    """The timeline has who requeued or cancelled an entry, and why."""
    pk = entries.enqueue(now=ago(seconds=5))
    operations.cancel([pk], "Twice.", by="ann")
    operations.requeue([pk], by="ben")
    out = reliable_tasks("show", pk).out
    assert "cancelled by ann: Twice. (" in out
    assert "requeued by ben (" in out
