"""What the ledger looks like now, in few and cheap reads. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Max, Min, Q, QuerySet

from .conf import current
from .ledger.guard import ledger_connection, moment, moment_expression
from .models import Entry, EntryQuerySet, Pause, WorkerProcess
from .oversight import Kind
from .states import ACTIVE, WAITING, State

#: How a worker stands: beats, beats but takes nothing new, or has missed its lease.
ALIVE: Final = "alive"
DRAINING: Final = "draining"
SILENT: Final = "silent"

#: Most live entries that a read for people looks at.
SAMPLE: Final = 20_000


@dataclass(slots=True)
class QueueCounts:
    """The entries of one queue.

    Attributes:
        queue: its name.
        due: wait and may be claimed now.
        later: wait for their time: a countdown, an ETA or the delay of a retry.
        running: held by an attempt.
        dead: dead letters.
        succeeded: succeeded within the window that was asked for.
        cancelled: cancelled within that window.
        oldest_due_at: when the one that has waited longest became due; None if none is due.
    """

    queue: str
    due: int = 0
    later: int = 0
    running: int = 0
    dead: int = 0
    succeeded: int = 0
    cancelled: int = 0
    oldest_due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Dead letters that died of the same thing.

    Attributes:
        fingerprint: of the failure.
        task: the task's name.
        error_class: dotted name of the exception's class.
        count: how many.
        latest: when the last of them ended.
        since: when the first of them ended.
    """

    fingerprint: str
    task: str
    error_class: str
    count: int
    latest: datetime | None
    since: datetime | None = None


def entries() -> EntryQuerySet:
    """Return all entries, from the database that is written to."""
    found: EntryQuerySet = Entry.objects.all().using(ledger_connection().alias)
    return found


def workers() -> QuerySet[WorkerProcess]:
    """Return all workers that have reported themselves, from the database that is written to."""
    return WorkerProcess.objects.using(ledger_connection().alias).order_by("identity")


def pauses() -> QuerySet[Pause]:
    """Return the pauses that last, from the database that is written to."""
    lasting = Q(ends_at__isnull=True) | Q(ends_at__gt=moment_expression())
    return Pause.objects.using(ledger_connection().alias).filter(lasting).order_by("kind", "name")


def pauses_of(entry: Entry) -> list[Pause]:
    """Return the pauses that keep an entry from being claimed.

    Args:
        entry: the entry.
    """
    its = Q(kind=Kind.QUEUE, name=entry.queue) | Q(kind=Kind.TASK, name=entry.task)
    return list(pauses().filter(its))


def now() -> datetime:
    """Return the time of the database's clock, which all times in the ledger are."""
    connection = ledger_connection()
    sql, params = moment(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        (value,) = cursor.fetchone()
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def queues(window: timedelta) -> list[QueueCounts]:
    """Count entries by queue.

    Args:
        window: how far back succeeded and cancelled entries count. All others are always counted;
            they are few, and each count reads one index.

    Returns:
        One item for each queue that has any, by name.
    """
    found: dict[str, QueueCounts] = {}

    def of(queue: str) -> QueueCounts:
        return found.setdefault(queue, QueueCounts(queue))

    due = Q(due_at__lte=moment_expression())
    live = entries().filter(state__in=ACTIVE, wake_at__isnull=False)
    for queue, state, all_of_it, ready, oldest in live.values_list("queue", "state").annotate(
        all_of_it=Count("pk"), ready=Count("pk", filter=due), oldest=Min("due_at", filter=due)
    ):
        counts = of(queue)
        if state == State.RUNNING:
            counts.running += all_of_it
            continue
        counts.due += ready
        counts.later += all_of_it - ready
        if oldest is not None:
            counts.oldest_due_at = min(oldest, counts.oldest_due_at or oldest)
    ended = Q(state=State.DEAD, finished_at__isnull=False) | Q(
        state__in=(State.SUCCEEDED, State.CANCELLED),
        finished_at__gte=moment_expression(-window.total_seconds()),
    )
    for queue, state, count in _grouped(entries().filter(ended), "queue", "state"):
        setattr(of(queue), state, count)
    return sorted(found.values(), key=lambda counts: counts.queue)


def soonest() -> QuerySet[Entry]:
    """Return the live entries that the sweeper looks at next, :data:`SAMPLE` at most.

    A count of these is exact where it stays below that number, and costs no more than that many
    rows where ten million wait.
    """
    return entries().filter(wake_at__isnull=False).order_by("wake_at")[:SAMPLE]


def running_now() -> QuerySet[Entry]:
    """Return the running entries whose lease is being renewed.

    The lease's end bounds the part of the index that is read, however many entries wait.
    """
    return entries().filter(
        state=State.RUNNING, wake_at__lte=moment_expression(2 * current().LEASE_SECONDS)
    )


def live_queues() -> list[str]:
    """Return the queues of all entries that have not ended."""
    live = entries().filter(state__in=ACTIVE, wake_at__isnull=False)
    return sorted(live.order_by().values_list("queue", flat=True).distinct())


def standing(worker: WorkerProcess, at: datetime) -> str:
    """Tell how a worker stands.

    Args:
        worker: its row.
        at: the time of the database's clock.

    Returns:
        :data:`ALIVE`, :data:`DRAINING` or :data:`SILENT`.
    """
    if worker.beat_at < at - timedelta(seconds=current().LEASE_SECONDS):
        return SILENT
    return DRAINING if worker.draining else ALIVE


def served_queues(at: datetime) -> set[str]:
    """Return the queues that some living worker takes entries from."""
    return {
        queue for worker in workers() if standing(worker, at) == ALIVE for queue in worker.queues
    }


def waiting_by_task() -> list[tuple[str, str, int]]:
    """Return task, state and number of all that wait or are dead."""
    waiting = Q(state__in=WAITING, wake_at__isnull=False)
    dead = Q(state=State.DEAD, finished_at__isnull=False)
    return _grouped(entries().filter(waiting | dead), "task", "state")


def dead_groups(limit: int, narrowed: Q | None = None) -> list[DeadGroup]:
    """Return the largest groups of dead letters.

    Args:
        limit: how many groups at most.
        narrowed: only of the dead letters that meet this condition.
    """
    groups = (
        entries()
        .filter(narrowed or Q(), state=State.DEAD, finished_at__isnull=False)
        .values_list("fingerprint", "task", "error_class")
        .annotate(count=Count("*"), latest=Max("finished_at"), since=Min("finished_at"))
        .order_by("-count", "fingerprint", "task")
    )
    return [DeadGroup(*group) for group in groups[:limit]]


def _grouped(rows: QuerySet[Entry], *names: str) -> list[Any]:
    return list(rows.values_list(*names).annotate(count=Count("pk")).order_by(*names))
