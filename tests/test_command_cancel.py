"""`manage.py reliable_tasks cancel`: end entries that wait, ask those that run to stop."""

from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.commands import answer, reliable_tasks

ADD = "tests.app.tasks.add"


def states(*ids):
    return [entries.state(pk) for pk in ids]


def test_cancel_by_id(db):
    """Waiting entries are cancelled at once, running ones are asked to stop."""
    waiting, running = entries.in_state(State.RETRYING), entries.in_state(State.RUNNING)
    ran = reliable_tasks("cancel", waiting, running, "--yes", "--reason", "wrong customer")
    assert ran.code == 0
    assert ran.out == "Cancelled 1 entry.\nAsked 1 running attempt to stop.\n"
    assert states(waiting, running) == [State.CANCELLED, State.RUNNING]
    assert entries.row(running).cancel_requested_at is not None
    assert entries.row(waiting).reason.endswith("wrong customer")


def test_cancel_by_filter(db):
    """Filters choose among what waits or runs; programs get what became of each."""
    chosen = entries.enqueue(now=None, queue="mail")
    other = entries.enqueue(now=None)
    ran = reliable_tasks("cancel", "--queue", "mail", "--yes", "--json")
    assert ran.json == {
        "dry_run": False,
        "cancelled": [str(chosen)],
        "asked": [],
        "skipped": [],
    }
    assert states(chosen, other) == [State.CANCELLED, State.PENDING]


def test_cancel_dry_run(db):
    """--dry-run shows what would be cancelled, and cancels nothing."""
    waiting = entries.enqueue(now=None)
    ran = reliable_tasks("cancel", "--all", "--dry-run")
    assert "1 entry would be cancelled; nothing was changed." in ran.out
    assert states(waiting) == [State.PENDING]


def test_cancel_of_what_has_ended(db):
    """An entry that has ended is left alone, and the exit code is 1."""
    done = entries.in_state(State.SUCCEEDED)
    ran = reliable_tasks("cancel", done, "--yes")
    assert (ran.code, ran.err) == (1, f"Nothing to do: {done} is succeeded.\n")


def test_cancel_twice_asks_once(db):
    """A running entry that was asked before is not asked again."""
    running = entries.in_state(State.RUNNING)
    assert reliable_tasks("cancel", running, "--yes").code == 0
    ran = reliable_tasks("cancel", running, "--yes")
    assert ran.code == 1
    assert f"Left alone: {running} is running." in ran.err


def test_cancel_asks_first(db, monkeypatch):
    """The question says how many of what; without a yes nothing changes."""
    for _ in range(2):
        entries.enqueue(now=None)
    answer(monkeypatch, "n")
    ran = reliable_tasks("cancel", "--all", "--limit", 1)
    assert ran.code == 1
    assert f"Cancel 1 entry of these, oldest first: 2 pending {ADD}? [y/N]" in ran.err
    assert Entry.objects.filter(state=State.CANCELLED).count() == 0


def test_cancel_refuses_states_that_have_ended(db):
    """Only what waits or runs can be cancelled."""
    ran = reliable_tasks("cancel", "--state", "dead", "--yes")
    assert ran.code == 2
    assert "only for: pending, retrying, running" in ran.err
