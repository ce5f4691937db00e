"""Faults of the broker."""

from __future__ import annotations

import time

from prove.scenarios.processes import BOTH
from prove.scenarios.registry import scenario
from prove.world import LIVE, World
from tests.harness import wait_until


@scenario("broker-wiped", "broker killed and restarted empty", short=BOTH, brokers=BOTH)
def broker_wiped(world: World) -> None:
    """Kill the broker under load; it comes back with nothing."""
    for _ in range(2):
        world.worker()
    with world.load(rate=30):
        for _ in range(1 if world.short else 3):
            world.pause(1.5, 3)
            with world.outage("broker wiped"):
                world.broker.kill()
                world.pause(0.2, 3)
                world.broker.start()
        world.pause(1, 2)


@scenario(
    "broker-emptied", "broker emptied (FLUSHALL) with a backlog", short=("redis",), brokers=BOTH
)
def broker_emptied(world: World) -> None:
    """Delete every message while many entries wait."""
    world.produce(400 if world.short else 1500)
    for _ in range(2):
        world.worker()
    with world.load():
        for _ in range(1 if world.short else 3):
            world.pause(0.5, 1)
            with world.outage("FLUSHALL"):
                world.broker.empty()
            world.pause(1, 2)


@scenario("broker-refuses", "broker that refuses connections for a while", brokers=BOTH)
def broker_refuses(world: World) -> None:
    """Have no broker at all for some seconds: producers must not notice."""
    for _ in range(2):
        world.worker()
    with world.load(rate=30):
        world.pause(1, 2)
        with world.outage("refusing"):
            world.broker.kill()
            before = world.count(table="prove_order")
            world.pause(7, 9)
            made = world.count(table="prove_order") - before
            world.broker.start()
        world.expect(made > 100, f"producers stalled: {made} orders during the outage")
        world.pause(1, 2)


@scenario("broker-silent", "broker that accepts and never answers", brokers=BOTH)
def broker_silent(world: World) -> None:
    """Freeze the broker: connections are accepted, and nothing comes back."""
    for _ in range(2):
        world.worker()
    with world.load(rate=30):
        world.pause(1, 2)
        with world.outage("silent"), world.broker.frozen():
            before = world.count(table="prove_order")
            world.pause(7, 9)
            made = world.count(table="prove_order") - before
        world.expect(made > 100, f"producers stalled: {made} orders during the outage")
        world.pause(1, 2)


@scenario("five-times", "each message delivered six times")
def five_times(world: World) -> None:
    """Publish five copies of each wake-up beside the real one, to several workers."""
    workers = [world.worker() for _ in range(2)]
    with world.load("--copies", "5", rate=15):
        world.pause(3, 4)
        world.note("copies")
        world.kill_child(workers[0])
        world.pause(3, 4)


@scenario("visibility", "tasks longer than the visibility timeout")
def visibility(world: World) -> None:
    """Have Redis deliver unacknowledged messages again while long tasks run and others wait."""
    world.celery["CELERY_BROKER_TRANSPORT_OPTIONS"] = {
        "visibility_timeout": 2,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
    }
    for _ in range(2):
        world.worker(concurrency=2)
    with world.load("--mix", "long=2,long_plain=2,atomic=3,plain=3,sole=2,recount=2", rate=3):
        world.pause(8, 10)
    world.note("redelivery")


def _wiped_with_backlog(world: World, pending: int, running: int) -> None:
    rolled = ("--rolled-back", "0")
    world.produce(running, "--mix", "long_plain=1", *rolled)
    world.produce(pending, "--mix", "atomic=1,plain=1", *rolled, timeout=240)
    # Its places are all taken by the long ones, which came first.
    holders = world.worker(pool="threads", concurrency=running, env={"PROVE_LONG": "25"})
    wait_until(lambda: world.count("state = 'running'") >= running, 30, interval=0.1)
    waits = world.count("state = 'pending'")
    world.expect(waits >= pending, f"{waits} wait, not {pending}")
    with world.outage("wiped"):
        world.broker.kill()
        world.pause(1, 1.5)
        world.worker(concurrency=2, wait=False)
        before = world.count("publishes > 1")
        world.broker.start()
    _watch_the_pace(world, before, pending)
    world.expect(holders.alive, "the worker with the running tasks has ended")


def _watch_the_pace(world: World, before: int, pending: int) -> None:
    """Sample how many entries were published again; the pace is one batch a turn and sweeper."""
    samples = [(time.monotonic(), before)]
    deadline = time.monotonic() + 240

    def go_on() -> bool:
        return bool(world.count(LIVE)) and time.monotonic() < deadline

    while go_on():
        time.sleep(1)
        samples.append((time.monotonic(), world.count("publishes > 1")))
    fastest = 0.0
    for (start, first), (end, last) in zip(samples, samples[5:], strict=False):
        fastest = max(fastest, (last - first) / (end - start))
    world.figures["published again a second, at most"] = round(fastest)
    world.figures["published again, of the waiting"] = samples[-1][1] / pending
    # Two workers' sweepers, 500 a second each at default settings, and a batch more at the edges.
    world.expect(fastest <= 1300, f"{fastest:.0f} entries a second were published again")


@scenario("wiped-10000", "broker wiped with 10,000 pending and 50 running, defaults", settings={})
def wiped_10000(world: World) -> None:
    """Everything runs without anyone acting, the first within ten seconds of the return."""
    _wiped_with_backlog(world, 10_000, 50)
    fault = world.faults[-1]
    from prove.recovery import recoveries
    from prove.shop import runs

    first = recoveries([fault], runs.read(world.runs))
    world.expect(bool(first) and first[0] <= 10, f"first attempt after {first} s")
