"""What the admin does, the command does: the same acts, with the same record."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction

from reliable_tasks.models import Operation, OperatorAct
from tests.commands import reliable_tasks
from tests.operating.test_who_may_act import TABLE, Act, done

pytestmark = pytest.mark.django_db

#: How each act of the admin is written as a command; actions of lists lead to the same acts.
COMMANDS = {
    "reliable_tasks_entry_act requeue": ("requeue", "{id}", "--yes"),
    "reliable_tasks_entry_act edit": ("requeue", "{id}", "--args", "[1, 2]", "--yes"),
    "reliable_tasks_entry_act cancel": ("cancel", "{id}", "--yes"),
    "reliable_tasks_entry_act discard": ("discard", "{id}", "--yes"),
    "reliable_tasks_entry_act release": ("keys", "release", "{id}", "--yes"),
    "reliable_tasks_pause_begin": ("pause", "queue", "mail"),
    "reliable_tasks_pause_end": ("resume", "queue", "mail"),
    "reliable_tasks_schedule_act run": ("schedules", "run", "of run", "--yes"),
    "reliable_tasks_schedule_act pause": ("schedules", "pause", "of pause"),
    "reliable_tasks_schedule_act resume": ("schedules", "resume", "of resume"),
    "reliable_tasks_schedule_act reset": ("schedules", "reset", "of reset", "--yes"),
    "reliable_tasks_schedule_act backfill": (
        *("schedules", "backfill", "of backfill", "--yes"),
        *("--from", "{start}", "--to", "{end}"),
    ),
    "reliable_tasks_operation_steer pause": ("operations", "pause", "{operation}"),
    "reliable_tasks_operation_steer resume": ("operations", "resume", "{operation}"),
    "reliable_tasks_operation_steer stop": ("operations", "stop", "{operation}"),
    "reliable_tasks_operation_steer rate": ("operations", "rate", "{operation}", "2"),
}


class _Undo(Exception):
    pass


def newest() -> dict[str, Any]:
    """Return what the newest record says, apart from what differs from one thing to another."""
    act = OperatorAct.objects.latest("pk")
    assert act.by
    assert act.reason == "Because."
    names = set(act.details or {})
    if act.act == "release key":  # by its name from the command, by its entry from the admin
        return {"act": act.act, "done": act.done}
    return {"act": act.act, "target": act.target.split()[0], "done": act.done, "details": names}


def in_words(command: tuple[str, ...], act: Act) -> list[str]:
    """Return a command about what an act was prepared for."""
    running = Operation.objects.order_by("-pk").values_list("pk", flat=True).first()
    return [part.format(**{**act.data, "operation": running}) for part in command]


def test_every_act_has_a_command():
    """No act can be done in the admin alone."""
    assert set(COMMANDS) == {name for name in TABLE if " action " not in name}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_leaves_the_record_that_the_admin_leaves(admin_client, name):
    """An act and its command put the same on record: what was done, to what, how, how many."""
    kept = {}
    with suppress(_Undo), transaction.atomic():
        act = TABLE[name]()
        assert done(admin_client, act).status_code == 302
        kept = newest()
        raise _Undo
    act = TABLE[name]()
    ran = reliable_tasks(*in_words(COMMANDS[name], act), "--reason", "Because.")
    assert ran.code == 0
    assert newest() == kept
