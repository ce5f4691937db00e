"""The life of an entry on its page: what was published, and by whom as far as the row tells."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from reliable_tasks import ledger, overview
from reliable_tasks.admin.timeline import life_of
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.commands import reliable_tasks

pytestmark = pytest.mark.django_db

AGAIN = "again: its message was missing, or nobody had claimed it"
FIRST = "it had become due"


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def life(entry):
    return [(moment.title, *moment.lines) for moment in life_of(entries.row(entry))]


def publishes(entry):
    """Return what is told of publishes: by the sweeper, and in the first line of the life."""
    told = {title: lines for title, *lines in life(entry)}
    return told.get("Published by a sweeper"), told["Enqueued"]


def test_what_its_process_published_names_no_sweeper():
    """An entry that the message of its own process woke says that no sweeper had to."""
    entry = entries.in_state(State.SUCCEEDED, now=ago(9))
    by_sweeper, enqueued = publishes(entry)
    assert by_sweeper is None
    assert enqueued == [
        "on queue celery",
        "1 publish since it was last due",
        "no sweeper had to publish it",
    ]


def test_what_nobody_has_begun_claims_nothing():
    """While no attempt has begun, it is not said who woke it."""
    by_sweeper, enqueued = publishes(entries.enqueue(now=ago(9)))
    assert by_sweeper is None
    assert enqueued == ["on queue celery", "1 publish since it was last due"]


def test_a_publish_when_it_became_due_is_told():
    """A countdown's end, and a retry's, are published by a sweeper, and stand in the life."""
    entry = entries.enqueue(now=ago(60), delay=30.0)
    entries.sweep(now=ago(20))
    assert publishes(entry) == ([FIRST], ["on queue celery", "1 publish since it was last due"])
    titles = [title for title, *_ in life(entry)]
    assert titles == ["Enqueued", "Due", "Published by a sweeper"]
    held = entries.claim(entry, now=ago(19))
    entries.reschedule(held, now=ago(18), delay=5.0)
    assert publishes(entry)[0] == []  # of the attempt before
    entries.sweep(now=ago(12))
    assert publishes(entry)[0] == [FIRST]
    titles = [title for title, *_ in life(entry)]
    assert titles.index("Attempt 1 failed") < titles.index("Published by a sweeper")
    entries.reschedule(entries.claim(entry, now=ago(11)), now=ago(10), delay=0.0)
    assert publishes(entry) == ([], ["on queue celery", "1 publish since it was last due"])


def test_a_publish_again_is_told_with_its_reason():
    """An entry whose message was missing says that it was published again, and how often."""
    entry = entries.enqueue(now=ago(60))
    ledger.pull_forward("celery", count=1, grace=1.0, now=ago(50))
    entries.sweep(now=ago(40))
    assert publishes(entry) == (
        [AGAIN],
        ["on queue celery", "2 publishes since it was last due"],
    )


def test_a_publish_that_the_broker_did_not_take_is_not_told():
    """What was taken back was not published."""
    entry = entries.enqueue(now=ago(60), delay=1.0)
    entries.sweep(now=ago(40))
    ledger.take_back([entry], retry_in=5.0, now=ago(39))
    assert publishes(entry) == (None, ["on queue celery"])


def test_the_page_and_the_command_show_it(admin_client):
    """The page of an entry and ``show`` tell when a sweeper last published it."""
    entry = entries.enqueue(now=ago(60), delay=1.0)
    entries.sweep(now=ago(40))
    page = admin_client.get(reverse("admin:reliable_tasks_entry_change", args=[entry]))
    assert "Published by a sweeper" in page.content.decode()
    found = reliable_tasks("show", str(entry), "--json").json
    assert "a sweeper published it" in [step["what"] for step in found["timeline"]]
    assert found["published_at"] == Entry.objects.get(pk=entry).published_at.isoformat()
