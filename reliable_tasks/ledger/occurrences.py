"""What became of due times: the rows that say so, and the messages that they still owe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from uuid import UUID

from django.db.models import F, QuerySet

from ..models import Entry, Occurrence
from ..occurrence import Cause, Fate
from ..states import ACTIVE, State
from . import marks
from .guard import database_id, explained, ledger_connection, moment_expression, short_transaction

# How many of a schedule's latest runs are looked at for one that has not ended.
_RECENT = 20
_NO_TIME = timedelta(microseconds=1)


def record(occurrences: Sequence[Occurrence]) -> None:
    """Write occurrences; they get their ids.

    Raises:
        IntegrityError: one of the due times has an occurrence already.
    """
    with explained():
        _rows().bulk_create(list(occurrences), batch_size=500)
    if not ledger_connection().features.can_return_rows_from_bulk_insert:  # as MySQL
        ids = {
            (schedule, due): key
            for schedule, due, key in _rows()
            .filter(
                schedule_id__in={each.schedule_id for each in occurrences},
                due_at__in={each.due_at for each in occurrences},
            )
            .values_list("schedule_id", "due_at", "pk")
        }
        for each in occurrences:
            each.pk = ids[each.schedule_id, each.due_at]


def record_many(occurrences: Sequence[Occurrence]) -> None:
    """Write occurrences at a tenth of the cost; only those that owe a message get their ids.

    Raises:
        IntegrityError: one of the due times has an occurrence already.
    """
    owing = [each for each in occurrences if each.send_at is not None]
    if owing:
        record(owing)
    rows = [
        [getattr(each, name) for name in _INSERTED] for each in occurrences if each.send_at is None
    ]
    if not rows:
        return
    connection = ledger_connection()
    with explained(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_insert_arrays(), [list(column) for column in zip(*rows, strict=True)])
            return
        adapt = connection.ops.adapt_datetimefield_value
        for row in rows:
            for number, value in enumerate(row):
                if isinstance(value, datetime):
                    row[number] = adapt(value)
                elif isinstance(value, UUID):
                    row[number] = database_id(connection, value)
        quote = connection.ops.quote_name
        names = ", ".join(quote(name) for name in _INSERTED)
        into = f"INSERT INTO {quote(_TABLE)} ({names})"
        cursor.executemany(f"{into} VALUES ({', '.join(['%s'] * len(_INSERTED))})", rows)


_TABLE: Final = Occurrence._meta.db_table
# The columns of an occurrence that owes no message, and their types in PostgreSQL's words.
_INSERTED: Final = {
    "schedule_id": "int",
    "due_at": "timestamptz",
    "last_due_at": "timestamptz",
    "count": "int",
    "trigger": "text",
    "outcome": "text",
    "cause": "text",
    "reason": "text",
    "entry_id": "uuid",
    "reliable": "boolean",
    "handled_at": "timestamptz",
}


@cache
def _insert_arrays() -> str:
    names = ", ".join(f'"{name}"' for name in _INSERTED)
    arrays = ", ".join(f"%s::{kind}[]" for kind in _INSERTED.values())
    return f'INSERT INTO "{_TABLE}" ({names}) SELECT * FROM unnest({arrays})'  # noqa: S608


def recorded(schedule: int, dues: Iterable[datetime]) -> dict[datetime, Occurrence]:
    """Return the occurrences that due times have already."""
    found = _rows().filter(schedule_id=schedule, due_at__in=list(dues))
    return {each.due_at: each for each in found}


def dues_between(schedule: int, first: datetime, last: datetime) -> set[datetime]:
    """Return the due times of a range that have an occurrence of their own."""
    rows = _rows().filter(schedule_id=schedule, due_at__gte=first, due_at__lte=last, count=1)
    return set(rows.values_list("due_at", flat=True))


def recorded_between(schedule: int, start: datetime, end: datetime) -> list[Occurrence]:
    """Return the occurrences that touch a range, locked, oldest first."""
    rows = _rows().filter(schedule_id=schedule, due_at__lte=end).order_by("due_at")
    touching = rows.filter(due_at__gte=start) | rows.filter(last_due_at__gte=start)
    return list(touching.select_for_update())


def replace(found: Occurrence, new: Occurrence) -> bool:
    """Write an occurrence in place of one that did not fire, or cut it out of a stretch.

    Args:
        found: the row that accounts for the due time.
        new: what became of it now.

    Returns:
        False if the row has changed meanwhile.
    """
    rows = _rows().filter(pk=found.pk, count=found.count, due_at=found.due_at)
    rows = rows.exclude(outcome=Fate.FIRED)
    if found.count == 1:
        new.pk = found.pk
        return bool(
            rows.update(
                **{
                    name: getattr(new, name)
                    for name in (
                        *("trigger", "outcome", "cause", "reason", "entry_id", "reliable"),
                        *("send_at", "handled_at"),
                    )
                }
            )
        )
    # The stretch begins a trifle later where its first due time has got a row of its own.
    begins = found.due_at + (_NO_TIME if new.due_at == found.due_at else timedelta(0))
    if not rows.update(count=F("count") - 1, due_at=begins):
        return False
    found.count, found.due_at = found.count - 1, begins
    record([new])
    return True


def handled_at(times: Mapping[int, datetime]) -> set[int]:
    """Return the schedules that fired, as their occurrences say, at just these instants."""
    rows = _rows().filter(outcome=Fate.FIRED, schedule_id__in=list(times))
    found = rows.filter(handled_at__in=set(times.values())).values_list("schedule_id", "handled_at")
    return {schedule for schedule, at in found if times[schedule] == at}


# -- runs that have not ended, and runs that failed -----------------------------------------------


def unended(schedule: int) -> list[UUID]:
    """Return the entries of a schedule's latest runs that have not ended."""
    entries = _latest_entries(schedule, _RECENT)
    if not entries:
        return []
    rows = Entry.objects.using(_alias()).filter(pk__in=entries, state__in=ACTIVE)
    return list(rows.values_list("pk", flat=True))


