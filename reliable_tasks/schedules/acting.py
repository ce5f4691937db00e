"""What the operations on schedules share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from .. import operations
from ..ledger import schedules as ledger
from ..ledger.guard import ledger_connection
from ..ledger.schedules import Progress
from ..models import Occurrence
from . import adopting
from .reading import Schedule
from .sending import Sender
from .spec import Plan


def ensure_state(known: Schedule, now: datetime) -> Progress:
    """Return how far a schedule has come; it gets a state if no beat has seen it yet."""
    ledger.begin([adopting.first_state(known, now)])
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
            sender.send(owed, lambda _: known)
            sender.close()

        transaction.on_commit(send, using=ledger_connection().alias, robust=True)


def said_by(reason: str, by: str) -> str:
    """Return a reason with who gave it."""
    if not by:
        return reason
    return f"By {by}: {reason}" if reason else f"By {by}."
