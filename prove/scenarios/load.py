"""Several sweepers, and a long backlog."""

from __future__ import annotations

import json
import subprocess

import psycopg

from prove.scenarios.registry import scenario
from prove.world import World
from tests.harness import ROOT, ManagedProcess, python


@scenario("sweepers", "three sweepers publish everything, and are killed")
def sweepers(world: World) -> None:
    """Have producers that reach no broker, and sweepers that do it all for them."""
    for _ in range(2):
        world.worker(env={"PROVE_SETTINGS": json.dumps({**world.settings, "SWEEPER": False})})
    alone = [_sweeper(world, number) for number in range(3)]
    with world.load(rate=15, env={"PROVE_BROKER": "redis://127.0.0.1:1/0"}):
        for _ in range(2 if world.short else 6):
            world.pause(1, 2.5)
            index = world.rng.randrange(3)
            world.kill(alone[index], "sweeper SIGKILL")
            alone[index] = _sweeper(world, 10 + len(world.workers))


def _sweeper(world: World, number: int) -> ManagedProcess:
    process = ManagedProcess(
        python("-m", "django", "reliable_tasks", "sweep"),
        env=world.env(),
        log=world.folder / f"sweeper-{number}.log",
    )
    world.workers.append(process)
    return process.start()


@scenario("storm", "50,000 wait for an hour (clock simulated), defaults", settings={})
def storm(world: World) -> None:
    """Have sweepers look after a backlog that nobody works on: hardly anything is sent again."""
    backlog = 5_000 if world.short else 50_000
    done = subprocess.run(
        python("-m", "prove.storm", "--backlog", str(backlog)),
        cwd=ROOT,
        env=world.env(),
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    world.expect(found["delivered"] == backlog, f"the broker took {found['delivered']}")
    share = found["sent again"] / backlog
    world.figures["messages sent again, of the backlog"] = share
    world.figures["looks of the sweeper at an entry, on average"] = found["looks"] / backlog
    world.expect(share < 0.05, f"{share:.1%} of the backlog were sent again")
    world.expect(found["messages"] <= backlog * 1.05, f"{found['messages']} messages wait")
    with psycopg.connect(world.postgres.address(world.database), autocommit=True) as connection:
        connection.execute("TRUNCATE reliable_tasks_entry CASCADE")
