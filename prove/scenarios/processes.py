"""Faults of workers and producers."""

from __future__ import annotations

import os
import signal

from prove.scenarios.registry import scenario
from prove.world import LIVE, World
from tests.harness import ROOT, ManagedProcess, wait_until

BOTH = ("redis", "rabbitmq")
#: Many are caught in the middle of a body, and there are places enough for all.
LONG_ONES = "atomic=8,plain=8,flaky=2,parent=2,long=1,long_plain=1,sole=3,recount=3,event=2"


def _replaced(world: World, workers: list[ManagedProcess], index: int) -> None:
    workers[index] = world.worker(concurrency=2)


@scenario("worker-kill", "workers killed (SIGKILL, children too)", short=("redis",), brokers=BOTH)
def worker_kill(world: World) -> None:
    """Kill one of two workers again and again; a new one takes its place."""
    workers = [world.worker() for _ in range(2)]
    with world.load():
        for _ in range(2 if world.short else 5):
            world.pause(1.5, 4)
            index = world.rng.randrange(2)
            world.kill(workers[index])
            _replaced(world, workers, index)
        world.pause(1, 2)


@scenario("main-kill", "worker's main process killed, its children orphaned")
def main_kill(world: World) -> None:
    """Kill main processes only: their children may go on for a while, and must be fenced."""
    workers = [world.worker(concurrency=4) for _ in range(2)]
    with world.load("--mix", LONG_ONES, rate=8):
        for _ in range(3):
            world.pause(1.5, 3)
            index = world.rng.randrange(2)
            world.note("main SIGKILL", [workers[index].pid, *workers[index].child_pids()])
            os.kill(workers[index].pid, signal.SIGKILL)
            _replaced(world, workers, index)


@scenario("child-kill", "pool children killed (SIGKILL)", short=("redis",))
def child_kill(world: World) -> None:
    """Kill pool children while the workers live."""
    workers = [world.worker(concurrency=3) for _ in range(2)]
    with world.load():
        for _ in range(10 if world.short else 30):
            world.pause(0.2, 0.9)
            world.kill_child(world.rng.choice(workers))


@scenario("freeze", "workers frozen past their lease, then continued", short=("redis",))
def freeze(world: World) -> None:
    """Stop a whole worker, let another one take over, and let it go on."""
    workers = [world.worker(concurrency=4) for _ in range(2)]
    with world.load("--mix", LONG_ONES, rate=8):
        for _ in range(1 if world.short else 3):
            world.pause(1, 2)
            frozen = world.rng.choice(workers)
            pids = [frozen.pid, *frozen.child_pids()]
            world.note("SIGSTOP", pids)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            world.pause(7, 9)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@scenario("memory", "children that run out of memory, refused or killed")
def memory(world: World) -> None:
    """Let bodies use up their address space: MemoryError, and the kernel's SIGKILL."""
    world.worker(concurrency=3)
    with world.load("--mix", "hog=1,atomic=10,plain=5,sole=2,recount=2", producers=1, rate=12):
        world.pause(6, 8)
    world.note("out of memory")


@scenario("time-limit", "hard time limits exceeded")
def time_limit(world: World) -> None:
    """Let the first attempts exceed their hard limit."""
    world.worker(concurrency=4)
    with world.load("--mix", "overrun=1,atomic=8,sole=2,recount=2", producers=1, rate=8):
        world.pause(6, 8)
    world.note("hard limit")


@scenario("stops", "warm and cold shutdowns (SIGTERM, SIGQUIT) under load", short=("redis",))
def stops(world: World) -> None:
    """Stop workers in good order and at once."""
    workers = [world.worker() for _ in range(2)]
    with world.load():
        for number in (signal.SIGTERM, signal.SIGQUIT) * (1 if world.short else 3):
            world.pause(1, 2.5)
            index = world.rng.randrange(2)
            world.note(number.name, [workers[index].pid, *workers[index].child_pids()])
            workers[index].send_signal(number)
            workers[index].wait(40)
            _replaced(world, workers, index)


