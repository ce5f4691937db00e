"""`manage.py reliable_tasks requeue`: put dead or cancelled entries back."""

from datetime import timedelta

import pytest

from reliable_tasks import operations, overview
from reliable_tasks.ids import new_id
from reliable_tasks.states import State
from tests import entries
from tests.commands import answer, reliable_tasks

ADD, BOOM = "tests.app.tasks.add", "tests.app.tasks.boom"


def states(*ids):
    return [entries.state(pk) for pk in ids]


def dead(task=ADD):
    now = overview.now()
    held = entries.running(now=now, task=task)
    entries.bury(held, now=now)
    return held.entry


def test_requeue_by_id(db):
    """Entries that are named go back, with the reason and who gave it."""
    one, two = dead(), dead()
    ran = reliable_tasks("requeue", one, two, "--yes", "--reason", "fixed")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "Requeued 2 entries; the sweeper publishes them at once.\n"
    assert states(one, two) == [State.PENDING, State.PENDING]
    assert entries.row(one).reason.endswith("with manage.py: fixed")


def test_requeue_all_means_the_dead(db):
    """--all takes every dead entry, and no cancelled one unless that state is asked for."""
    died, cancelled = dead(), entries.in_state(State.CANCELLED)
    assert reliable_tasks("requeue", "--all", "--yes").code == 0
    assert states(died, cancelled) == [State.PENDING, State.CANCELLED]
    assert reliable_tasks("requeue", "--state", "cancelled", "--yes").code == 0
    assert states(cancelled) == [State.PENDING]


@pytest.mark.parametrize(
    "filters",
    [
        ["--task", BOOM],
        ["--error", "GatewayDown", "--task", "*.boom", "--task", BOOM],
        ["--fingerprint", entries.FAILURE.fingerprint, "--task", BOOM],
        ["--newer", "1h", "--task", BOOM],
    ],
)
def test_requeue_by_filter(db, filters):
    """Only what the filters choose is put back."""
    chosen, other = dead(BOOM), dead()
    ran = reliable_tasks("requeue", *filters, "--yes", "--json")
    assert ran.json == {"dry_run": False, "requeued": [str(chosen)], "skipped": []}
    assert states(chosen, other) == [State.PENDING, State.DEAD]


def test_requeue_up_to_a_limit_takes_the_oldest(db):
    """--limit bounds how many go back, the oldest first."""
    first, second = dead(), dead()
    reliable_tasks("requeue", "--all", "--limit", 1, "--yes")
    assert states(first, second) == [State.PENDING, State.DEAD]


def test_requeue_goes_through_any_number(db, monkeypatch):
    """More entries than one batch holds are all put back, each once."""
    monkeypatch.setattr("reliable_tasks.management.verbs.selection.BATCH", 2)
    ids = [dead() for _ in range(5)]
    ran = reliable_tasks("requeue", "--all", "--yes", "--json")
    assert ran.json["requeued"] == [str(pk) for pk in ids]


def test_requeue_for_later(db):
    """--in puts the due time ahead by so much of the database's time."""
    died = dead()
    ran = reliable_tasks("requeue", died, "--in", "10m", "--yes")
    ahead = entries.row(died).due_at - overview.now()
    assert timedelta(minutes=9) < ahead <= timedelta(minutes=10)
    assert "the sweeper publishes them at 20" in ran.out


def test_requeue_under_another_name(db):
    """--task-name gives renamed tasks' entries their new name, those that wait included."""
    lost, died = entries.enqueue(now=None, task="old.add"), dead("old.add")
    ran = reliable_tasks("requeue", "--task", "old.add", "--task-name", ADD, "--yes")
    assert ran.code == 0
    assert {entries.row(pk).task for pk in (lost, died)} == {ADD}
    assert states(lost, died) == [State.PENDING, State.PENDING]


def test_requeue_under_a_name_that_no_task_has(db):
    """A new name that no task has is refused before anything is touched."""
    died = dead()
    ran = reliable_tasks("requeue", died, "--task-name", "tests.app.tasks.ad", "--yes")
    assert ran.code == 2
    assert "No task is named 'tests.app.tasks.ad'. Did you mean 'tests.app.tasks.add'?" in ran.err
    assert states(died) == [State.DEAD]


def test_requeue_under_the_name_of_a_plain_task(db):
    """A plain task, which would be called without the entry's arguments, is refused."""
    died, waiting = dead(), entries.in_state(State.PENDING)
    name = "celery.backend_cleanup"
    ran = reliable_tasks("requeue", "--task", "*", "--task-name", name, "--yes")
    assert ran.code == 2
    assert f"{name!r} is a plain task" in ran.err
    assert states(died, waiting) == [State.DEAD, State.PENDING]


