"""What somebody broke by hand in a row can still be looked at, and acted on."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reliable_tasks.models import Entry
from reliable_tasks.states import State
from reliable_tasks.why import why_waiting
from tests import entries
from tests.commands import reliable_tasks

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.parametrize(
        ("column", "content"),
        [
            ("args", {"x": 1}),
            ("args", [{"__type__": "uuid", "value": "no uuid"}]),
            ("args", "text"),
            ("kwargs", [1]),
            ("kwargs", {"a": {"__type__": "what", "value": 1}}),
            ("kwargs", 7),
            ("options", [1]),
            ("options", ["follows"]),
            ("options", {"follows": "nobody"}),
            ("options", {"once": 5, "headers": 3, "time_limit": "x", "chain": {"a": 1}}),
        ],
    ),
]


def broken(column, content, state):
    """Return an entry with such a row, in that state."""
    pk = entries.enqueue(now=None)
    Entry.objects.filter(pk=pk).update(**{column: content, "state": state})
    return pk


@pytest.mark.parametrize("state", [State.DEAD, State.PENDING])
def test_pages_show_a_corrupt_row(admin_client, column, content, state):
    """Each list, the entry's own page and the pages of the acts answer, whatever the row holds."""
    pk = broken(column, content, state)
    pages = [
        reverse("admin:reliable_tasks_entry_changelist"),
        reverse("admin:reliable_tasks_entry_change", args=[pk]),
        reverse("admin:reliable_tasks_deadletter_changelist"),
        *(
            reverse("admin:reliable_tasks_entry_act", args=[act]) + f"?id={pk}"
            for act in ("requeue", "edit", "cancel", "discard")
        ),
    ]
    answers = {page: admin_client.get(page).status_code for page in pages}
    assert set(answers.values()) <= {200, 302}, answers
    assert answers[pages[1]] == 200


def test_commands_and_reasons_read_a_corrupt_row(column, content):
    """`show`, `list` and the reasons for waiting answer, whatever the row holds."""
    pk = broken(column, content, State.PENDING)
    assert reliable_tasks("show", pk).code == 0
    assert reliable_tasks("show", pk, "--json").json
    assert reliable_tasks("list").code == 0
    assert reliable_tasks("list", "--json").json
    assert why_waiting(entries.row(pk), ask_broker=False)


def test_a_corrupt_row_is_requeued_and_cancelled(column, content):
    """The acts of operators need nothing of the arguments."""
    pk = broken(column, content, State.DEAD)
    assert reliable_tasks("requeue", pk, "--reason", "mended", "--yes").code == 0
    assert entries.row(pk).state == State.PENDING
    assert reliable_tasks("cancel", pk, "--reason", "past help", "--yes").code == 0
    assert entries.row(pk).state == State.CANCELLED
