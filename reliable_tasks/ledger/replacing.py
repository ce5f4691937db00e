"""What becomes of an entry whose body put something else in its place."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from ..models import Entry
from ..states import State
from .claim import Claim
from .enqueue import WORKFLOW, NewEntry
from .finish import CAME_BACK, finish_under_token, succeed_with_key
from .guard import ledger_connection, moment
from .keys import take_again


def has_ended(claim: Claim) -> bool:
    """Tell whether this very attempt has ended its entry well, or turned it into another task's."""
    mine = Entry.objects.using(ledger_connection().alias).filter(
        pk=claim.entry, attempt=claim.token
    )
    return mine.filter(state__in=[State.SUCCEEDED, State.PENDING]).exists()


def hand_over(claim: Claim, *, now: datetime | None = None) -> None:
    """End an entry that put a workflow in its place; see :func:`was_replaced`."""
    connection = ledger_connection()
    if claim.key is not None:
        succeed_with_key(connection, claim, "%s", [WORKFLOW], now)
        return
    ended, params = moment(connection, 0.0, now)
    finish_under_token(
        claim,
        f"state = '{State.SUCCEEDED}', wake_at = NULL, finished_at = {ended}, reason = %s, "
        f"{CAME_BACK}",
        [*params, WORKFLOW],
    )


def replace(
    claim: Claim, successor: NewEntry, *, grace: float, now: datetime | None = None
) -> None:
    """Turn the entry into another task's, as Celery's ``Task.replace`` asks, under the same id.

    Args:
        claim: the attempt that asked for it.
        successor: the task, arguments, options and queue to go on with.
        grace: seconds until the sweeper publishes it, if the caller does not.
        now: a fixed time instead of the database's clock, for tests.
    """
    changes, params = _turning_into(successor, grace, now)
    if claim.key is None:
        finish_under_token(claim, changes, params)
        return
    with transaction.atomic(using=ledger_connection().alias):
        finish_under_token(claim, changes, params)
        # It waits again, and so it blocks again.
        take_again([(claim.entry, claim.task, claim.hold)], now)


def _turning_into(successor: NewEntry, grace: float, now: datetime | None) -> tuple[str, list[Any]]:
    connection = ledger_connection()
    due, due_params = moment(connection, 0.0, now)
    wake, wake_params = moment(connection, grace, now)
    wake = f"CASE WHEN cancel_requested_at IS NULL THEN {wake} ELSE cancel_requested_at END"
    changes = (
        f"state = '{State.PENDING}', task = %s, args = %s, kwargs = %s, options = %s, queue = %s, "
        f"priority = %s, max_retries = %s, crash_budget = %s, retries = 0, crashes = 0, "
        f"subject_type = %s, subject_id = %s, publishes = 1, due_at = {due}, wake_at = {wake}"
    )
    return changes, [
        successor.task,
        successor.args,
        successor.kwargs,
        successor.options,
        successor.queue,
        successor.priority,
        successor.max_retries,
        successor.crash_budget,
        successor.subject_type,
        successor.subject_id,
        *due_params,
        *wake_params,
    ]
