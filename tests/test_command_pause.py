"""``discard``, ``pause`` and ``resume`` from the command line: the same acts, the same record."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from reliable_tasks import overview
from reliable_tasks.models import OperatorAct, Pause
from reliable_tasks.states import State
from tests import entries
from tests.commands import reliable_tasks

pytestmark = pytest.mark.django_db


def test_discard():
    """Dead entries are discarded and on record; what is not dead is told of."""
    dead, waits = entries.in_state(State.DEAD), entries.in_state(State.PENDING)
    done = reliable_tasks("discard", str(dead), str(waits), "--reason", "Old.", "--yes")
    assert done.code == 1
    assert "Discarded 1 entry." in done.out
    assert [entries.state(dead), entries.state(waits)] == ["cancelled", "pending"]
    (act,) = OperatorAct.objects.all()
    assert (act.act, act.reason, act.done, act.skipped) == ("discard", "Old.", 1, 1)
    assert "with manage.py" in act.by


def test_pause_list_and_resume():
    """A queue is paused for a while, listed with its reason, and resumed; twice is an error."""
    assert reliable_tasks("pause", "queue", "mail", "--reason", "Deploy.", "--for", "10m").code == 0
    assert reliable_tasks("pause", "queue", "mail").code == 1
    pause = Pause.objects.get()
    assert timedelta(minutes=9) < pause.ends_at - overview.now() <= timedelta(minutes=10)
    assert "Deploy." in reliable_tasks("pause").out
    assert json.loads(reliable_tasks("pause", "--json").out)[0]["name"] == "mail"
    assert reliable_tasks("resume", "queue", "mail").code == 0
    assert reliable_tasks("resume", "queue", "mail").code == 1
    assert "Nothing is paused." in reliable_tasks("pause").out


def test_requeue_spread():
    """A requeue can be spread over a time from the command line as well."""
    ids = [entries.in_state(State.DEAD) for _ in range(4)]
    assert reliable_tasks("requeue", "--all", "--spread", "100", "--yes").code == 0
    due = sorted(entries.row(pk).due_at for pk in ids)
    assert (due[-1] - due[0]).total_seconds() == pytest.approx(75, abs=1)
