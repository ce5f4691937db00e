"""Claim, renew, progress: who may run an entry, and for how long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..dedup import Hold
from ..models import Entry
from ..options import loads
from ..states import WAITING, State
from .guard import (
    TABLE,
    database_id,
    explained,
    ledger_connection,
    moment,
    moment_expression,
    write,
)
from .pauses import not_paused_sql
from .prepared import Statement

_FIELDS: Final = (
    *("task", "args", "kwargs", "options", "queue", "priority", "attempt", "retries", "crashes"),
    *("root_id", "parent_id", "group_id", "schedule", "key"),
)
# MariaDB has a word KEY.
_COLUMNS: Final = ", ".join(f"{TABLE}.key" if name == "key" else name for name in _FIELDS)
_WAITING: Final = ", ".join(f"'{state}'" for state in sorted(WAITING))


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of an entry.

    Attributes:
        entry: the entry's id.
        token: the attempt number, which every later write of this attempt repeats.
        task: the task's name.
        args: JSON of the positional arguments (text, or parsed by the driver).
        kwargs: JSON of the keyword arguments.
        options: JSON of the options, or None.
        queue: the entry's queue.
        priority: the entry's priority.
        retries: failed attempts behind it since it was enqueued or requeued.
        crashes: crashes charged to it, this attempt's advance included.
        root_id: first of its workflow.
        parent_id: who enqueued it.
        group_id: its group.
        schedule: the schedule that enqueued it.
        worker: who holds the lease.
        key: the readable form of the key that it took, None if it took none.
    """

    entry: UUID
    token: int
    task: str
    args: Any
    kwargs: Any
    options: Any
    queue: str
    priority: int | None
    retries: int
    crashes: int
    root_id: UUID | None
    parent_id: UUID | None
    group_id: UUID | None
    schedule: str
    worker: str
    key: str | None = None

    @property
    def hold(self) -> Hold | None:
        """The key that the entry took, None if it took none."""
        return None if self.key is None else Hold.of(loads(self.options), self.key)


def claim(
    entry_id: UUID,
    worker: str,
    *,
    lease: float,
    task: str | None = None,
    ignore_due: bool = False,
    now: datetime | None = None,
) -> Claim | None:
    """Take the lease of an entry that waits and is due.

    The crash is counted in advance: if nobody ever reports back, it stays counted.

    Args:
        entry_id: the entry.
        worker: who claims, see :func:`reliable_tasks.identity.identity`.
        lease: seconds until the lease ends unless it is renewed.
        task: claim only if it is this task's; the message may be older than a replacement.
        ignore_due: claim even if a retry is not due yet, or paused (eager mode never waits).
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        The claim, or None if the entry is gone, running, ended, expired, paused or not yet due.
    """
    connection = ledger_connection()
    now_sql, now_params = moment(connection, 0.0, now)
    lease_sql, lease_params = moment(connection, lease, now)
    params = [
        worker,
        *now_params,
        *lease_params,
        database_id(connection, entry_id),
        *([] if ignore_due else now_params),
        *now_params,
        *([] if task is None else [task]),
        *([] if ignore_due else now_params),
    ]
    statement = _statement(connection.vendor, now_sql, lease_sql, ignore_due, task is not None)
    row = _update_returning(connection, statement, params, entry_id)
    return None if row is None else _held(entry_id, worker, row)


def _held(entry_id: UUID, worker: str, row: Sequence[Any]) -> Claim:
    task, args, kwargs, options, queue, priority, token, retries, crashes, *others = row
    *links, schedule, key = others
    root_id, parent_id, group_id = map(_uuid, links)
    return Claim(
        entry=entry_id,
        token=token,
        task=task,
        args=args,
        kwargs=kwargs,
        options=options,
        queue=queue,
        priority=priority,
        retries=retries,
        crashes=crashes,
        root_id=root_id,
        parent_id=parent_id,
        group_id=group_id,
        schedule=schedule,
        worker=worker,
        key=key,
    )


@cache
def _statement(
    vendor: str, now_sql: str, lease_sql: str, ignore_due: bool, of_task: bool
) -> Statement:
    due = "" if ignore_due else f" AND due_at <= {now_sql}"
    mine = " AND task = %s" if of_task else ""
    # An eager call waits for nothing; everybody else, see Note [Paused].
    awake = "" if ignore_due else f" AND {not_paused_sql(now_sql)}"
    # MySQL has no UPDATE … RETURNING.
    returning = "" if vendor == "mysql" else f" RETURNING {_COLUMNS}"
    sql = (
        f"UPDATE {TABLE} SET state = '{State.RUNNING}', attempt = attempt + 1, "  # noqa: S608 - constants
        f"crashes = crashes + 1, worker = %s, started_at = {now_sql}, wake_at = {lease_sql}, "
        f"progress = NULL WHERE id = %s AND state IN ({_WAITING}){due} "
        f"AND (expires_at IS NULL OR expires_at > {now_sql}) AND cancel_requested_at IS NULL"
        f"{mine}{awake}{returning}"
    )
    return Statement(sql, ("text", "float8", "uuid", *(["text"] if of_task else [])))


