"""Finish: end an attempt under its token. Each function raises Fenced if the token is not current.

All of them may join a transaction of the caller's: with ``atomic=True`` the body's effects and the
finish commit together or not at all.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, Final

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..errors import Fenced
from ..failure import Failure
from ..faults import reach
from ..models import Attempt
from ..states import Outcome, State
from . import keys
from .claim import Claim
from .guard import TABLE, database_id, explained, ledger_connection, moment, write
from .prepared import Statement

_ATTEMPTS: Final = Attempt._meta.db_table
# The crash that claim counted in advance did not happen: the attempt is here and reports.
CAME_BACK: Final = "crashes = CASE WHEN crashes > 0 THEN crashes - 1 ELSE 0 END"


def succeed(claim: Claim, *, now: datetime | None = None) -> None:
    """End the entry as succeeded, and its key, if it took one, or begin the key's window."""
    connection = ledger_connection()
    if claim.key is not None:
        succeed_with_key(connection, claim, "", [], now)
        return
    ended, params = moment(connection, 0.0, now)
    with explained(), connection.cursor() as cursor:
        _succeeding(ended).run(
            connection, cursor, [*params, database_id(connection, claim.entry), claim.token]
        )
        check_owned(claim, cursor.rowcount)


@cache
def _succeeding(ended: str) -> Statement:
    return Statement(_success(ended, _REASON), ("uuid", "int4"))


# It ended well before it noticed that somebody wanted to cancel it.
_REASON: Final = "CASE WHEN cancel_requested_at IS NULL THEN reason ELSE '' END"


def _success(ended: str, reason: str) -> str:
    return (
        f"UPDATE {TABLE} SET state = '{State.SUCCEEDED}', wake_at = NULL, "  # noqa: S608 - constants
        f"reason = {reason}, finished_at = {ended}, {CAME_BACK} "
        f"WHERE id = %s AND state = '{State.RUNNING}' AND attempt = %s"
    )


def succeed_with_key(
    connection: BaseDatabaseWrapper,
    claim: Claim,
    reason: str,
    reason_params: list[Any],
    now: datetime | None,
) -> None:
    """End the entry, and its key in the same statement, or transaction where that cannot be."""
    ended, at = moment(connection, 0.0, now)
    success = _success(ended, reason or _REASON)
    mine = [*reason_params, *at, database_id(connection, claim.entry), claim.token]
    freeing, params = keys.after_success(connection, claim.hold, now)
    if connection.vendor == "postgresql":
        sql = (
            f"WITH ended AS ({success} RETURNING id), "  # noqa: S608 - constants
            f"freed AS ({freeing} IN (SELECT id FROM ended)) SELECT count(*) FROM ended"
        )
        with explained(), connection.cursor() as cursor:
            cursor.execute(sql, [*mine, *params])
            check_owned(claim, cursor.fetchone()[0])
        return
    with transaction.atomic(using=connection.alias):
        check_owned(claim, write(connection, success, mine))
        write(connection, f"{freeing} = %s", [*params, database_id(connection, claim.entry)])


def reschedule(
    claim: Claim,
    failure: Failure,
    outcome: Outcome,
    *,
    delay: float,
    grace: float,
    due_at: datetime | None = None,
    max_retries: int | None = None,
    args: str | None = None,
    kwargs: str | None = None,
    options: str | None = None,
    queue: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
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
        args: JSON of other positional arguments for the next attempt; None keeps them.
        kwargs: JSON of other keyword arguments; None keeps them.
        options: JSON of other options; None keeps them.
        queue: another queue; None keeps it.
        subject_type: with ``subject_id``, what the entry is about from now on; None keeps it.
        subject_id: see ``subject_type``.
        charged: whether it counts as a retry; not if the body could not even begin.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    if due_at is None:
        due, due_params = moment(connection, delay, now)
    else:
        due, due_params = "%s", [connection.ops.adapt_datetimefield_value(due_at)]
    at_once = due_at is None and not delay
    wake, wake_params = moment(connection, grace, now) if at_once else (due, due_params)
    changes = (
        *(("args", args), ("kwargs", kwargs), ("options", options), ("queue", queue)),
        *(("subject_type", subject_type), ("subject_id", subject_id)),
    )
    given = {name: value for name, value in changes if value is not None}
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim,
            f"state = '{State.RETRYING}', retries = retries + {int(charged)}, max_retries = %s, "
            f"publishes = {int(at_once)}, "
            # Cancelled meanwhile: the sweeper must look at once, not when the retry is due.
            f"due_at = {due}, wake_at = CASE WHEN cancel_requested_at IS NULL THEN {wake} "
            f"ELSE cancel_requested_at END, {_ERROR}, {CAME_BACK}"
            + "".join(f", {name} = %s" for name in given),
            [max_retries, *due_params, *wake_params, *_error(failure), *given.values()],
        )
        _record(claim, failure, outcome, now)
        _block_again(claim, now)
        reach("fail.written")


