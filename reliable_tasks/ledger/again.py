"""End an attempt so that another one follows; each function raises Fenced if the token is stale.

All of them may join a transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..dedup import FOLLOWS
from ..failure import Failure
from ..faults import reach
from ..options import LONGEST, loads
from ..states import Outcome, State
from . import keys
from .claim import Claim
from .finish import CAME_BACK, ERROR, error_of, finish_under_token, record_attempt
from .guard import ledger_connection, moment

# What another attempt may get instead of what the entry has.
_CHANGEABLE: Final = (
    *("args", "kwargs", "options", "queue", "priority", "subject_type", "subject_id"),
)


def reschedule(
    claim: Claim,
    failure: Failure,
    outcome: Outcome,
    *,
    delay: float,
    grace: float,
    due_at: datetime | None = None,
    max_retries: int | None = None,
    changes: Mapping[str, Any] | None = None,
    charged: bool = True,
    now: datetime | None = None,
) -> None:
    """Let another attempt follow, and keep what became of this one.

    Args:
        claim: the attempt.
        failure: what went wrong.
        outcome: what the attempt came to.
        delay: seconds until the next attempt is due, when ``due_at`` is None.
        grace: seconds the sweeper waits if the next attempt is due at once, because the caller
            publishes it then.
        due_at: when the next attempt is due.
        max_retries: the limit in force, for people to read.
        changes: what the next attempt gets instead of what the entry has: JSON texts of ``args``,
            ``kwargs`` or ``options``; ``queue``; ``priority``; ``subject_type`` and ``subject_id``.
        charged: whether it counts as a retry; not if the body could not even begin.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    # It may come from a `raise Retry` or a task's options. A time that no database can express, or
    # no number at all, would keep the attempt's end from being written.
    delay = min(max(0.0, delay), LONGEST)
    due, due_params = _due(connection, due_at, delay, now)
    at_once = due_at is None and not delay
    wake, wake_params = moment(connection, grace, now) if at_once else (due, due_params)
    given = {name: changes[name] for name in _CHANGEABLE if changes and name in changes}
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim,
            f"state = '{State.RETRYING}', retries = retries + {int(charged)}, max_retries = %s, "
            f"publishes = {int(at_once)}, "
            # Cancelled meanwhile: the sweeper must look at once, not when the retry is due.
            f"due_at = {due}, wake_at = CASE WHEN cancel_requested_at IS NULL THEN {wake} "
            f"ELSE cancel_requested_at END, {ERROR}, {CAME_BACK}"
            + "".join(f", {name} = %s" for name in given),
            [max_retries, *due_params, *wake_params, *error_of(failure), *given.values()],
        )
        record_attempt(claim, failure, outcome, now)
        _block_again(claim, now)
        reach("fail.written")


def release(claim: Claim, *, why: str, now: datetime | None = None) -> None:
    """Give the entry back uncharged: no retry and no crash is counted.

    Args:
        claim: the attempt.
        why: what interrupted it, in words.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    soon, params = moment(connection, 0.0, now)
    back = f"CASE WHEN retries > 0 THEN '{State.RETRYING}' ELSE '{State.PENDING}' END"
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim, f"state = {back}, wake_at = {soon}, publishes = 0, {CAME_BACK}", params
        )
        record_attempt(claim, Failure(error_class="", message=why), Outcome.RELEASED, now)
        _block_again(claim, now)
        reach("release.written")


def put_off(claim: Claim, *, delay: float, now: datetime | None = None) -> None:
    """Give the entry back until later, uncharged and without a record: nothing has begun.

    Args:
        claim: the attempt.
        delay: seconds until the next one is due.
        now: a fixed time instead of the database's clock, for tests.
    """
    due, params = moment(ledger_connection(), delay, now)
    back = f"CASE WHEN retries > 0 THEN '{State.RETRYING}' ELSE '{State.PENDING}' END"
    finish_under_token(
        claim,
        f"state = {back}, due_at = {due}, publishes = 0, {CAME_BACK}, "
        f"wake_at = CASE WHEN cancel_requested_at IS NULL THEN {due} ELSE cancel_requested_at END",
        [*params, *params],
    )


def _due(
    connection: BaseDatabaseWrapper, due_at: datetime | None, delay: float, now: datetime | None
) -> tuple[str, list[Any]]:
    if due_at is None:
        return moment(connection, delay, now)
    return "%s", [connection.ops.adapt_datetimefield_value(due_at)]


def _block_again(claim: Claim, now: datetime | None) -> None:
    # One that follows does not run: a key of its own would refuse calls whose work nobody does.
    if claim.key is not None and FOLLOWS not in loads(claim.options):
        keys.take_again([(claim.entry, claim.task, claim.hold)], now)
