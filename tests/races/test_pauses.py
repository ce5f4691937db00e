"""A pause against claims: what is claimed after the pause has committed is nothing."""

from __future__ import annotations

from reliable_tasks import ledger, operations
from reliable_tasks.models import Pause
from reliable_tasks.oversight import Kind
from tests import entries
from tests.entries import LEASE, WORKER


def claim(entry_id):
    return ledger.claim(entry_id, WORKER, lease=LEASE)


def test_no_claim_after_a_pause_has_committed(second_connection):
    """Each process sees a pause from the moment it commits: there is no cache to be stale."""
    ids = [entries.enqueue(now=None) for _ in range(20)]
    for pk in ids[:10]:
        assert second_connection.run(claim, pk) is not None
    assert operations.pause("queue", "celery")
    assert [second_connection.run(claim, pk) for pk in ids[10:]] == [None] * 10
    assert operations.resume("queue", "celery")
    assert all(second_connection.run(claim, pk) for pk in ids[10:])


def test_two_people_pause_the_same_thing(race):
    """Of two people who pause the same queue at once, one does, and the other is told."""
    answers = race.together(
        lambda: ledger.pause(Kind.QUEUE, "mail", by="ann"),
        lambda: ledger.pause(Kind.QUEUE, "mail", by="bob"),
    )
    assert sorted(answers) == [False, True]
    assert Pause.objects.count() == 1


def test_two_people_resume_the_same_thing(race):
    """Of two people who resume the same queue at once, one does."""
    ledger.pause(Kind.QUEUE, "mail")
    answers = race.together(*[lambda: ledger.resume(Kind.QUEUE, "mail")] * 2)
    assert sorted(answers) == [False, True]