def failures_in_a_row(schedule: int, most: int, since: datetime | None) -> int:
    """Return how many of the latest runs that have ended are dead, one after the other.

    Args:
        schedule: the schedule.
        most: no more need be counted.
        since: runs that were fired before this do not count.
    """
    entries = _latest_entries(schedule, most + _RECENT, since)
    rows = Entry.objects.using(_alias()).filter(pk__in=entries)
    states = dict(rows.values_list("pk", "state"))
    count = 0
    for entry in entries:
        state = states.get(entry)
        if state == State.DEAD:
            count += 1
        elif state in (None, State.SUCCEEDED):
            break
        if count == most:
            break
    return count


def _latest_entries(schedule: int, count: int, since: datetime | None = None) -> list[UUID]:
    rows = _rows().filter(schedule_id=schedule, outcome=Fate.FIRED, reliable=True)
    if since is not None:
        rows = rows.filter(handled_at__gt=since)
    found = rows.order_by("-due_at").values_list("entry_id", flat=True)[:count]
    return [entry for entry in found if entry is not None]


# -- messages of plain Celery tasks ---------------------------------------------------------------


def owed(limit: int, *, now: datetime | None = None) -> list[Occurrence]:
    """Return occurrences whose message is to be sent (again), longest due first."""
    at = moment_expression(0.0, now)
    rows = _rows().filter(send_at__isnull=False, send_at__lte=at).order_by("send_at")
    return list(rows[:limit])


def take(occurrence: Occurrence, seconds: float, *, now: datetime | None = None) -> bool:
    """Take the sending of a message upon oneself for some time; False if another beat did."""
    rows = _rows().filter(pk=occurrence.pk, send_at=occurrence.send_at)
    return bool(rows.update(send_at=moment_expression(seconds, now)))


def postpone(schedule: int, seconds: float, *, now: datetime | None = None) -> None:
    """Leave all messages that a schedule owes for some time, so that those of others come first."""
    later = moment_expression(seconds, now)
    rows = _rows().filter(schedule_id=schedule, send_at__isnull=False, send_at__lt=later)
    rows.update(send_at=later)


def refuse(occurrence: int, reason: str) -> None:
    """Note that a message can never be sent, because the task refuses the call."""
    _rows().filter(pk=occurrence, send_at__isnull=False).update(
        send_at=None, outcome=Fate.MISSED, cause=Cause.REFUSED, reason=reason
    )


def sent(occurrences: Iterable[int]) -> None:
    """Note that messages were handed to the broker."""
    _rows().filter(pk__in=list(occurrences)).update(send_at=None)


# -- keeping --------------------------------------------------------------------------------------


def prune(older_than: timedelta, *, batch: int, now: datetime | None = None) -> int:
    """Delete occurrences handled longer ago than that, in one bounded transaction.

    Args:
        older_than: how long ago at least.
        batch: most rows to delete.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many were deleted; call again until it is 0.
    """
    before = moment_expression(-older_than.total_seconds(), now)
    with short_transaction():
        old = _rows().filter(handled_at__lt=before, send_at__isnull=True)
        oldest = old.order_by("handled_at")
        found = list(oldest.values_list("pk", "schedule_id", "due_at", "last_due_at")[:batch])
        # So that a backfill does not fire again what it finds no row of any more. Schedules are
        # locked before their occurrences, as everywhere.
        until: dict[int, datetime] = {}
        for _, schedule, due, last in found:
            until[schedule] = max(last or due, until.get(schedule, due))
        marks.mark_pruned(until)
        # Only what was marked is deleted, and of that only what still is as it was.
        chosen = [pk for pk, *_ in found]
        if ledger_connection().features.has_select_for_update_skip_locked:
            free = old.filter(pk__in=chosen).select_for_update(skip_locked=True)
            chosen = list(free.values_list("pk", flat=True))
        return int(old.filter(pk__in=chosen)._raw_delete(_alias())) if chosen else 0


def _rows() -> QuerySet[Occurrence]:
    return Occurrence.objects.using(_alias())


def _alias() -> str:
    return ledger_connection().alias
