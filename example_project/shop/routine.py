"""The account of the schedules: was each due time accounted for, and did each run happen once?

The due times are counted here by hand, and not by the package whose work is judged.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from example_project.shop.account import Finding
from example_project.shop.models import Reminder, Routine, SalesReport, StockCheck
from reliable_tasks.models import Entry, Occurrence

#: A due time that is younger than this may still be on its way.
LAG = timedelta(seconds=15)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chore:
    """A schedule of the shop.

    Attributes:
        name: the schedule's.
        task: its task.
        leaves: what each run writes.
        first: one of its due times, long ago.
        every: how far apart they are; the shop's clock is UTC and has no changes.
    """

    name: str
    task: str
    leaves: type[Routine]
    first: datetime
    every: timedelta

    def dues(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the due times after one moment, up to another."""
        number = (since - self.first) // self.every + 1
        while (due := self.first + number * self.every) <= until:
            yield due
            number += 1


CHORES = (
    Chore(
        "nightly report",
        "shop.report_sales",
        SalesReport,
        _EPOCH + timedelta(hours=2, minutes=30),
        _DAY,
    ),
    Chore("stock check", "shop.check_stock", StockCheck, _EPOCH, _HOUR),
    Chore("reminder", "shop.remind", Reminder, _EPOCH, _MINUTE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of one schedule.

    Attributes:
        name: the schedule's.
        expected: its due times.
        handled: for each due time how often it was accounted for.
        fired: the entries of the due times that fired.
        unexplained: due times that did not fire, without a reason.
        ended: the entries that have ended well.
        left: for each entry what it left behind.
    """

    name: str
    expected: frozenset[datetime]
    handled: Counter[datetime]
    fired: frozenset[UUID]
    unexplained: int
    ended: frozenset[UUID]
    left: Counter[UUID | None]


def close_shop(since: datetime) -> None:
    """Pretend that the schedules ran last at that time, and that nobody was there since.

    Args:
        since: when.
    """
    names = [chore.name for chore in CHORES]
    PeriodicTask.objects.filter(name__in=names).update(last_run_at=since, date_changed=since)


def collect_routine(since: datetime | None = None) -> list[Ran]:
    """Read what became of the schedules.

    Args:
        since: where the account begins; with the first that is known unless given.
    """
    until = timezone.now() - LAG
    return [_collect(chore, since, until) for chore in CHORES]


def _collect(chore: Chore, since: datetime | None, until: datetime) -> Ran:
    rows = list(
        Occurrence.objects.filter(schedule__name=chore.name, trigger="tick").order_by("due_at")
    )
    if since is None:
        since = rows[0].due_at - timedelta(microseconds=1) if rows else until
    handled: Counter[datetime] = Counter()
    for row in rows:
        handled.update(_stretch(chore, row))
    fired = frozenset(row.entry_id for row in rows if row.outcome == "fired" and row.entry_id)
    succeeded = Entry.objects.filter(task=chore.task, state="succeeded")
    return Ran(
        name=chore.name,
        expected=frozenset(chore.dues(since, until)),
        handled=Counter({due: n for due, n in handled.items() if due <= until}),
        fired=fired,
        unexplained=sum(1 for row in rows if row.outcome != "fired" and not row.reason),
        ended=frozenset(succeeded.values_list("pk", flat=True)),
        left=Counter(chore.leaves.objects.values_list("entry", flat=True)),
    )


def _stretch(chore: Chore, row: Occurrence) -> Iterable[datetime]:
    """Return the due times that one row stands for, which must be as many as it says."""
    if row.last_due_at is None:
        return [row.due_at] * row.count
    dues = list(chore.dues(row.due_at - timedelta(microseconds=1), row.last_due_at))
    return dues if len(dues) == row.count else []


def judge(routine: Iterable[Ran]) -> list[Finding]:
    """Say of each schedule whether its account is right.

    Args:
        routine: what became of them.
    """
    return [_judge(ran) for ran in routine]


def _judge(ran: Ran) -> Finding:
    missed = ran.expected - ran.handled.keys()
    faults = [
        _said("due times that nobody accounted for", len(missed)),
        _said("due times handled twice", sum(1 for n in ran.handled.values() if n > 1)),
        _said("without a reason", ran.unexplained),
        _said("runs that left nothing", len((ran.fired & ran.ended) - ran.left.keys())),
        _said("runs that left several", sum(1 for n in ran.left.values() if n > 1)),
        _said("not ended well", len(ran.fired - ran.ended)),
    ]
    wrong = "; ".join(filter(None, faults))
    others = len(ran.handled) - len(ran.fired)
    right = f"{len(ran.fired)} fired, {others} not, each with its reason" if others > 0 else ""
    return Finding(
        f"due: {ran.name}",
        len(ran.handled),
        "each due time once, or a reason",
        not wrong and bool(ran.handled),
        wrong or right,
    )


def _said(words: str, count: int) -> str:
    return f"{count} {words}" if count else ""
