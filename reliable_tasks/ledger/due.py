"""What the sweeper does to entries whose ``wake_at`` has come.

One column, one index and one query serve everything that has a time: an entry that waits is
published (again), cancelled or expired; an entry that runs has lost its lease and is rescued.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import DurationField, ExpressionWrapper, F, Q, TextField
from django.db.models.functions import Cast

from .. import options
from ..errors import CorruptEntry
from ..faults import reach
from ..models import Entry
from ..states import WAITING, State
from ..wakeup import WakeUp
from . import keys
from .backlog import FUTILE
from .expire import end_expired, is_expired
from .guard import explained, moment_expression, short_transaction
from .pauses import Paused, forget_ended, paused, put_off
from .rescue import READ, Swept, Taken, entries, lock, rescue_rows

# The first look at an entry of no age at all would otherwise be at once.
_SHORTEST_LOOK: Final = 1.0


def seconds_until_wake(*, now: datetime | None = None) -> float | None:
    """Return seconds until the next entry needs the sweeper (negative if overdue), or None."""
    wait = ExpressionWrapper(
        F("wake_at") - moment_expression(0.0, now), output_field=DurationField()
    )
    soonest = entries().filter(wake_at__isnull=False).order_by("wake_at").annotate(wait=wait)
    with explained():
        first: timedelta | None = soonest.values_list("wait", flat=True).first()
    return None if first is None else first.total_seconds()


def sweep_due(
    *,
    limit: int,
    looks: int | None = None,
    recheck: float,
    longest: float,
    publishing: bool = True,
    counted: bool = True,
    shared: Collection[str] = (),
    rescuing: bool = True,
    now: datetime | None = None,
) -> Swept:
    """Move on every entry whose ``wake_at`` has come, up to a limit, in one transaction.

    Any number of sweepers may do this at once: each row is locked by one of them and skipped by
    the others.

    Args:
        limit: most entries to take, and to publish.
        looks: as many are taken if nothing is urgent, so that a long backlog whose looks are due
            is not searched through for each few of them; ``limit`` unless given.
        recheck: seconds until an entry that is published now is looked at again.
        longest: the time between two looks at an entry grows with its age up to this many seconds.
        publishing: False while the broker is down: entries that only wait for a publish are left
            as they are then.
        counted: the broker can be asked how many messages it holds, so that an entry that was
            published once only waits its turn; see ``backlog``. Otherwise it is published again.
        shared: queues on which messages of plain tasks spoil that count.
        rescuing: take over running entries whose lease has ended.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        What was done. Publishing is left to the caller, after the commit.
    """
    swept = Swept()
    with short_transaction():
        rows = _due_rows(limit, looks or limit, publishing=publishing, rescuing=rescuing, now=now)
        if rows:
            reach("sweep.locked")
        running = [row for row in rows if row.state == State.RUNNING]
        waiting = [row for row in rows if row.state in WAITING]
        rescued = rescue_rows(running, swept, now, expired_lease=True)
        waiting = _end_waiting(waiting, swept, now)
        if publishing:
            _mark_published(
                [*rescued, *waiting], swept, limit, counted, shared, recheck, longest, now
            )
        if rows:
            reach("sweep.marked")
    return swept


def _mark_published(
    rows: Sequence[Entry],
    swept: Swept,
    limit: int,
    counted: bool,
    shared: Collection[str],
    recheck: float,
    longest: float,
    now: datetime | None,
) -> None:
    if not rows:
        return
    held = paused(now=now)
    to_publish: list[Entry] = []
    to_put_off: list[Entry] = []
    for row in rows:
        goes = not held.holds(row) and _is_to_publish(row, counted, shared, longest)
        (to_publish if goes else to_put_off).append(row)
    del to_publish[limit:]  # they stay due
    _set_next_look(to_publish, recheck, longest, now, published=True)
    _set_next_look(to_put_off, recheck, longest, now, published=False)
    _heed_pauses(to_put_off, held, now)
    swept.wakeups = [_wakeup(row) for row in to_publish]
    swept.put_off = len(to_put_off)


def take_back(entry_ids: Iterable[UUID], *, retry_in: float, now: datetime | None = None) -> int:
    """Undo the mark of a publish that the broker did not take.

    Args:
        entry_ids: what was not published after all.
        retry_in: seconds until the sweeper tries again.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many entries still wait.
    """
    waiting = entries().filter(pk__in=list(entry_ids), state__in=WAITING)
    return waiting.update(publishes=0, published_at=None, wake_at=moment_expression(retry_in, now))


def _due_rows(
    limit: int, looks: int, *, publishing: bool, rescuing: bool, now: datetime | None
) -> list[Entry]:
    """Lock what is due: lost attempts first, then what must be published, then mere looks.

    A long backlog is due for a look all at once, and must not keep the others waiting.
    """
    age = ExpressionWrapper(moment_expression(0.0, now) - F("due_at"), output_field=DurationField())
    due = entries().filter(wake_at__lte=moment_expression(0.0, now))
    due = due.annotate(
        is_expired=is_expired(now), age=age, options_text=Cast("options", TextField())
    )
    waiting = due.filter(state__in=WAITING)
    ending = Q(cancel_requested_at__isnull=False) | is_expired(now)
    urgent = ending | Q(publishes=0) | Q(wake_at__lte=F("due_at"))
    kinds = [due.filter(state=State.RUNNING)] if rescuing else []
    kinds += (
        [waiting.filter(urgent), waiting.filter(~urgent)]
        if publishing
        else [waiting.filter(ending)]
    )
    rows: list[Entry] = []
    for kind in kinds:
        if len(rows) < limit:
            most = looks if publishing and kind is kinds[-1] and not rows else limit
            rows += lock(kind.order_by("wake_at").only(*READ))[: most - len(rows)]
    return rows


def _end_waiting(rows: Sequence[Entry], swept: Swept, now: datetime | None) -> list[Entry]:
    """Cancel what expired or was cancelled while it ran; return the rest."""
    expired: list[Entry] = []
    asked: list[Entry] = []
    left: list[Entry] = []
    for row in rows:
        if row.is_expired:  # type: ignore[attr-defined]
            expired.append(row)
        else:
            (left if row.cancel_requested_at is None else asked).append(row)
    swept.expired += end_expired(expired, now)
    # The reason was written when it was asked to stop.
    entries().filter(
        pk__in=[row.pk for row in asked], state__in=WAITING, cancel_requested_at__isnull=False
    ).update(state=State.CANCELLED, wake_at=None, finished_at=moment_expression(0.0, now))
    keys.release([row.pk for row in asked if row.key is not None])
    swept.cancelled += [Taken(row.pk, row.task, row.attempt, reason=row.reason) for row in asked]
    return left


def _is_to_publish(row: Entry, counted: bool, shared: Collection[str], longest: float) -> bool:
    # publishes == 0: a retry, a countdown, a rescue, a requeue. A wake_at that is no later than
    # due_at: its message, or as good as its, was found missing. Otherwise the entry waits its turn,
    # unless that cannot be told.
    if row.publishes == 0 or row.wake_at is None or row.wake_at <= row.due_at:
        return True
    old = row.age.total_seconds() >= longest  # type: ignore[attr-defined]
    return not counted or row.publishes >= FUTILE or (old and row.queue in shared)


def _set_next_look(
    rows: Sequence[Entry], recheck: float, longest: float, now: datetime | None, *, published: bool
) -> None:
    # The next look is set before the message is sent: were it the other way round, a sweeper that
    # dies in between would leave rows that every other sweeper publishes again and again.
    groups: dict[float, list[Entry]] = defaultdict(list)
    for row in rows:
        groups[_interval(row, recheck, longest)].append(row)
    for interval, group in groups.items():
        changes = {"wake_at": moment_expression(interval, now)}
        if published:
            changes["publishes"] = F("publishes") + 1
            changes["published_at"] = moment_expression(0.0, now)
        entries().filter(pk__in=[row.pk for row in group], state__in=WAITING).update(**changes)
    # An entry that expires before that must be looked at when it expires.
    expiring = [row.pk for row in rows if row.expires_at is not None]
    if expiring:
        soon = entries().filter(pk__in=expiring, expires_at__lt=F("wake_at"))
        soon.update(wake_at=F("expires_at"))


def _heed_pauses(rows: Sequence[Entry], held: Paused, now: datetime | None) -> None:
    if held.some_ended:
        forget_ended(now=now)
    if held:
        put_off([row for row in rows if held.holds(row)], held, now=now)


def _interval(row: Entry, recheck: float, longest: float) -> float:
    """Double the time between looks with the entry's age: few values, so few statements."""
    age = row.age.total_seconds()  # type: ignore[attr-defined]
    interval = max(recheck, _SHORTEST_LOOK)
    while interval < min(age, longest):
        interval *= 2
    return min(interval, longest)


def _wakeup(row: Entry) -> WakeUp:
    # Text that is no JSON would end the whole sweep if the ORM read it. So it is this entry's own
    # affair: published without its options, it is claimed, and buried.
    try:
        kept = options.loads(row.options_text)  # type: ignore[attr-defined]
    except CorruptEntry:
        kept = {}
    return WakeUp(str(row.pk), row.task, row.queue, row.priority, kept)
