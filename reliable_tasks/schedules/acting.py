"""What the operations on schedules share: state, messages, words, and their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from .. import operations
from ..ledger import record, touch
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..ledger.schedules import Progress
from ..models import Occurrence
from ..occurrence import Fate
from ..oversight import Act
from . import adopting
from .firing import SEND_SECONDS
from .reading import Schedule
from .sending import Sender
from .spec import Plan


def ensure_state(known: Schedule, now: datetime) -> Progress:
    """Return how far a schedule has come; it gets a state if no beat has seen it yet."""
    ledger.begin([adopting.first_state(known, now)], active=known.enabled)
    return ledger.progress([known.id])[known.id]


def plan_of(known: Schedule, state: Progress) -> Plan:
    """Return the plan that counts: the one that was kept, if it means the same."""
    # The kept plan knows from where an interval counts.
    same = known.continued(state.spec)
    return known.plan if same is None else same.plan


def send_after_commit(rows: Sequence[Occurrence], known: Schedule) -> None:
    """Send the messages of plain Celery tasks once the caller's transaction has committed."""
    owed = [row for row in rows if row.send_at is not None]
    if owed:
        sender = Sender(operations.celery_app())

        def send() -> None:
            try:
                sender.send_committed(owed, lambda _: known, SEND_SECONDS)
            finally:
                sender.close()

        transaction.on_commit(send, using=ledger_connection().alias, robust=True)


def said_by(reason: str, by: str) -> str:
    """Return a reason with who gave it."""
    if not by:
        return reason
    return f"By {by}: {reason}" if reason else f"By {by}."


def on_record(
    act: Act,
    name: str,
    *,
    by: str,
    reason: str,
    rows: Sequence[Occurrence] = (),
    details: Mapping[str, Any] | None = None,
) -> None:
    """Put on record what was done to a schedule, in the transaction that does it.

    Args:
        act: what.
        name: the schedule's name.
        by: who, in words.
        reason: why, in words.
        rows: the occurrences that came of it; those that did not fire count as left alone.
        details: parameters, as JSON values.
    """
    fired = [row for row in rows if row.outcome == Fate.FIRED]
    kept = record(
        act,
        by=by,
        reason=reason,
        target=f"schedule {name}",
        details=details,
        done=len(fired) if rows else 1,
        skipped=len(rows) - len(fired),
    )
    entries = [row.entry_id for row in fired if row.reliable and row.entry_id is not None]
    touch(kept.pk, dict.fromkeys(entries), "enqueued")
