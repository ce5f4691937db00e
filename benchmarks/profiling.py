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

from benchmarks import counters, environment, servers
from benchmarks.processes import Bench

if TYPE_CHECKING:
    from benchmarks.environment import Side


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling")
    parser.add_argument("what", choices=("enqueue", "children", "main", "statements"))
    parser.add_argument("--side", choices=("plain", "ledger"), default="ledger")
    parser.add_argument("--task", choices=("noop", "deposit", "deposit_atomic"), default="noop")
    parser.add_argument("--count", type=int, default=2_000, help="tasks (2000)")
    parser.add_argument("--lines", type=int, default=30, help="lines to print (30)")
    parser.add_argument("--order", choices=("own", "total"), default="own", help="sort by")
    parser.add_argument(
        "--inline", action="store_true", help="enqueue: publish in the caller's thread"
    )
    return parser


def _measure(bench: Bench, options: argparse.Namespace) -> tuple[Path, int]:
    """Run the profiled process; return its directory, and how many tasks it handled."""
    side: Side = options.side
    extra = {environment.PROFILE: options.what}
    if options.what == "enqueue":
        extra |= {environment.PUBLISH: "inline"} if options.inline else {}
        bench.produce(side, "profile", options.count, extra=extra)
        return bench.directory, options.count
    bench.produce(side, "fill", options.task, options.count)
    with bench.worker(side, extra=extra) as worker:
        worker.wait(
            lambda: counters.read_tally(worker.directory).count >= options.count, "all bodies", 0.1
        )
    return worker.directory, counters.read_tally(worker.directory).count


def main() -> int:
    """Run the profiler and return the exit code."""
    options = _parser().parse_args()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="reliable-tasks-benchmark-") as name,
            servers.started() as addresses,
        ):
            bench = Bench(addresses, Path(name))
            bench.produce("ledger" if options.side == "ledger" else "plain", "migrate")
            directory, tasks = _measure(bench, options)
            _functions(sorted(directory.glob("*.profile")), tasks, options.lines, options.order)
            _statements(sorted(directory.glob("*.statements")), tasks, options.lines)
    except servers.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
