"""What is measured: the rows of the table, and the runs that fill them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.environment import Side
    from benchmarks.processes import Bench


@dataclass(frozen=True)
class Scale:
    """How much work each run is given."""

    one: int
    bulk: int
    drain: int
    drain_orm: int
    latency_seconds: float


FULL = Scale(one=2_000, bulk=10_000, drain=10_000, drain_orm=1_000, latency_seconds=8.0)
QUICK = Scale(one=500, bulk=3_000, drain=1_000, drain_orm=200, latency_seconds=2.0)

LATENCY_RATE = 50


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        label: what was measured.
        baseline: label of the row that it is compared with; None: it is a baseline itself.
        target: the ratio to reach (rates only); None: there is none.
        unit: "/s" (more is better) or "ms" (less is better).
    """

    label: str
    baseline: str | None = None
    target: float | None = None
    unit: str = "/s"


@dataclass(frozen=True)
class Run:
    """One measurement of one side; returns a figure for one or more rows, by label."""

    side: Side
    measure: Callable[[Bench, Scale], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A group of rows that are measured one right after the other, in every round."""

    name: str
    title: str
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]


def _producing(
    name: str,
    title: str,
    *,
    plain: str,
    ledger: str,
    arguments: Callable[[Scale], tuple[object, ...]],
    target: float | None = None,
) -> Case:
    """Return a case that compares two ways to enqueue, both run by ``benchmarks.producer``."""
    published = f"{ledger}, until its wake-up is in Redis"
    returned = f"{ledger}, until the caller goes on"

    def plain_run(bench: Bench, scale: Scale) -> dict[str, float]:
        bench.clean()
        return {plain: bench.produce("plain", *arguments(scale))["published"]}

    def ledger_run(bench: Bench, scale: Scale) -> dict[str, float]:
        bench.clean()
        figures = bench.produce("ledger", *arguments(scale))
        return {published: figures["published"], returned: figures["caller"]}

    rows = (Row(plain), Row(published, plain, target), Row(returned, plain))
    return Case(name, title, rows, (Run("plain", plain_run), Run("ledger", ledger_run)))


def _bulk_case() -> Case:
    plain, batch = "plain Celery, delay() in a loop", "plain Celery, kombu Producer.batch()"
    case = _producing(
        "bulk",
        "Enqueue many at once",
        plain=plain,
        ledger="reliable_tasks, enqueue_many()",
        arguments=lambda scale: ("bulk", scale.bulk),
        target=4.0,
    )

    def loop_run(bench: Bench, scale: Scale) -> dict[str, float]:
        bench.clean()
        return {plain: bench.produce("plain", "one", scale.one)["published"]}

    def batch_run(bench: Bench, scale: Scale) -> dict[str, float]:
        bench.clean()
        return {batch: bench.produce("plain", "bulk", scale.bulk)["published"]}

    rows = (case.rows[0], Row(batch, plain), *case.rows[1:])
    runs = (Run("plain", loop_run), Run("plain", batch_run), case.runs[1])
    return Case(case.name, case.title, rows, runs)


def _arguments_case() -> Case:
    labels = {
        "one": "a number",
        "key": "the key of a model parameter",
        "instance": "an instance",
    }

    def run(mode: str, label: str) -> Run:
        def measure(bench: Bench, scale: Scale) -> dict[str, float]:
            bench.clean()
            return {label: bench.produce("ledger", mode, scale.one)["caller"]}

        return Run("ledger", measure)

    rows = tuple(
        Row(label, None if mode == "one" else labels["one"]) for mode, label in labels.items()
    )
    runs = tuple(run(mode, label) for mode, label in labels.items())
    return Case("arguments", "Enqueue with one argument, reliable_tasks alone", rows, runs)


def _drain_run(label: str, side: Side, task: str, extra: dict[str, str] | None = None) -> Run:
    def measure(bench: Bench, scale: Scale) -> dict[str, float]:
        count = scale.drain if task == "noop" else scale.drain_orm
        return {label: bench.drain(side, task, count, extra)}

    return Run(side, measure)


def _drain_case() -> Case:
    plain, ledger = "plain Celery", "reliable_tasks"
    return Case(
        "drain",
        "Drain a backlog of no-op tasks, 2 processes",
        (Row(plain), Row(ledger, plain, 0.6)),
        (_drain_run(plain, "plain", "noop"), _drain_run(ledger, "ledger", "noop")),
    )


def _drain_orm_case() -> Case:
    plain, kept = "plain Celery", "plain Celery, CELERY_DB_REUSE_MAX set"
    ledger, atomic = "reliable_tasks", "reliable_tasks, atomic=True"
    keep = {environment.KEEP_CONNECTION: "1"}
    return Case(
        "drain-orm",
        "Drain tasks of one SELECT and one UPDATE, 2 processes",
        (Row(plain), Row(kept, plain), Row(ledger, plain), Row(atomic, plain)),
        (
            _drain_run(plain, "plain", "deposit"),
            _drain_run(kept, "plain", "deposit", keep),
            _drain_run(ledger, "ledger", "deposit"),
            _drain_run(atomic, "ledger", "deposit_atomic"),
        ),
    )


def _latency_case() -> Case:
    labels = {"plain": "plain Celery", "ledger": "reliable_tasks"}
    percentiles = {"p50": 0.50, "p99": 0.99}

    def run(side: Side) -> Run:
        def measure(bench: Bench, scale: Scale) -> dict[str, float]:
            samples = bench.latencies(side, LATENCY_RATE, scale.latency_seconds)
            last = len(samples) - 1
            return {
                f"{labels[side]}, {name}": samples[round(share * last)] * 1e3
                for name, share in percentiles.items()
            }

        return Run(side, measure)

    rows = [Row(f"{labels['plain']}, {name}", unit="ms") for name in percentiles]
    rows += [
        Row(f"{labels['ledger']}, {name}", f"{labels['plain']}, {name}", unit="ms")
        for name in percentiles
    ]
    title = f"From delay() to the body's start, at {LATENCY_RATE} tasks a second"
    return Case("latency", title, tuple(rows), (run("plain"), run("ledger")))


CASES: tuple[Case, ...] = (
    _producing(
        "enqueue",
        "Enqueue one at a time, in autocommit",
        plain="plain Celery, delay()",
        ledger="reliable_tasks, delay()",
        arguments=lambda scale: ("one", scale.one),
        target=0.5,
    ),
    _producing(
        "transaction",
        "Enqueue one in each transaction that inserts a business row",
        plain="plain Celery, on_commit(delay)",
        ledger="reliable_tasks, delay() in atomic()",
        arguments=lambda scale: ("transaction", scale.one // 2, 1),
    ),
    _producing(
        "transaction-ten",
        "Enqueue ten in each transaction that inserts a business row",
        plain="plain Celery, ten on_commit(delay)",
        ledger="reliable_tasks, ten delay() in atomic()",
        arguments=lambda scale: ("transaction", scale.one, 10),
    ),
    _bulk_case(),
    _arguments_case(),
    _drain_case(),
    _drain_orm_case(),
    _latency_case(),
)
