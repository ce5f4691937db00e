"""Where the time goes, in µs a task: ``python -m benchmarks.profiling --help``."""

from __future__ import annotations

import argparse
import json
import pstats
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks import counters, environment, servers
from benchmarks.processes import Bench

if TYPE_CHECKING:
    from benchmarks.environment import Side
    from benchmarks.processes import Worker

_WARM_UP = 100


def _functions(paths: list[Path], tasks: int, lines: int, order: str) -> None:
    """Print the costliest functions over all profiles, in µs and calls a task."""
    if not paths:
        return
    stats = pstats.Stats(*map(str, paths))
    rows = []
    for (file, line, name), (_, calls, own, total, _) in stats.stats.items():  # type: ignore[attr-defined]
        where = name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        rows.append((own / tasks * 1e6, total / tasks * 1e6, calls / tasks, where))
    rows.sort(key=lambda row: row[0 if order == "own" else 1], reverse=True)
    print(f"{'own µs':>9} {'total µs':>9} {'calls':>7}  a task, by {order} time")
    for own, total, calls, where in rows[:lines]:
        print(f"{own:9.1f} {total:9.1f} {calls:7.2f}  {where}")


def _statements(paths: list[Path], tasks: int, lines: int) -> None:
    """Print the statements of all processes, costliest first."""
    if not paths:
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    calls: defaultdict[str, int] = defaultdict(int)
    for path in paths:
        for text, count, time in json.loads(path.read_text(encoding="utf-8")):
            seconds[text] += time
            calls[text] += count
    print(f"\n{'µs each':>9} {'calls':>7} {'µs':>9}  a task, statements through Django")
    for text in sorted(seconds, key=seconds.__getitem__, reverse=True)[:lines]:
        each = seconds[text] / calls[text] * 1e6
        whole = seconds[text] / tasks * 1e6
        print(f"{each:9.1f} {calls[text] / tasks:7.3f} {whole:9.1f}  {text[:300]}")


class _CpuMeter:
    """CPU time of the worker's processes and of the servers that this run started."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker.process.pid
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        main = psutil.Process(self._worker)
        groups = {"worker, main process": [main], "worker, pool processes": main.children()}
        for server in psutil.Process().children():
            if server.pid != self._worker:
                groups[server.name()] = [server, *server.children(recursive=True)]
        return {name: sum(map(self._seconds, group)) for name, group in groups.items()}

    @staticmethod
    def _seconds(process: psutil.Process) -> float:
        # Not the children's share: they are in the list themselves.
        times = process.cpu_times()
        return float(times.user + times.system)

    def show(self, tasks: int) -> None:
        """Print what each group used since the meter was made, a task."""
        print(f"{'CPU µs':>9}  a task")
        for name, seconds in self._read().items():
            print(f"{(seconds - self._before.get(name, 0.0)) / tasks * 1e6:9.0f}  {name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling")
    parser.add_argument(
        "what", choices=("enqueue", "bulk", "cpu", "children", "main", "statements"),
        help="the caller's thread in delay(); in enqueue_many(); CPU time of every process while a "
        "worker drains; functions of its pool processes; of its main process; SQL statements of "
        "its pool processes",
    )  # fmt: skip
    parser.add_argument("--side", choices=("plain", "ledger"), default="ledger")
    parser.add_argument("--task", choices=("noop", "deposit", "deposit_atomic"), default="noop")
    parser.add_argument("--count", type=int, default=2_000, help="tasks (2000)")
    parser.add_argument("--lines", type=int, default=30, help="lines to print (30)")
    parser.add_argument("--order", choices=("own", "total"), default="own", help="sort by")
    parser.add_argument(
        "--settings", type=json.loads, default={}, metavar="JSON",
        help="""RELIABLE_TASKS of the profiled process, for example '{"PUBLISH": "inline"}'""",
    )  # fmt: skip
    return parser


def _measure(bench: Bench, options: argparse.Namespace) -> tuple[Path, int]:
    """Run the profiled process; return its directory, and how many tasks it handled."""
    side: Side = options.side
    extra = {environment.SETTINGS: json.dumps(options.settings)}
    if options.what != "cpu":
        extra[environment.PROFILE] = options.what
    if options.what in ("enqueue", "bulk"):
        bench.produce(side, "profile", options.what, options.count, extra=extra)
        return bench.directory, options.count
    bench.produce(side, "fill", options.task, options.count, extra=extra)
    with bench.worker(side, extra=extra) as worker:

        def ran(count: int) -> bool:
            return counters.read_tally(worker.directory).count >= count

        worker.wait(lambda: ran(_WARM_UP), "the first bodies", 0.01)
        meter, before = _CpuMeter(worker), counters.read_tally(worker.directory)
        end = worker.wait(lambda: ran(options.count), "all bodies", 0.02)
        tally = counters.read_tally(worker.directory)
        if options.what == "cpu":
            meter.show(tally.count - before.count)
            print(f"{(tally.count - before.count) / (end - before.last):9.0f}  tasks a second")
    return worker.directory, tally.count


def main() -> int:
    """Run the profiler and return the exit code."""
    options = _parser().parse_args()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="reliable-tasks-benchmark-") as name,
            servers.started() as addresses,
        ):
            # A child that is killed leaves no profile.
            bench = Bench(addresses, Path(name), patience=40.0)
            bench.produce(options.side, "migrate")
            directory, tasks = _measure(bench, options)
            _functions(sorted(directory.glob("*.profile")), tasks, options.lines, options.order)
            _statements(sorted(directory.glob("*.statements")), tasks, options.lines)
    except servers.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
