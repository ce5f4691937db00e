"""Finish: end an attempt and its entry under the token; each function raises Fenced if it is stale.

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
            f"max_retries = %s, {ERROR}, {CAME_BACK}",
            [*params, reason, max_retries, *error_of(failure)],
        )
        record_attempt(claim, failure, outcome, now)
        if claim.key is not None:
            keys.release([claim.entry], died=True)
        reach("fail.written")


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
        record_attempt(
            claim, Failure(error_class="", message="asked to stop"), Outcome.CANCELLED, now
        )
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
            f"{ERROR}, {CAME_BACK}",
            [*params, reason, *error_of(failure)],
        )
        record_attempt(claim, failure, Outcome.REJECTED, now)
        if claim.key is not None:
            keys.release([claim.entry])


#: The columns that say what went wrong last; their parameters are those of :func:`error_of`.
ERROR: Final = "error_class = %s, error_message = %s, fingerprint = %s"


def error_of(failure: Failure) -> list[str]:
    """Return the parameters of ``ERROR``."""
    return [failure.error_class, failure.message, failure.fingerprint]


def finish_under_token(claim: Claim, changes: str, params: list[Any], extra: str = "") -> None:
    """Run the guarded statement that ends an attempt.

    Args:
        claim: the attempt.
        changes: SQL of what is set.
        params: the parameters of ``changes``.
        extra: SQL of a further condition, which begins with `` AND ``.

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


def record_attempt(claim: Claim, failure: Failure, outcome: Outcome, now: datetime | None) -> None:
    """Write down what an attempt came to, from what its entry's row has of it."""
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


def is_recorded(claim: Claim, outcome: Outcome) -> bool:
    """Tell whether this very attempt is on record with an outcome."""
    mine = Attempt.objects.using(ledger_connection().alias).filter(
        entry_id=claim.entry, number=claim.token
    )
    return mine.filter(outcome=outcome).exists()
