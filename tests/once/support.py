"""What the tests of dedup share."""

from __future__ import annotations

from reliable_tasks import ledger
from reliable_tasks.models import Entry, Key
from reliable_tasks.states import Outcome
from tests.enqueue.calls import deliver
from tests.entries import FAILURE

__all__ = ["bury", "claim", "deliver", "entry_of", "held", "keys_of", "reschedule"]


def keys_of(result):
    """Return the keys that an entry holds."""
    return list(Key.objects.filter(entry_id=result.id))


def held(result):
    """Tell whether an entry holds a key that no window has begun to end."""
    return [key.until for key in keys_of(result)] == [None]


def entry_of(result):
    """Return the entry behind a result."""
    return Entry.objects.get(pk=result.id)


def claim(result):
    """Claim an entry, as a worker does before it runs the body."""
    found = ledger.claim(entry_of(result).pk, "celery@test#1", lease=60.0, ignore_due=True)
    assert found is not None
    hold = found.hold
    if hold is not None and hold.blocks != "live":
        ledger.free_at_start(found.entry, found.token)
    return found


def bury(held_claim):
    """End an entry as dead."""
    ledger.bury(held_claim, FAILURE, Outcome.FAILED, reason="Not retried.")


def reschedule(held_claim):
    """Let another attempt follow."""
    ledger.reschedule(held_claim, FAILURE, Outcome.FAILED, delay=60.0, grace=5.0)