def test_requeue_dry_run(db):
    """--dry-run shows what would be done, and does nothing."""
    died, waiting = dead(), entries.in_state(State.PENDING)
    ran = reliable_tasks("requeue", "--all", "--dry-run")
    assert ran.code == 0
    assert str(died) in ran.out
    assert str(waiting) not in ran.out
    assert "1 entry would be requeued; nothing was changed." in ran.out
    ran = reliable_tasks("requeue", "--all", "--dry-run", "--json")
    assert ran.json == {"dry_run": True, "requeued": [str(died)], "skipped": []}
    assert states(died) == [State.DEAD]


def test_requeue_dry_run_of_many_shows_some(db):
    """A long preview is cut, and says by how much."""
    for _ in range(22):
        dead()
    ran = reliable_tasks("requeue", "--all", "--dry-run")
    assert "… and 2 more" in ran.out
    assert len(ran.lines) == 1 + 20 + 2


def test_requeue_leaves_alone_what_is_not_dead(db):
    """Named entries in other states are left alone and told of; the exit code says so."""
    died, running = dead(), entries.in_state(State.RUNNING)
    ran = reliable_tasks("requeue", died, running, "--yes")
    assert ran.code == 1
    assert "Requeued 1 entry" in ran.out
    assert f"Left alone: {running} is running." in ran.err
    ran = reliable_tasks("requeue", running, "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"Nothing to do: {running} is running.\n"
    ran = reliable_tasks("requeue", running, "--yes", "--json")
    assert ran.json["skipped"] == [{"id": str(running), "state": "running"}]


def test_requeue_of_an_unknown_entry(db):
    """An unknown id is an error, and nothing is done for the others."""
    died, missing = dead(), new_id()
    ran = reliable_tasks("requeue", died, missing, "--yes")
    assert ran.code == 1
    assert f"The ledger has no entry {missing}." in ran.err
    assert states(died) == [State.DEAD]


def test_requeue_of_nothing(db):
    """Where nothing matches, nothing is asked, and the exit code is 1."""
    ran = reliable_tasks("requeue", "--all")
    assert (ran.code, ran.err) == (1, "No entry matches.\n")


@pytest.mark.parametrize(("text", "state"), [("y", "pending"), ("YES", "pending"), ("", "dead")])
def test_requeue_asks_first(db, monkeypatch, text, state):
    """The question names what is chosen; only a yes goes on."""
    died = dead()
    answer(monkeypatch, text)
    ran = reliable_tasks("requeue", "--all")
    assert f"Requeue 1 entry (1 dead {ADD})? [y/N]" in ran.err
    assert states(died) == [state]
    assert ran.code == (0 if state == "pending" else 1)


def test_a_closed_keyboard_means_no(db, monkeypatch):
    """The end of the input is no consent."""
    died = dead()
    answer(monkeypatch, None)
    assert reliable_tasks("requeue", "--all").code == 1
    assert states(died) == [State.DEAD]


def test_without_a_keyboard_consent_must_be_given(db):
    """Where nobody can be asked, the act needs --yes or Django's --no-input."""
    died = dead()
    ran = reliable_tasks("requeue", "--all")
    assert ran.code == 2
    assert "pass --yes" in ran.err
    assert states(died) == [State.DEAD]
    assert reliable_tasks("requeue", "--all", "--no-input").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Which entries?"),
        (["--all", str(new_id())], "Name entries or choose them by --all, not both."),
        (["--task", "x", str(new_id())], "Name entries or choose them by --task, not both."),
        (["--state", "running"], "This is not possible for running entries"),
        (["42"], "'42' is no entry's id"),
        (["--all", "--in", "-5"], "'-5' is no length of time"),
    ],
)
def test_requeue_of_who_knows_what(db, arguments, words):
    """A selection that cannot be meant is refused with 2."""
    ran = reliable_tasks("requeue", *arguments, "--yes")
    assert ran.code == 2
    assert words in ran.err


def test_an_interrupted_requeue_says_how_far_it_came(db, monkeypatch):
    """Ctrl-C between two batches keeps what is done, says so, and exits with 130."""
    monkeypatch.setattr("reliable_tasks.management.verbs.selection.BATCH", 1)
    ids = [dead(), dead()]
    requeue = operations.requeue

    def once(batch, *args, **kwargs):
        if batch == [ids[1]]:
            raise KeyboardInterrupt
        return requeue(batch, *args, **kwargs)

    monkeypatch.setattr(operations, "requeue", once)
    ran = reliable_tasks("requeue", "--all", "--yes")
    assert ran.code == 130
    assert ran.err == "Interrupted: requeued 1 of 2, and that stays.\n"
    assert states(*ids) == [State.PENDING, State.DEAD]