def _update_returning(
    connection: BaseDatabaseWrapper, statement: Statement, params: list[Any], entry_id: UUID
) -> Any:
    with explained(), connection.cursor() as cursor:
        statement.run(connection, cursor, params)
        if connection.vendor != "mysql":
            return cursor.fetchone()
        if cursor.rowcount != 1:
            return None
        # Between the two statements nobody else can change the columns read: they belong to
        # whoever holds the lease.
        cursor.execute(
            f"SELECT {_COLUMNS} FROM {TABLE} WHERE id = %s",  # noqa: S608 - constants
            [database_id(connection, entry_id)],
        )
        return cursor.fetchone()


def _uuid(value: Any) -> UUID | None:
    return value if value is None or isinstance(value, UUID) else UUID(value)


def claim_of(
    entry_id: UUID, worker: str, *, begun_for: float, now: datetime | None = None
) -> Claim | None:
    """Return the claim that a worker holds on an entry, for whoever has to end it from outside.

    Args:
        entry_id: the entry.
        worker: who holds it.
        begun_for: seconds; an attempt that began later is not meant.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        The claim, or None if the worker runs no such attempt.
    """
    held = Entry.objects.using(ledger_connection().alias).filter(
        pk=entry_id,
        state=State.RUNNING,
        worker=worker,
        started_at__lte=moment_expression(-begun_for, now),
    )
    row = held.values_list(*_FIELDS).first()
    return None if row is None else _held(entry_id, worker, row)


def renew(
    entry_ids: Collection[UUID], worker: str, *, lease: float, now: datetime | None = None
) -> int:
    """Extend the leases of the entries that a worker really runs.

    One that somebody holds locked is left out: waiting for it would cost all the others their
    leases, and as long as it is locked no sweeper takes it over.

    Args:
        entry_ids: what it runs.
        worker: who it is; leases that somebody else holds by now are left alone.
        lease: seconds from now.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many leases were extended.
    """
    connection = ledger_connection()
    running = Entry.objects.using(connection.alias).filter(state=State.RUNNING, worker=worker)
    at = moment_expression(lease, now)
    if connection.vendor == "postgresql":
        end, params = moment(connection, lease, now)
        sql = (
            f"UPDATE {TABLE} SET wake_at = {end} WHERE id IN (SELECT id FROM {TABLE} "  # noqa: S608 - constants
            f"WHERE id = ANY(%s::uuid[]) AND state = '{State.RUNNING}' AND worker = %s "
            "FOR UPDATE SKIP LOCKED)"
        )
        return write(connection, sql, [*params, list(entry_ids), worker])
    if not connection.features.has_select_for_update_skip_locked:
        with explained():
            return running.filter(pk__in=entry_ids).update(wake_at=at)
    with explained(), transaction.atomic(using=connection.alias):
        free = running.filter(pk__in=entry_ids).select_for_update(skip_locked=True)
        return running.filter(pk__in=list(free.values_list("pk", flat=True))).update(wake_at=at)


def asked_to_stop(entry_ids: Collection[UUID], worker: str) -> list[UUID]:
    """Return those of a worker's running entries that somebody cancelled."""
    alias = ledger_connection().alias
    held = Entry.objects.using(alias).filter(pk__in=entry_ids, state=State.RUNNING, worker=worker)
    return list(held.filter(cancel_requested_at__isnull=False).values_list("pk", flat=True))


def is_asked_to_stop(entry_id: UUID, token: int) -> bool:
    """Tell whether this attempt was asked to stop."""
    alias = ledger_connection().alias
    return (
        Entry.objects.using(alias)
        .filter(pk=entry_id, attempt=token, cancel_requested_at__isnull=False)
        .exists()
    )


def report_progress(entry_id: UUID, token: int, progress: dict[str, Any]) -> bool:
    """Keep how far a running attempt has come.

    Args:
        entry_id: the entry.
        token: the attempt's number.
        progress: what it reports, as JSON values.

    Returns:
        False if the attempt does not own the entry any more.
    """
    alias = ledger_connection().alias
    held = Entry.objects.using(alias).filter(pk=entry_id, state=State.RUNNING, attempt=token)
    return held.update(progress=progress) == 1
