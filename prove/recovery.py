"""From the log of attempts: how long until work went on after a fault."""

from __future__ import annotations

from collections.abc import Sequence

from prove.shop.runs import Line
from prove.world import Fault

# Their attempts end without a line when they fail as they are meant to.
_NO_END = ("flaky", "flaky_plain", "hog", "overrun", "poison", "sole")


def recoveries(faults: Sequence[Fault], log: Sequence[Line]) -> list[float]:
    """Return the seconds of each recovery.

    Of a killed or stopped process: from the fault to the start of the next attempt, for each
    attempt that it interrupted. Of a service: from its return to the first start of any attempt.
    """
    seconds = []
    for fault in faults:
        if fault.pids:
            seconds += _of_processes(fault, log)
        elif fault.over is not None:
            after = [line.at for line in log if line.what == "start" and line.at >= fault.over]
            seconds += [after[0] - fault.over] if after else []
    return seconds


def _of_processes(fault: Fault, log: Sequence[Line]) -> list[float]:
    ended = {
        (line.number, line.kind, line.attempt)
        for line in log
        if line.what == "end" and line.at <= fault.at
    }
    latest: dict[int, Line] = {}
    for line in log:
        if line.what == "start" and line.at <= fault.at and line.pid in fault.pids:
            key = (line.number, line.kind, line.attempt)
            if key not in ended and line.kind not in _NO_END:
                latest[hash(key)] = line
    seconds = []
    for interrupted in latest.values():
        following = [
            line.at
            for line in log
            if line.what == "start"
            and (line.number, line.kind) == (interrupted.number, interrupted.kind)
            and line.attempt > interrupted.attempt
        ]
        # None follows where its transaction had committed a moment before.
        seconds += [following[0] - fault.at] if following else []
    return seconds


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that this share of all does not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, int(-(-share * len(ordered) // 1)) - 1))]
