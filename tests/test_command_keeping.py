"""`manage.py reliable_tasks prune` and `sweep`: what keeps the ledger going."""

import signal
from datetime import timedelta

import pytest
from celery import Celery

from reliable_tasks import overview
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.commands import reliable_tasks
from tests.harness import ManagedProcess, child_env, python, wait_until


def ended(state, **ago):
    return entries.in_state(state, now=overview.now() - timedelta(**ago))


def left():
    return set(Entry.objects.values_list("pk", flat=True))


# ------------------------------------------------------------------------------------------- prune
def test_prune_follows_the_settings(db, settings):
    """Without arguments prune deletes what the KEEP_… settings let go, and asks nobody."""
    settings.RELIABLE_TASKS = {"KEEP_SUCCEEDED": timedelta(hours=1)}
    ended(State.SUCCEEDED, hours=2)
    kept = {
        ended(State.SUCCEEDED, minutes=50),
        ended(State.CANCELLED, days=29),
        ended(State.DEAD, days=900),
        entries.enqueue(now=overview.now() - timedelta(days=900)),
    }
    ran = reliable_tasks("prune")
    assert ran.code == 0
    assert [line.split() for line in ran.lines] == [
        ["STATE", "OLDER", "THAN", "DELETED"],
        ["succeeded", "1h", "1"],
        ["cancelled", "30d", "0"],
    ]
    assert left() == kept


def test_prune_as_told(db):
    """--state and --older-than choose; batches go on until nothing is left."""
    ended(State.DEAD, days=2)
    kept = {ended(State.DEAD, hours=2), ended(State.SUCCEEDED, days=2)}
    arguments = ("prune", "--state", "dead", "--older-than", "1d")
    assert reliable_tasks(*arguments, "--yes", "--json").json == {
        "dry_run": False,
        "pruned": {"dead": 1},
        "older_than_seconds": {"dead": 86400.0},
    }
    assert left() == kept


def test_prune_dry_run(db):
    """--dry-run counts, and deletes nothing."""
    old = ended(State.SUCCEEDED, days=8)
    ran = reliable_tasks("prune", "--dry-run")
    assert "WOULD BE DELETED" in ran.lines[0]
    assert ran.lines[1].split() == ["succeeded", "7d", "1"]
    assert left() == {old}


def test_prune_as_told_needs_consent(db):
    """What the settings do not already let go is deleted only after a yes."""
    old = ended(State.DEAD, days=2)
    ran = reliable_tasks("prune", "--state", "dead", "--older-than", "1d")
    assert ran.code == 2
    assert "Delete 1 entry for good (1 dead)?" in ran.err
    assert left() == {old}


def test_prune_of_nothing_is_no_failure(db):
    """A nightly prune with nothing to do exits with 0."""
    assert reliable_tasks("prune").code == 0
    assert reliable_tasks("prune", "--state", "dead", "--older-than", "1d").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--older-than", "1d"], "--older-than needs --state"),
        (["--state", "running"], "Entries that are running have not ended."),
        (["--state", "dead"], "KEEP_DEAD is None"),
        (["--state", "deed"], "Did you mean 'dead'?"),
        (["--older-than", "1 fortnight"], "is no length of time"),
    ],
)
def test_prune_refuses_what_cannot_be_meant(db, arguments, words):
    """A command line that would delete by accident is refused with 2."""
    ran = reliable_tasks("prune", *arguments, "--yes")
    assert ran.code == 2
    assert words in ran.err


# ------------------------------------------------------------------------------------------- sweep
def test_sweep_once(transactional_db, flush_broker):
    """One pass publishes what is due and rescues what was lost, and says so."""
    entries.enqueue(now=overview.now() - timedelta(seconds=60))
    lost = ended(State.RUNNING, seconds=60)
    ran = reliable_tasks("sweep", "--once", "--json")
    assert ran.code == 0
    assert (ran.json["rescued"], ran.json["broker"]) == (1, True)
    assert ran.json["published"] >= 1
    assert entries.state(lost) is State.RETRYING
    ran = reliable_tasks("sweep", "--once")
    assert (ran.code, ran.out) == (0, "Nothing was due.\n")


def test_sweep_once_without_a_broker(transactional_db, monkeypatch):
    """Without a broker the rest is done, and the exit code says that publishing was not."""
    nowhere = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    monkeypatch.setattr("reliable_tasks.operations.celery_app", lambda: nowhere)
    waiting = entries.enqueue(now=overview.now() - timedelta(seconds=60))
    lost = ended(State.RUNNING, seconds=60)
    ran = reliable_tasks("sweep", "--once")
    assert ran.code == 1
    assert "rescued 1" in ran.out
    assert "The broker does not answer" in ran.err
    assert entries.state(waiting) is State.PENDING
    assert entries.state(lost) is State.RETRYING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sweep_until_told_to_stop(transactional_db, flush_broker, tmp_path, number):
    """Alone, it sweeps as a worker does, prints what it did, and ends well on a signal."""
    command = python("-m", "django", "reliable_tasks", "sweep")
    with ManagedProcess(
        command, env=child_env(), log=tmp_path / "sweep.log", ready="Sweeping."
    ) as sweeper:
        lost = ended(State.RUNNING, seconds=60)
        wait_until(lambda: entries.state(lost) is State.RETRYING)
        wait_until(lambda: "rescued 1" in sweeper.log, message=lambda: sweeper.log)
        sweeper.send_signal(number)
        assert sweeper.wait() == 0
        assert sweeper.log.endswith("Stopped.\n")
