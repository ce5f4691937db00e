"""Command line of the benchmark: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, report, servers
from benchmarks.cases import CASES, FULL, QUICK, Case, Run, Scale
from benchmarks.processes import Bench

_README = Path(__file__).with_name("README.md")
_TRIES = 4
_IDLE_SECONDS = 60.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure reliable_tasks against plain Celery in one run on this machine.",
        epilog="DATABASE_URL and REDIS_URL, when set, are used in place of servers of its own.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, about a minute")
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=[case.name for case in CASES],
        help=f"measure only this case; may be repeated ({', '.join(c.name for c in CASES)})",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="rounds of each case (3; with --quick 1)")
    parser.add_argument(
        "--idle", action="store_true",
        help="wait for an idle machine before each measurement, and repeat those that other "
        "programs disturbed (takes as long as they like)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--write-readme", action="store_true", help="put the table into benchmarks/README.md"
    )
    return parser


class _Session:
    """Runs the chosen cases round by round; the sides alternate in who goes first.

    Args:
        bench: the running servers.
        scale: how much work each measurement is given.
        tries: how often one is repeated until nothing else disturbed it.
    """

    def __init__(self, bench: Bench, scale: Scale, tries: int) -> None:
        self._bench = bench
        self._scale = scale
        self._tries = tries
        self.others: list[float] = []

    def measure(self, cases: list[Case], rounds: int) -> list[report.Rounds]:
        results: list[report.Rounds] = [[] for _ in cases]
        self._bench.produce("ledger", "migrate")
        for number in range(rounds):
            for case, figures in zip(cases, results, strict=True):
                _tell(f"round {number + 1} of {rounds}: {case.name}")
                figures.append({})
                for run in case.runs if number % 2 == 0 else reversed(case.runs):
                    figures[-1].update(self._once(run))
        return results

    def _once(self, run: Run) -> dict[str, float]:
        """Measure once; with more tries, on an idle machine, and keep the least disturbed one."""
        found: list[tuple[float, dict[str, float]]] = []
        while len(found) < self._tries:
            if self._tries > 1:
                machine.wait_until_idle(_IDLE_SECONDS)
            meter = machine.Meter(self._bench.servers)
            figures = run.measure(self._bench, self._scale)
            found.append((meter.others(), figures))
            if found[-1][0] <= machine.DISTURBED:
                break
        others, figures = min(found, key=lambda one: one[0])
        self.others.append(others)
        for label, value in figures.items():
            _tell(f"    {label}: {value:,.1f}")
        return figures


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _run(options: argparse.Namespace) -> None:
    cases = [case for case in CASES if not options.only or case.name in options.only]
    scale = QUICK if options.quick else FULL
    rounds = options.rounds or (1 if options.quick else 3)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="reliable-tasks-benchmark-") as name,
        servers.started() as addresses,
    ):
        facts = machine.facts(addresses)
        bench = Bench(addresses, Path(name))
        session = _Session(bench, scale, _TRIES if options.idle else 1)
        figures = session.measure(cases, rounds)
        facts |= machine.facts_after(addresses, session.others)
    facts["Run"] = f"{rounds} round(s), {time.monotonic() - started:.0f} s"
    results = list(zip(cases, figures, strict=True))
    print(report.as_text(results, facts))
    if options.json:
        text = json.dumps(report.as_json(results, facts), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.write_readme:
        report.write_readme(_README, report.as_markdown(results, facts))


def _end(number: int, _frame: object) -> None:
    # A second signal must not interrupt the stopping of servers and workers.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    """Run the benchmark and return the exit code."""
    options = _parser().parse_args()
    if options.rounds is not None and options.rounds < 1:
        _parser().error("--rounds must be at least 1")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        _run(options)
    except servers.BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
