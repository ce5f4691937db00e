"""Command line: ``python -m prove [--short] [--seed N] [--only NAME]``."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

# The servers' own module reads it when asked for a database's settings.
os.environ["TEST_DATABASE"] = "postgres"

from prove import report, servers
from prove.recovery import recoveries
from prove.scenarios import SCENARIOS, Scenario
from prove.scenarios.registry import Skipped
from prove.shop import runs
from prove.world import World


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prove",
        description="Break everything around reliable_tasks and count what went wrong.",
    )
    parser.add_argument("--short", action="store_true", help="the short set, for every change")
    parser.add_argument("--seed", type=int, help="repeat a proof (its first line names the seed)")
    parser.add_argument("--runs", type=int, default=1, help="act each scenario this often")
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=list(SCENARIOS),
        help=f"only this scenario; may be repeated ({', '.join(SCENARIOS)})",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    parser.add_argument("--keep", action="store_true", help="keep the logs of what went right, too")
    return parser


class Proof:
    """Acts scenarios on servers of its own.

    Args:
        seed: of all that is random.
        short: do less of everything.
        keep: keep all logs.
    """

    def __init__(self, seed: int, *, short: bool, keep: bool) -> None:
        self._seed = seed
        self._short = short
        self._keep = keep
        self._folder = Path(tempfile.mkdtemp(prefix="prove-"))
        self._postgres = servers.Postgres()
        self._brokers: dict[str, servers.Broker] = {}

    def start(self) -> None:
        """Start the database and the brokers that there are."""
        self._postgres.start()
        self._postgres.make_template()
        self._brokers["redis"] = servers.Redis()
        if servers.Rabbit.installed():
            self._brokers["rabbitmq"] = servers.Rabbit()

    def stop(self) -> None:
        """Stop the servers; keep the logs if there is something to see in them."""
        for broker in self._brokers.values():
            broker.stop()
        self._postgres.stop()
        if not self._keep and not any(self._folder.iterdir()):
            shutil.rmtree(self._folder)

    def act(self, scenario: Scenario, times: int) -> list[report.Row]:
        """Act a scenario on each of its brokers; return a row for each of them."""
        rows = []
        for name in (self._short and scenario.short) or scenario.brokers:
            on = "" if name == "redis" else f", on {name}"
            row = report.Row(scenario.name, scenario.title + on)
            rows.append(row)
            if name not in self._brokers:
                row.skipped = f"{name} is not installed"
                continue
            started = time.monotonic()
            for number in range(times):
                if not row.skipped:
                    self._once(scenario, row, self._brokers[name], self._seed + number)
            row.seconds = time.monotonic() - started
        return rows

    def _once(self, scenario: Scenario, row: report.Row, broker: servers.Broker, seed: int) -> None:
        database = f"prove_{scenario.name.replace('-', '_')}"
        folder = self._folder / f"{scenario.name}-{broker.name}-{row.runs + 1}"
        folder.mkdir()
        self._postgres.copy_template(database)
        broker.start_if_needed()
        broker.empty()
        settings = dict(scenario.settings)
        world = World(
            folder, self._postgres, broker, database, seed, short=self._short, settings=settings
        )
        try:
            scenario.act(world)
            world.settle()
            row.add(world.check())
            row.recoveries += recoveries(world.faults, runs.read(world.runs))
        except Skipped as why:
            row.skipped = str(why)
        except Exception as error:  # the other scenarios are to be acted all the same
            row.broken.append(f"{type(error).__name__}: {error}")
        finally:
            world.close()
        row.runs += 1
        row.faults += len(world.faults)
        row.broken += world.broken
        row.figures |= world.figures
        if row.ok and not self._keep:
            shutil.rmtree(folder)


def _tell(row: report.Row, folder: Path) -> None:
    if row.skipped:
        print(f"skipped  {row.name}: {row.skipped}", flush=True)
        return
    print(f"{'ok' if row.ok else 'BROKEN':8} {row.title} ({row.seconds:.0f} s)", flush=True)
    for name, value in row.figures.items():
        print(f"         {name}: {value:,.4g}", flush=True)
    for words in (*row.broken, *row.findings.get("examples", [])):
        print(f"         ! {words}", flush=True)
    if not row.ok:
        print(f"         logs: {folder}", flush=True)


def main() -> int:
    """Act, print the table, and return 1 if a promise was broken."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = secrets.randbelow(100_000) if options.seed is None else options.seed
    chosen = [
        scenario
        for scenario in SCENARIOS.values()
        if (scenario.name in options.only if options.only else scenario.short or not options.short)
    ]
    print(f"seed {seed}: {len(chosen)} scenarios", flush=True)
    proof = Proof(seed, short=options.short, keep=options.keep)
    rows: list[report.Row] = []
    try:
        proof.start()
        for scenario in chosen:
            for row in proof.act(scenario, options.runs):
                rows.append(row)
                _tell(row, proof._folder)
    finally:
        proof.stop()
    print(f"\n{report.table(row.cells() for row in rows)}\n")
    if options.write:
        arguments = [f"--seed {seed}", *[f"--runs {options.runs}"] * (options.runs > 1)]
        arguments += ["--short"] * options.short
        report.write(rows, f'make prove ARGS="{" ".join(arguments)}"')
    bad = [row.name for row in rows if not row.ok]
    print(f"seed {seed}: {'BROKEN: ' + ', '.join(bad) if bad else 'every promise kept'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
