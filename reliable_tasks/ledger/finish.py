"""Finish: end an attempt under its token. Each function raises Fenced if the token is not current.

All of them may join a transaction of the caller's: with ``atomic=True`` the body's effects and the
finish commit together or not at all.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, Final

from django.db import transaction

from ..errors import Fenced
from ..failure import Failure
from ..faults import reach
from ..models import Attempt, Entry
from ..states import Outcome, State
from .claim import Claim
from .enqueue import WORKFLOW, NewEntry
from .guard import TABLE, database_id, explained, ledger_connection, moment, write
from .prepared import Statement

_ATTEMPTS: Final = Attempt._meta.db_table
# The crash that claim counted in advance did not happen: the attempt is here and reports.
_CAME_BACK: Final = "crashes = CASE WHEN crashes > 0 THEN crashes - 1 ELSE 0 END"


def succeed(claim: Claim, *, now: datetime | None = None) -> None:
    """End the entry as succeeded."""
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    with explained(), connection.cursor() as cursor:
        _succeeding(ended).run(
            connection, cursor, [*params, database_id(connection, claim.entry), claim.token]
        )
        _check_owned(claim, cursor.rowcount)


@cache
def _succeeding(ended: str) -> Statement:
    sql = (
        f"UPDATE {TABLE} SET state = '{State.SUCCEEDED}', wake_at = NULL, "  # noqa: S608 - constants
        # It ended well before it noticed that somebody wanted to cancel it.
        f"reason = CASE WHEN cancel_requested_at IS NULL THEN reason ELSE '' END, "
        f"finished_at = {ended}, {_CAME_BACK} "
        f"WHERE id = %s AND state = '{State.RUNNING}' AND attempt = %s"
    )
    return Statement(sql, ("uuid", "int4"))


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
        _finish(
            claim,
            f"state = '{State.RETRYING}', retries = retries + {int(charged)}, max_retries = %s, "
            f"publishes = {int(at_once)}, "
            # Cancelled meanwhile: the sweeper must look at once, not when the retry is due.
            f"due_at = {due}, wake_at = CASE WHEN cancel_requested_at IS NULL THEN {wake} "
            f"ELSE cancel_requested_at END, {_ERROR}, {_CAME_BACK}"
            + "".join(f", {name} = %s" for name in given),
            [max_retries, *due_params, *wake_params, *_error(failure), *given.values()],
        )
        _record(claim, failure, outcome, now)
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
        _finish(
            claim,
            f"state = '{State.DEAD}', wake_at = NULL, finished_at = {ended}, reason = %s, "
            f"max_retries = %s, {_ERROR}, {_CAME_BACK}",
            [*params, reason, max_retries, *_error(failure)],
        )
        _record(claim, failure, outcome, now)
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
        _finish(claim, f"state = {back}, wake_at = {soon}, publishes = 0, {_CAME_BACK}", params)
        _record(claim, Failure(error_class="", message=why), Outcome.RELEASED, now)
        reach("release.written")


def stop(claim: Claim, *, now: datetime | None = None) -> None:
    """End an entry whose attempt was asked to stop and did."""
    connection = ledger_connection()
    ended, params = moment(connection, 0.0, now)
    with transaction.atomic(using=connection.alias):
        _finish(
            claim,
            f"state = '{State.CANCELLED}', wake_at = NULL, finished_at = {ended}, {_CAME_BACK}",
            params,
            " AND cancel_requested_at IS NOT NULL",
        )
        _record(claim, Failure(error_class="", message="asked to stop"), Outcome.CANCELLED, now)


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
        _finish(
            claim,
            f"state = '{State.CANCELLED}', wake_at = NULL, finished_at = {ended}, reason = %s, "
            f"{_ERROR}, {_CAME_BACK}",
            [*params, reason, *_error(failure)],
        )
        _record(claim, failure, Outcome.REJECTED, now)


def has_ended(claim: Claim) -> bool:
    """Tell whether this very attempt has ended its entry well, or turned it into another task's."""
    mine = Entry.objects.using(ledger_connection().alias).filter(
        pk=claim.entry, attempt=claim.token
    )
    return mine.filter(state__in=[State.SUCCEEDED, State.PENDING]).exists()


def hand_over(claim: Claim, *, now: datetime | None = None) -> None:
    """End an entry that put a workflow in its place; see :func:`was_replaced`."""
    ended, params = moment(ledger_connection(), 0.0, now)
    _finish(
        claim,
        f"state = '{State.SUCCEEDED}', wake_at = NULL, finished_at = {ended}, reason = %s, "
        f"{_CAME_BACK}",
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
    connection = ledger_connection()
    due, due_params = moment(connection, 0.0, now)
    wake, wake_params = moment(connection, grace, now)
    wake = f"CASE WHEN cancel_requested_at IS NULL THEN {wake} ELSE cancel_requested_at END"
    _finish(
        claim,
        f"state = '{State.PENDING}', task = %s, args = %s, kwargs = %s, options = %s, queue = %s, "
        f"priority = %s, max_retries = %s, crash_budget = %s, retries = 0, crashes = 0, "
        f"subject_type = %s, subject_id = %s, publishes = 1, due_at = {due}, wake_at = {wake}",
        [
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
        ],
    )


_ERROR: Final = "error_class = %s, error_message = %s, fingerprint = %s"


def _error(failure: Failure) -> list[str]:
    return [failure.error_class, failure.message, failure.fingerprint]


def _finish(claim: Claim, changes: str, params: list[Any], extra: str = "") -> None:
    connection = ledger_connection()
    touched = write(
        connection,
        f"UPDATE {TABLE} SET {changes} WHERE id = %s AND state = '{State.RUNNING}' "  # noqa: S608 - constants
        f"AND attempt = %s{extra}",
        [*params, database_id(connection, claim.entry), claim.token],
    )
    _check_owned(claim, touched)


def _check_owned(claim: Claim, touched: int) -> None:
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
