"""The proof's seconds of recovery are those between a fault and the work that follows it."""

from __future__ import annotations

from prove.recovery import percentile, recoveries
from prove.shop.runs import Line
from prove.world import Fault


def line(what: str, number: str, attempt: int, pid: int, at: float) -> Line:
    return Line(what, number, "long_plain", attempt, pid, at)


LOG = [
    line("start", "ended", 1, 10, 1.0),
    line("end", "ended", 1, 10, 2.0),
    line("start", "interrupted", 1, 10, 3.0),
    line("start", "elsewhere", 1, 11, 3.5),
    line("start", "interrupted", 2, 11, 14.0),
    line("start", "elsewhere", 2, 12, 15.0),
]


def test_a_killed_process_recovers_when_its_attempt_begins_again():
    """Only what the killed process was running counts, until its next attempt begins."""
    assert recoveries([Fault("SIGKILL", 4.0, frozenset({10}))], LOG) == [10.0]


def test_a_service_has_recovered_when_anything_begins():
    """After an outage, the first attempt of anything is the recovery."""
    assert recoveries([Fault("outage", 4.0, over=12.5)], LOG) == [1.5]


def test_percentiles_are_values_that_were_measured():
    """The 99th percentile of few values is the largest, the median one in the middle."""
    values = [float(n) for n in range(1, 11)]
    assert percentile(values, 0.5) == 5.0
    assert percentile(values, 0.99) == 10.0
    assert percentile([], 0.5) is None
