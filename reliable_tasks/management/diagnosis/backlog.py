"""The doctor's look at entries that do not get on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Min, Q

from ... import ledger, overview
from ...conf import current
from ...ledger.guard import moment_expression
from ...link import Link
from ...operations import celery_app
from ...states import State
from ...task import ReliableTask
from ..console import shape
from ..console.parsing import hint
from .finding import OK, PROBLEM, WARNING, Finding

_GROUPS: Final = 5
# The sweeper publishes again what has lost its message within seconds; whatever has none after so
# many seconds was published many times.
_PATIENCE: Final = 60.0


def unknown_tasks() -> Iterator[Finding]:
    """Say which entries wait or died under the name of a task that this code does not have."""
    tasks = celery_app().tasks
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, state, count in overview.waiting_by_task():
        counts[name][state] += count
    known = [name for name in tasks if not name.startswith("celery.")]
    strange = {name: states for name, states in counts.items() if not _is_reliable(tasks, name)}
    for name, states in sorted(strange.items()):
        if name in tasks:
            yield _not_reliable(name, states)
        else:
            yield _not_known(name, states, known)
    if not strange:
        yield Finding("tasks", OK, "every waiting or dead entry's task is known")


def _is_reliable(tasks: Any, name: str) -> bool:
    return isinstance(tasks.get(name), ReliableTask)


def _not_known(name: str, states: Counter[str], known: list[str]) -> Finding:
    return Finding(
        "tasks",
        PROBLEM,
        f"{_words(states)} of task {name!r}, which this code does not have.{hint(name, known)}",
        "Its worker discards the wake-ups, and the entries wait. Was the task renamed, or is its "
        "module no longer imported?",
        f"Bring the task back under its name, or run them as another one: manage.py reliable_tasks "
        f"requeue --task {name} --task-name NEW.NAME",
        {"task": name, "states": dict(states)},
    )


def _not_reliable(name: str, states: Counter[str]) -> Finding:
    return Finding(
        "tasks",
        PROBLEM,
        f"{_words(states)} of task {name!r}, which is no reliable task any more",
        "A plain task is called without the arguments that only the ledger has.",
        "Declare it with base=ReliableTask again, or cancel them: manage.py reliable_tasks cancel "
        f"--task {name}",
        {"task": name, "states": dict(states)},
    )


def overdue(*, publishing: bool) -> Iterator[Finding]:
    """Say which entries should have been looked at by a sweeper and were not.

    Args:
        publishing: the broker answers. Where it does not, sweepers leave alone what only waits to
            be published.
    """
    patience = max(5.0, 5 * current().SWEEP_SECONDS)
    late = overview.entries().filter(wake_at__lt=moment_expression(-patience))
    is_running = Q(state=State.RUNNING)
    if not publishing:
        late = late.filter(is_running)
    leases, waiting = late.filter(is_running).count(), late.exclude(is_running).count()
    oldest = late.aggregate(oldest=Min("wake_at"))["oldest"]
    if oldest is None:
        yield Finding("sweeper", OK, "nothing is overdue")
        return
    parts = [shape.plural(leases, "running entry", "running entries")] if leases else []
    parts += [f"{shape.entries(waiting)} to be published"] if waiting else []
    facts = {"leases": leases, "waiting": waiting, "oldest_wake_at": oldest}
    yield Finding(
        "sweeper",
        PROBLEM,
        f"overdue: {' and '.join(parts)}, the oldest by {shape.span(overview.now() - oldest)}",
        "No sweeper has looked at them: none runs, it cannot reach the database, or it is far "
        "behind. What was lost is not rescued and what is due is not published.",
        "Start a worker (SWEEPER is on by default), or: manage.py reliable_tasks sweep. If one "
        "runs, its log says what it fails with.",
        facts,
    )


def unclaimed(link: Link) -> Iterator[Finding]:
    """Say which entries are published again and again and never claimed.

    Args:
        link: a connection to the broker, which is asked for the messages that it holds.
    """
    fetched = ledger.fetched(current().LEASE_SECONDS)
    lost: dict[str, int] = {}
    for queue in ledger.waiting_queues(grace=_PATIENCE):
        held = link.depth(queue)
        if held is None:
            return
        messages = held + fetched[queue]
        lost[queue] = ledger.missing_on(
            queue, messages, grace=_PATIENCE, at_most=current().SWEEP_BATCH
        )
    stuck = {queue: count for queue, count in lost.items() if count > 0}
    for queue, count in stuck.items():
        yield Finding(
            "publishing",
            PROBLEM,
            f"{shape.entries(count)} in {queue!r} due for more than {_PATIENCE:.0f} s, published, "
            "not claimed, and without a message any more",
            "The broker loses the wake-ups, or whoever receives them does not claim: workers of "
            "another project on the same queue, without the task's module, or on another database.",
            "Compare broker URL, database and task modules of the workers with this host's. Their "
            "logs say which messages they discard.",
            {"queue": queue, "count": count},
        )
    if not stuck:
        yield Finding("publishing", OK, "what is published is claimed, or waits its turn")


def unstoppable() -> Iterator[Finding]:
    """Say which attempts were asked to stop long ago and still run."""
    patience = current().CANCEL_GRACE + current().LEASE_SECONDS
    asked = overview.entries().filter(
        state=State.RUNNING,
        wake_at__isnull=False,
        cancel_requested_at__lt=moment_expression(-patience),
    )
    count = asked.count()
    if count:
        yield Finding(
            "cancels",
            WARNING,
            f"{shape.plural(count, 'attempt', 'attempts')} asked to stop and still running",
            "Only the prefork pool can terminate an attempt; in other pools the body must ask, by "
            "self.progress() or self.raise_if_cancelled().",
            "manage.py reliable_tasks list --state running shows them; restart their worker.",
            {"count": count},
        )


def dead() -> Iterator[Finding]:
    """Say what has died, alike failures together."""
    groups, whole = overview.dead_groups(_GROUPS + 1)
    for group in groups[:_GROUPS]:
        name = group.error_class.rpartition(".")[2] or "no error"
        by = f"--fingerprint {group.fingerprint} " if group.fingerprint else ""
        yield Finding(
            "dead",
            PROBLEM,
            f"{group.count:,} dead: {group.task}, {name}, the last at {shape.moment(group.latest)}",
            "They gave up and wait for a person.",
            f"manage.py reliable_tasks list --state dead {by}--task {group.task}, then show one. "
            "When the cause is gone: requeue with the same filters.",
            {
                "fingerprint": group.fingerprint,
                "task": group.task,
                "error_class": group.error_class,
                "count": group.count,
                "latest": group.latest,
            },
        )
    if len(groups) > _GROUPS:
        yield Finding("dead", WARNING, "there are more kinds of dead entries than are shown here")
    if not whole:
        newest = f"only the {overview.GROUPED:,} entries that died last were counted"
        yield Finding("dead", WARNING, newest)
    if not groups:
        yield Finding("dead", OK, "no dead entry")


def _words(states: Counter[str]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
