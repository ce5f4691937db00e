"""What the page of charts says: reads, turned into charts and tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import figures, overview
from ..bounded import Step
from ..bounded import steps as cut
from ..figures import Tally, Timing, percentile
from ..oversight import Kind
from ..overview import ALIVE, DRAINING, SILENT, DeadGroup, QueueCounts
from ..spans import span
from ..states import Outcome, State
from .charts import Chart, Series, bar, columns, lines
from .numbers import number, seconds

#: For each choice: its name, and how long and how many its steps are.
WINDOWS: Final[dict[str, tuple[Any, timedelta, int]]] = {
    "1h": (gettext_lazy("1 hour"), timedelta(minutes=1), 60),
    "6h": (gettext_lazy("6 hours"), timedelta(minutes=5), 72),
    "24h": (gettext_lazy("24 hours"), timedelta(minutes=15), 96),
    "7d": (gettext_lazy("7 days"), timedelta(hours=2), 84),
}
_PERCENTILES: Final = (50, 95, 99)
_GROUPS: Final = 10
_TASKS: Final = 10
_QUEUES: Final = 25
_PAUSES: Final = 5
#: The outcomes that are somebody's failure, and the colour of each.
_KINDS: Final = {
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "timeout",
    Outcome.CRASHED: "crashed",
    Outcome.REJECTED: "rejected",
    Outcome.RETRY: "retry",
    Outcome.RELEASED: "released",
    Outcome.CANCELLED: "cancelled",
}
_FAILURES: Final = (Outcome.FAILED, Outcome.TIMEOUT, Outcome.CRASHED, Outcome.REJECTED)


def glance(window: str, at: datetime) -> dict[str, Any]:
    """Return what the page's template shows.

    Args:
        window: one of :data:`WINDOWS`.
        at: the time of the database's clock.
    """
    _words, length, count = WINDOWS[window]
    steps = cut(at, length, count)
    succeeded = figures.ended(State.SUCCEEDED, steps)
    died = figures.ended(State.DEAD, steps)
    attempts = figures.attempts(steps)
    timings = figures.timings(steps)
    groups, all_groups = figures.dying(steps[0].begin, _GROUPS)
    queues, all_queues = figures.live_queues()
    fleet = Counter(overview.standing(each, at) for each in overview.workers())
    labels = _labels(steps)
    paused = list(overview.pauses())
    return {
        "at": at,
        "pauses": paused[:_PAUSES],
        "pauses_left_out": max(0, len(paused) - _PAUSES),
        "tiles": _tiles(queues, all_queues, succeeded, attempts, died, steps, at),
        "fleet": [
            (_("alive"), fleet[ALIVE]),
            (_("draining"), fleet[DRAINING]),
            (_("silent"), fleet[SILENT]),
        ],
        "charts": [
            _drawn(columns, _throughput(labels, succeeded, steps)),
            _drawn(columns, _failures(labels, attempts, died, steps)),
            _drawn(lines, _latency("wait", labels, timings, steps)),
            _drawn(lines, _latency("run", labels, timings, steps)),
        ],
        "outcomes": _outcomes(succeeded, attempts),
        "queues": _queue_rows(
            queues, at, {each.name for each in paused if each.kind == Kind.QUEUE}
        ),
        "queues_left_out": max(0, len(queues) - _QUEUES),
        "all_queues": all_queues,
        "sample": overview.SAMPLE,
        "groups": _group_rows(groups),
        "all_groups": all_groups,
        "died_limit": figures.DIED,
        "tasks": _task_rows(timings),
        "timed": f"{len(timings):,}",
        "timed_number": len(timings),
        "estimated": not all(each.exact for each in (*succeeded, *died, *attempts)),
    }


def _drawn(draw: Any, chart: Chart) -> dict[str, Any]:
    return {"chart": chart, "svg": draw(chart)}


def _labels(steps: Sequence[Step]) -> list[str]:
    shape = "H:i" if steps[-1].end - steps[0].begin < timedelta(hours=23) else "j M H:i"
    return [date_format(_local(step.begin), shape) for step in steps]


def _local(value: datetime) -> datetime:
    return timezone.localtime(value) if timezone.is_aware(value) else value


def _per_minute(tally: int, step: Step) -> float:
    # A step of a second or two says nothing about a minute.
    return tally / max(step.minutes, 1 / 6)


def _at_least(count: int, whole: bool) -> str:
    return f"{count:,}" if whole or not count else f"≥\N{NO-BREAK SPACE}{count:,}"


def _tiles(
    queues: Sequence[QueueCounts],
    whole: bool,
    succeeded: Sequence[Tally],
    attempts: Sequence[Tally],
    died: Sequence[Tally],
    steps: Sequence[Step],
    at: datetime,
) -> list[dict[str, Any]]:
    due = sum(each.due for each in queues)
    oldest = min((q.oldest_due_at for q in queues if q.oldest_due_at), default=None)
    waited = _("the oldest for %(span)s") % {"span": span(at - oldest)} if oldest else ""
    last = -2 if len(steps) > 1 and steps[-1].is_partial else -1
    failures = sum(tally.counts[kind] for tally in attempts for kind in _FAILURES)
    dead = sum(tally.total for tally in died)
    later = sum(each.later for each in queues)
    return [
        {"label": _("Due and waiting"), "value": _at_least(due, whole), "note": waited},
        {"label": _("Due later"), "value": _at_least(later, whole)},
        {"label": _("Running"), "value": _at_least(*overview.count_running())},
        {
            "label": _("Succeeded a minute"),
            "value": number(_per_minute(succeeded[last].total, steps[last])),
        },
        {"label": _("Failed attempts"), "value": f"{failures:,}", "kind": failures and "warn"},
        {"label": _("Died"), "value": f"{dead:,}", "kind": dead and "bad"},
    ]


def _throughput(labels: list[str], tallies: Sequence[Tally], steps: Sequence[Step]) -> Chart:
    values = [_per_minute(t.total, step) for t, step in zip(tallies, steps, strict=True)]
    summary = _("%(total)s entries succeeded; at most %(most)s a minute.") % {
        "total": f"{sum(t.total for t in tallies):,}",
        "most": number(max(values, default=0)),
    }
    return Chart(
        "rt-throughput",
        _("Succeeded, a minute"),
        summary,
        labels,
        [Series("succeeded", _("succeeded"), values)],
        number,
        steps[-1].is_partial,
        [not tally.exact for tally in tallies],
    )


def _failures(
    labels: list[str], attempts: Sequence[Tally], died: Sequence[Tally], steps: Sequence[Step]
) -> Chart:
    def rate(count: Any) -> list[float]:
        return [_per_minute(count(n), step) for n, step in enumerate(steps)]

    failed = rate(lambda n: sum(attempts[n].counts[kind] for kind in _FAILURES))
    dead = rate(lambda n: died[n].total)
    summary = _("%(failed)s attempts failed and %(dead)s entries died.") % {
        "failed": f"{sum(t.counts[kind] for t in attempts for kind in _FAILURES):,}",
        "dead": f"{sum(t.total for t in died):,}",
    }
    return Chart(
        "rt-failures",
        _("Failed attempts and deaths, a minute"),
        summary,
        labels,
        [Series("dead", _("died"), dead), Series("failed", _("failed attempts"), failed)],
        number,
        steps[-1].is_partial,
        [not (a.exact and d.exact) for a, d in zip(attempts, died, strict=True)],
    )


def _latency(
    what: str, labels: list[str], timings: Sequence[Timing], steps: Sequence[Step]
) -> Chart:
    by_step: dict[int, list[float]] = defaultdict(list)
    for each in timings:
        by_step[each.step].append(each.wait if what == "wait" else each.run)
    ordered = [sorted(by_step[n]) for n in range(len(steps))]
    whole = sorted(value for values in ordered for value in values)
    series = [
        Series(f"p{p}", f"p{p}", [percentile(v, p) if v else None for v in ordered])
        for p in _PERCENTILES
    ]
    title = {
        "wait": _("From due to start"),
        "run": _("Run time of what succeeded"),
    }[what]
    summary = _("Nothing succeeded.")
    if whole:
        summary = _("Half took at most %(half)s, 95 of 100 at most %(most)s.") % {
            "half": seconds(percentile(whole, 50)),
            "most": seconds(percentile(whole, 95)),
        }
    return Chart(f"rt-{what}", title, summary, labels, series, seconds)


def _outcomes(succeeded: Sequence[Tally], attempts: Sequence[Tally]) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for tally in attempts:
        counts.update(tally.counts)
    rows = [("succeeded", _("succeeded"), sum(tally.total for tally in succeeded))]
    rows += [(kind, _(outcome.value), counts[outcome]) for outcome, kind in _KINDS.items()]
    whole = sum(count for *_rest, count in rows)
    return [
        {
            "label": label,
            "count": f"{count:,}",
            "share": f"{count / whole * 100:.1f} %",
            "bar": bar(count / whole, kind),
        }
        for kind, label, count in rows
        if count and whole
    ]


def _queue_rows(
    queues: Sequence[QueueCounts], at: datetime, paused: Collection[str]
) -> list[dict[str, Any]]:
    longest = max((each.due for each in queues), default=0)
    chosen = sorted(queues, key=lambda each: (-each.due, -each.later, each.queue))[:_QUEUES]
    return [
        {
            "counts": each,
            "due": f"{each.due:,}",
            "later": f"{each.later:,}",
            "paused": each.queue in paused,
            "oldest": span(at - each.oldest_due_at) if each.oldest_due_at else "-",
            "bar": bar(each.due / longest if longest else 0.0, "due"),
        }
        for each in chosen
    ]


def _group_rows(groups: Sequence[DeadGroup]) -> list[dict[str, Any]]:
    most = max((each.count for each in groups), default=0)
    entries = reverse("admin:reliable_tasks_entry_changelist")
    return [
        {
            "group": each,
            "error": each.error_class.rpartition(".")[2] or "-",
            "latest": date_format(_local(each.latest), "j M H:i:s") if each.latest else "-",
            "bar": bar(each.count / most, "dead"),
            "url": f"{entries}?"
            + urlencode({"state": State.DEAD.value, "fingerprint": each.fingerprint}),
        }
        for each in groups
    ]


def _task_rows(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    by_task: dict[str, list[Timing]] = defaultdict(list)
    for each in timings:
        by_task[each.task].append(each)
    heaviest = sorted(by_task.items(), key=lambda item: -sum(each.run for each in item[1]))
    rows = []
    for task, some in heaviest[:_TASKS]:
        waits, runs = sorted(each.wait for each in some), sorted(each.run for each in some)
        cells = [seconds(percentile(v, p)) for v in (waits, runs) for p in _PERCENTILES]
        rows.append({"task": task, "count": len(some), "cells": cells})
    return rows
