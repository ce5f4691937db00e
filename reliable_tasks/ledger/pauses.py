"""Queues and tasks that are paused: what keeps their entries from being claimed, and lets them go.

Note [Paused]: the claim's own statement looks at the table of pauses, which is nearly always empty
and small otherwise. So a pause holds from the moment it commits, in every process, and no cache can
be stale. A wake-up that comes meanwhile wakes nothing and is dropped like any other; the sweeper
does not publish what is paused, and puts off its look at it. On resume the oldest entries are
pulled forward at once, and the count of missing messages (see ``backlog``) brings the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet

from ..models import Entry
from ..oversight import Kind, Pause
from ..states import WAITING
from .guard import TABLE, explained, ledger_connection, moment_expression

#: Entries that a resume pulls forward by itself, before it returns.
PULLED_AT_ONCE: Final = 1_000
_PAUSES: Final = Pause._meta.db_table


def not_paused_sql(now_sql: str) -> str:
    """Return the condition that an entry is not paused, with ``now_sql`` in it once."""
    return (
        f"NOT EXISTS (SELECT 1 FROM {_PAUSES} AS pause "  # noqa: S608 - constants
        f"WHERE (pause.ends_at IS NULL OR pause.ends_at > {now_sql}) AND "
        f"((pause.kind = '{Kind.QUEUE}' AND pause.name = {TABLE}.queue) OR "
        f"(pause.kind = '{Kind.TASK}' AND pause.name = {TABLE}.task)))"
    )


@dataclass(frozen=True, slots=True)
class Paused:
    """What is paused, and until when (None: until somebody resumes it).

    Attributes:
        queues: paused queues.
        tasks: paused tasks.
        some_ended: there are pauses whose end has come, see :func:`forget_ended`.
    """

    queues: dict[str, datetime | None]
    tasks: dict[str, datetime | None]
    some_ended: bool = False

    def __bool__(self) -> bool:
        return bool(self.queues or self.tasks)

    def holds(self, entry: Entry) -> bool:
        """Tell whether an entry must wait."""
        return entry.queue in self.queues or entry.task in self.tasks

    def until(self, entry: Entry) -> datetime | None:
        """Return when the last pause that holds an entry ends; None if that is not known."""
        ends = [
            names[name]
            for names, name in ((self.queues, entry.queue), (self.tasks, entry.task))
            if name in names
        ]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) and known else None

    @property
    def entries(self) -> Q:
        """The entries that are paused."""
        return Q(queue__in=list(self.queues)) | Q(task__in=list(self.tasks))


NOTHING: Final = Paused({}, {})


def paused(*, now: datetime | None = None) -> Paused:
    """Read what is paused.

    Args:
        now: a fixed time instead of the database's clock, for tests.
    """
    lasts = ExpressionWrapper(_lasting(now), output_field=BooleanField())
    rows = _pauses().annotate(lasts=lasts).values_list("kind", "name", "ends_at", "lasts")
    with explained():
        found = list(rows)
    if not found:
        return NOTHING
    return Paused(
        {name: end for kind, name, end, still in found if still and kind == Kind.QUEUE},
        {name: end for kind, name, end, still in found if still and kind == Kind.TASK},
        any(not still for *_pause, still in found),
    )


def pause(
    kind: Kind,
    name: str,
    *,
    reason: str = "",
    by: str = "",
    ends_at: datetime | None = None,
    now: datetime | None = None,
) -> bool:
    """Keep the entries of a queue or task from being claimed. What runs goes on.

    Args:
        kind: a queue or a task.
        name: which.
        reason: why, in words.
        by: who, in words.
        ends_at: when it ends by itself; None for never.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if it is paused already; that pause stays as it is.
    """
    at = moment_expression(0.0, now)
    given = {"reason": reason, "by": by, "ends_at": ends_at, "paused_at": at}
    with explained(), transaction.atomic(using=ledger_connection().alias):
        over = _pauses().filter(kind=kind, name=name).exclude(_lasting(now))
        if over.update(**given):
            return True
        try:
            with transaction.atomic(using=ledger_connection().alias):
                _pauses().create(kind=kind, name=name, **given)
        except IntegrityError:
            return False
    return True


def resume(
    kind: Kind, name: str, *, since: datetime | None = None, now: datetime | None = None
) -> bool:
    """End a pause, and have the sweeper wake what waits.

    Args:
        kind: a queue or a task.
        name: which.
        since: only the pause that began then; a row is used again for a newer one.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        False if it is not paused, or not since then.
    """
    meant = _pauses().filter(kind=kind, name=name)
    if since is not None:
        # SQLite compares times as text, with as many digits as they were written with.
        near = timedelta(milliseconds=1)
        meant = meant.filter(paused_at__range=(since - near, since + near))
    with explained(), transaction.atomic(using=ledger_connection().alias):
        ended, _ = meant.delete()
        if ended:
            _pull_forward(kind, name, now)
    return bool(ended)


def forget_ended(*, now: datetime | None = None) -> int:
    """Take away the pauses whose end has come, and have the sweeper wake what they held.

    Args:
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many.
    """
    with explained():
        over = list(
            _pauses().exclude(_lasting(now)).order_by("pk").values_list("pk", "kind", "name")
        )
    count = 0
    for pk, kind, name in over:
        with transaction.atomic(using=ledger_connection().alias):
            # Somebody may have paused it anew meanwhile.
            ended, _ = _pauses().filter(pk=pk).exclude(_lasting(now)).delete()
            if ended:
                _pull_forward(Kind(kind), name, now)
                count += 1
    return count


def put_off(rows: Iterable[Entry], held: Paused, *, now: datetime | None = None) -> None:
    """Note that paused entries lack their messages, and look at them no later than the pause ends.

    Args:
        rows: entries that are paused and whose next look was just set.
        held: what is paused.
        now: a fixed time instead of the database's clock, for tests.
    """
    ids = [row.pk for row in rows]
    waiting = _entries().filter(pk__in=ids, state__in=WAITING)
    # Whose publishes is 0 is left out of the count of what is missing; see ``backlog``.
    waiting.filter(publishes=0).update(publishes=1)
    ends = {row.pk: end for row in rows if (end := held.until(row)) is not None}
    for end in set(ends.values()):
        soon = [pk for pk, its in ends.items() if its == end]
        waiting.filter(pk__in=soon, wake_at__gt=end).update(wake_at=end)


def _pull_forward(kind: Kind, name: str, now: datetime | None) -> None:
    field = "queue" if kind == Kind.QUEUE else "task"
    at = moment_expression(0.0, now)
    waiting = _entries().filter(
        state__in=WAITING, wake_at__isnull=False, due_at__lte=at, **{field: name}
    )
    oldest = list(waiting.order_by("due_at").values_list("pk", flat=True)[:PULLED_AT_ONCE])
    # A wake_at that is no later than due_at is the sign to publish; see ``due``.
    _entries().filter(pk__in=oldest, state__in=WAITING).update(wake_at=F("due_at"))


def _lasting(now: datetime | None) -> Q:
    return Q(ends_at__isnull=True) | Q(ends_at__gt=moment_expression(0.0, now))


def _entries() -> QuerySet[Entry]:
    return Entry.objects.using(ledger_connection().alias)


def _pauses() -> QuerySet[Pause]:
    return Pause.objects.using(ledger_connection().alias)
