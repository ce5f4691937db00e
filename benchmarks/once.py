"""Very many calls with few keys, from many processes: ``python -m benchmarks.once --help``.

While they run, the driver looks again and again whether any key has two live entries, or is held by
an entry that is not live. One such look ends the run with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks import environment, servers
from benchmarks.processes import Bench

# Live entries by key, and keys whose holder is not live.
_TWICE = (
    "SELECT count(*) FROM (SELECT key FROM reliable_tasks_entry WHERE wake_at IS NOT NULL "
    "AND state IN ('pending', 'running', 'retrying') AND key IS NOT NULL "
    "GROUP BY key HAVING count(*) > 1) twice"
)
_STRAY = (
    "SELECT count(*) FROM reliable_tasks_key k LEFT JOIN reliable_tasks_entry e "
    "ON e.id = k.entry_id WHERE e.state IS NULL OR e.state IN ('succeeded', 'dead', 'cancelled')"
)


def main() -> int:
    """Run, print the figures as JSON, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.once", description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls in all")
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument(
        "--share", type=float, default=0.9, help="of the entries, finished at once by their caller"
    )
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two looks")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="reliable-tasks-benchmark-") as name,
        servers.started() as addresses,
    ):
        bench = Bench(addresses, Path(name))
        bench.produce("ledger", "migrate")
        figures = _run(bench, options)
    print(json.dumps(figures, indent=2))
    return 0


def _run(bench: Bench, options: argparse.Namespace) -> dict[str, float]:
    each = options.calls // options.processes
    extra = {environment.SIDE: "ledger"}
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.once.hammer",
             *map(str, (each, options.keys, seed, options.share))],
            env=os.environ | bench.environment("ledger", extra),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(options.processes)
    ]  # fmt: skip
    looks, most = 0, 0
    try:
        with psycopg.connect(bench.servers.database_url, autocommit=True) as connection:
            while any(process.poll() is None for process in running):
                twice, stray = (connection.execute(sql).fetchone()[0] for sql in (_TWICE, _STRAY))
                if twice or stray:
                    raise servers.BenchmarkError(f"{twice} keys live twice, {stray} stray keys")
                looks += 1
                time.sleep(options.every)
            most = connection.execute("SELECT count(*) FROM reliable_tasks_key").fetchone()[0]
        seconds = time.monotonic() - began
        told = [json.loads(_output(process)) for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
    total = {name: sum(one[name] for one in told) for name in ("written", "refused", "finished")}
    if most != total["written"] - total["finished"]:
        raise servers.BenchmarkError(f"{most} keys are held at the end; wanted: {total}")
    calls = total["written"] + total["refused"]
    return {
        "calls": calls, "keys": options.keys, "processes": options.processes, **total,
        "held at the end": most, "looks": looks, "keys with two live entries": 0,
        "seconds": round(seconds, 1), "calls per second": round(calls / seconds),
    }  # fmt: skip


def _output(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate()
    if process.returncode:
        raise servers.BenchmarkError(errors[-3000:])
    return out.splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