@scenario("rolling", "rolling restart of three workers under load", short=("redis",), brokers=BOTH)
def rolling(world: World) -> None:
    """Replace three workers one after the other, each warmly, before the old one has ended."""
    workers = [world.worker() for _ in range(3)]
    with world.load(rate=15):
        for _ in range(1 if world.short else 2):
            for index in range(3):
                world.pause(0.5, 1.5)
                old = workers[index]
                world.note("SIGTERM")
                old.terminate()
                _replaced(world, workers, index)
                old.wait(40)


@scenario("producer-kill", "producers killed at random instants", short=("redis",))
def producer_kill(world: World) -> None:
    """Kill producers in the middle of whatever they do."""
    world.worker(concurrency=3)
    for _ in range(4 if world.short else 10):
        producers = [world.producer("--rate", "150") for _ in range(2)]
        world.pause(0.3, 1.2)
        for each in producers:
            world.kill(each, "producer SIGKILL")


@scenario("clocks", "workers whose clocks are ten minutes off, both ways", short=("redis",))
def clocks(world: World) -> None:
    """Run workers and producers whose clocks are wrong, and kill some of them."""
    envs = [
        {"PYTHONPATH": f"{ROOT / 'prove' / 'shifted'}:{ROOT}", "PROVE_CLOCK_SHIFT": shift}
        for shift in ("-600", "600")
    ]
    workers = [world.worker(env=env) for env in envs]
    # A producer's own clock is right: it computes when a customer may expect the effect.
    with world.load("--mix", "atomic=4,plain=4,later=6,flaky=3,long_plain=1,sole=3,recount=3"):
        for index in (0, 1):
            world.pause(2, 3)
            world.kill(workers[index])
            workers[index] = world.worker(env=envs[index])
    world.expect(
        world.count("started_at > now() + interval '60 seconds'") == 0,
        "an entry carries a worker's clock",
    )
    world.expect(
        all("clock is off by" in worker.log for worker in workers), "the clocks were not off"
    )


@scenario("poison", "a poison task beside 200 healthy ones", short=("redis",))
def poison(world: World) -> None:
    """Poison runs its crash budget and no more; nobody else loses an attempt."""
    worker = world.worker(concurrency=3)
    world.produce(1, "--mix", "poison=1", "--rolled-back", "0")
    world.produce(200, "--mix", "atomic=1,plain=1", "--rolled-back", "0")
    wait_until(lambda: not world.count(LIVE), 60, interval=0.3)
    world.note("poison", worker.child_pids())
    healthy = "task NOT LIKE '%.poison'"
    world.expect(world.count(f"{healthy} AND attempt > 1") == 0, "a healthy task lost an attempt")
    world.expect(world.count(f"{healthy} AND crashes > 0") == 0, "a healthy task was charged")
    dead = world.rows("SELECT crashes, state FROM reliable_tasks_entry WHERE task LIKE '%.poison'")
    world.expect(bool(dead) and set(dead) == {(3, "dead")}, f"poison ended as {dead}")


@scenario("recovery", "SIGKILL to the next attempt, at default settings", settings={})
def recovery(world: World) -> None:
    """Kill workers with long tasks in their hands, and measure until each runs again."""
    os.environ["PROVE_LONG"] = "20"
    try:
        _measure_recovery(world)
    finally:
        del os.environ["PROVE_LONG"]


def _measure_recovery(world: World) -> None:
    # A worker renews all its leases at once, so that it is the kills and not the tasks that differ.
    kills, tasks = (2, 6) if world.short else (10, 12)
    # Each could run all of them: nothing waits for a child that is busy, nor with a message that a
    # busy worker has prefetched.
    workers = [world.worker(concurrency=tasks) for _ in range(2)]
    for _ in range(kills):
        world.produce(tasks, "--mix", "long_plain=1", "--rolled-back", "0")
        wait_until(lambda: world.count("state = 'running'") >= tasks, 20, interval=0.1)
        world.pause(0, 3)
        victim = world.rng.randrange(2)
        world.kill(workers[victim])
        workers[victim] = world.worker(concurrency=tasks)
        wait_until(lambda: world.count("state = 'running' AND attempt = 1") == 0, 30, interval=0.2)
        wait_until(lambda: world.count(LIVE) == 0, 90, interval=0.5)
