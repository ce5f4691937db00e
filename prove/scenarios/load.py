"""Several sweepers, and a long backlog."""

from __future__ import annotations

import json

from prove.scenarios.registry import scenario
from prove.world import World
from tests.harness import ManagedProcess, python


@scenario("sweepers", "three sweepers publish everything, and are killed", short=True)
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
