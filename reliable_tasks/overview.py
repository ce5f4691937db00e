"""What the ledger looks like now, in few and cheap reads. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, Max, Min, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from .bounded import rows_of
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
#: Most dead letters that are grouped; they are read from an index alone.
GROUPED: Final = 100_000
_ENTRIES: Final = Entry._meta.db_table


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
    """Return the running entries whose lease is being renewed, or has ended and nobody saw it yet.

    What waits is in the same stretches of the index, so each is read for :data:`SAMPLE` entries.
    """
    lease = current().LEASE_SECONDS
    ends, last = moment_expression(-lease), moment_expression(2 * lease)
    late = Q(wake_at__lt=_up_to(Q(wake_at__lt=ends), ends))
    near = Q(wake_at__gte=ends)
    near &= Q(wake_at__lte=_up_to(near & Q(wake_at__lte=last), last))
    return entries().filter(late | near, state=State.RUNNING)


def _up_to(stretch: Q, end: Any) -> Any:
    # A scalar, because MySQL and MariaDB have no LIMIT in what IN reads.
    rows = entries().filter(stretch).order_by("wake_at").values("wake_at")
    return Coalesce(Subquery(rows[SAMPLE - 1 : SAMPLE]), end)


def count_running() -> tuple[int, bool]:
    """Count :func:`running_now`.

    Returns:
        How many were found, and whether all entries were looked at that could be among them.
    """
    connection = ledger_connection()
    lease = current().LEASE_SECONDS
    ends, first = moment(connection, -lease)
    last, second = moment(connection, 2 * lease)
    counts = (
        "SELECT COUNT(*), COUNT(CASE WHEN state = 'running' THEN 1 END) FROM (SELECT state "  # noqa: S608 - constants
        f"FROM {_ENTRIES} WHERE {{}} ORDER BY wake_at LIMIT {SAMPLE}) stretch"
    )
    late, near = f"wake_at < {ends}", f"wake_at >= {ends} AND wake_at <= {last}"
    sql = f"{counts.format(late)} UNION ALL {counts.format(near)}"
    found = rows_of(connection, sql, [*first, *first, *second])
    return sum(running for _, running in found), all(seen < SAMPLE for seen, _ in found)


def live_queues() -> list[str]:
    """Return the queues of entries that have not ended.

    Where more than twice :data:`SAMPLE` are live, of those whose time comes first and last.
    """
    some = (
        f"SELECT queue FROM (SELECT queue FROM {_ENTRIES} WHERE wake_at IS NOT NULL "  # noqa: S608 - constants
        f"ORDER BY wake_at {{}} LIMIT {SAMPLE}) {{}}"
    )
    sql = f"{some.format('ASC', 'earliest')} UNION {some.format('DESC', 'latest')}"
    return sorted(queue for (queue,) in rows_of(ledger_connection(), sql, []))


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


def dead_groups(limit: int, narrowed: Q | None = None) -> tuple[list[DeadGroup], bool]:
    """Return the largest groups of dead letters, among the :data:`GROUPED` that died last.

    Args:
        limit: how many groups at most.
        narrowed: only of the dead letters that meet this condition.

    Returns:
        The groups, and whether all dead letters were looked at.
    """
    dead = entries().filter(state=State.DEAD, finished_at__isnull=False)
    ends = dead.order_by("-finished_at").values_list("finished_at", flat=True)
    first = ends[GROUPED : GROUPED + 1].first()
    looked_at = dead if first is None else dead.filter(finished_at__gt=first)
    groups = (
        looked_at.filter(narrowed or Q())
        .values_list("fingerprint", "task", "error_class")
        .annotate(count=Count("*"), latest=Max("finished_at"), since=Min("finished_at"))
        .order_by("-count", "fingerprint", "task")
    )
    return [DeadGroup(*group) for group in groups[:limit]], first is None


def _grouped(rows: QuerySet[Entry], *names: str) -> list[Any]:
    return list(rows.values_list(*names).annotate(count=Count("pk")).order_by(*names))
