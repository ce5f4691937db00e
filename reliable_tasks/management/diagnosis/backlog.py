"""The doctor's look at entries that do not get on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Min, Q

from ... import overview
from ...conf import current
from ...ledger.guard import moment_expression
from ...operations import celery_app
from ...states import WAITING, State
from ...task import ReliableTask
from ..console import shape
from ..console.parsing import hint
from .finding import OK, PROBLEM, WARNING, Finding

_GROUPS: Final = 5
#: A wake-up that was published so often and never claimed is not merely slow.
_MANY_PUBLISHES: Final = 5


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


def unclaimed() -> Iterator[Finding]:
    """Say which entries are published again and again and never claimed."""
    stuck = overview.entries().filter(
        state__in=WAITING, finished_at__isnull=True, publishes__gte=_MANY_PUBLISHES
    )
    count = stuck.count()
    if not count:
        yield Finding("publishing", OK, "what is published is claimed")
        return
    queues = sorted(set(stuck.order_by("queue").values_list("queue", flat=True).distinct()[:10]))
    yield Finding(
        "publishing",
        PROBLEM,
        f"{shape.entries(count)} published {_MANY_PUBLISHES} times or more and never claimed "
        f"(queues: {', '.join(queues)})",
        "The broker takes the wake-ups and loses them, or whoever receives them does not claim: "
        "workers of another project on the same queue, or without the task's module, or on "
        "another database than this one.",
        "Compare broker URL, database and task modules of the workers with this host's.",
        {"count": count, "queues": queues},
    )


def unstoppable() -> Iterator[Finding]:
    """Say which attempts were asked to stop long ago and still run."""
    patience = current().CANCEL_GRACE + current().LEASE_SECONDS
    asked = overview.entries().filter(
        state=State.RUNNING,
        finished_at__isnull=True,
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
    groups = overview.dead_groups(_GROUPS + 1)
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
    if not groups:
        yield Finding("dead", OK, "no dead entry")


def _words(states: Counter[str]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