def bury(
    claim: Claim,
    failure: Failure,
    outcome: Outcome,
    *,
    reason: str,
    max_retries: int | None = None,
    now: datetime | None = None,
) -> None:
    """End the entry as dead.

    Args:
        claim: the attempt.
        failure: what went wrong.
        outcome: what the attempt came to.
        reason: why there is no further attempt, in words for a person.
        max_retries: the limit in force, for people to read.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim,
            f"state = '{State.DEAD}', wake_at = NULL, finished_at = {ended}, reason = %s, "
            f"max_retries = %s, {_ERROR}, {CAME_BACK}",
            [*params, reason, max_retries, *_error(failure)],
        )
        _record(claim, failure, outcome, now)
        if claim.key is not None:
            keys.release([claim.entry], died=True)
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
        _record(claim, Failure(error_class="", message=why), Outcome.RELEASED, now)
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


def _block_again(claim: Claim, now: datetime | None) -> None:
    if claim.key is not None:
        keys.take_again([(claim.entry, claim.task, claim.hold)], now)


def stop(claim: Claim, *, now: datetime | None = None) -> None:
    """End an entry whose attempt was asked to stop and did."""
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim,
            f"state = '{State.CANCELLED}', wake_at = NULL, finished_at = {ended}, {CAME_BACK}",
            params,
            " AND cancel_requested_at IS NOT NULL",
        )
        _record(claim, Failure(error_class="", message="asked to stop"), Outcome.CANCELLED, now)
        if claim.key is not None:
            keys.release([claim.entry])


def discard(claim: Claim, failure: Failure, *, reason: str, now: datetime | None = None) -> None:
    """End an entry as cancelled because what it is about is gone, and its task says to let it be.

    Args:
        claim: the attempt, whose body was not run.
        failure: what is gone.
        reason: the same in words for a person.
        now: a fixed time instead of the database's clock, for tests.
    """
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    with transaction.atomic(using=connection.alias):
        finish_under_token(
            claim,
            f"state = '{State.CANCELLED}', wake_at = NULL, finished_at = {ended}, reason = %s, "
            f"{_ERROR}, {CAME_BACK}",
            [*params, reason, *_error(failure)],
        )
        _record(claim, failure, Outcome.REJECTED, now)
        if claim.key is not None:
            keys.release([claim.entry])


_ERROR: Final = "error_class = %s, error_message = %s, fingerprint = %s"


def _error(failure: Failure) -> list[str]:
    return [failure.error_class, failure.message, failure.fingerprint]


def finish_under_token(claim: Claim, changes: str, params: list[Any], extra: str = "") -> None:
    """Run the guarded statement that ends an attempt.

    Raises:
        Fenced: the token is not current.
    """
    connection = ledger_connection()
    touched = write(
        connection,
        f"UPDATE {TABLE} SET {changes} WHERE id = %s AND state = '{State.RUNNING}' "  # noqa: S608 - constants
        f"AND attempt = %s{extra}",
        [*params, database_id(connection, claim.entry), claim.token],
    )
    check_owned(claim, touched)


def check_owned(claim: Claim, touched: int) -> None:
    """Raise Fenced unless a guarded statement has touched the entry."""
    if touched != 1:
        raise Fenced(
            f"Attempt {claim.token} of {claim.task}[{claim.entry}] does not own its entry any "
            "more: its lease ended and the entry was taken over, or a person ended it. Nothing "
            "that this attempt wrote in its transaction is kept."
        )


def _record(claim: Claim, failure: Failure, outcome: Outcome, now: datetime | None) -> None:
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    write(
        connection,
        f"INSERT INTO {_ATTEMPTS} (entry_id, number, outcome, error_class, error_message, "  # noqa: S608 - constants
        "traceback, fingerprint, worker, started_at, ended_at) "
        f"SELECT id, attempt, %s, %s, %s, %s, %s, worker, started_at, {ended} FROM {TABLE} "
        "WHERE id = %s",
        [
            outcome.value,
            failure.error_class,
            failure.message,
            failure.traceback,
            failure.fingerprint,
            *params,
            database_id(connection, claim.entry),
        ],
    )
