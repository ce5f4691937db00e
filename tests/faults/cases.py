"""What leads to each fault point, and how it has to end: no loss, no duplicate, no ghost."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from reliable_tasks import ledger
from reliable_tasks.faults import POINTS
from reliable_tasks.models import Attempt
from tests import entries, services
from tests.app import worker_tasks as tasks
from tests.celery_app import app
from tests.faults.conftest import SETTINGS, Stage
from tests.harness import wait_until

ON_SQLITE = services.database_vendor() == "sqlite"
FAULTS = ("kill", "stop", "cut")
Victim = psutil.Process


# -- what leads to each point -------------------------------------------------------------------


def produces(stage: Stage, **fault: str) -> Victim:
    """A producer saves an item and enqueues a task for it."""
    stage.folder.go()
    return stage.start("produce", task=tasks.hold_atomic.name, args=[str(stage.folder)], **fault)


def runs_atomic(stage: Stage, **fault: str) -> Victim:
    """A worker runs a task with a transaction of its own."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    tasks.hold_atomic.apply_async((str(stage.folder),), queue=stage.queue)
    return victim


def runs_plain(stage: Stage, **fault: str) -> Victim:
    """A worker runs a task without one."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    tasks.hold.apply_async((str(stage.folder),), queue=stage.queue)
    return victim


def fails(stage: Stage, **fault: str) -> Victim:
    """A worker runs a task whose first attempt raises."""
    victim = stage.start("work", **fault)
    tasks.fail_until_atomic.apply_async((2,), queue=stage.queue)
    return victim


def adopts(stage: Stage, **fault: str) -> Victim:
    """A worker receives a message that names no entry."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    app.send_task(tasks.hold_atomic.name, [str(stage.folder)], queue=stage.queue)
    return victim


def renews(stage: Stage, **fault: str) -> Victim:
    """A worker's keeper renews the lease of a running task."""
    victim = stage.start("work", **fault)
    tasks.hold.apply_async((str(stage.folder),), queue=stage.queue)
    return victim


def stops(stage: Stage, **fault: str) -> Victim:
    """A worker is told to stop at once while its pool runs a task."""
    victim = stage.start("work", pool="prefork", **fault)
    tasks.hold.apply_async((str(stage.folder),), queue=stage.queue)
    stage.folder.wait_for_runs(1)
    victim.send_signal(signal.SIGQUIT)
    return victim


def rescues(stage: Stage, **fault: str) -> Victim:
    """A sweeper finds an entry whose lease has ended."""
    claim = ledger.claim(_lost(stage), "gone@nowhere#0a0a0a0a", lease=0.01)
    assert claim is not None
    return stage.start("sweep", **fault)


def sweeps(stage: Stage, **fault: str) -> Victim:
    """A sweeper finds an entry that is due and was not published before."""
    stage.folder.go()
    tasks.hold_atomic.apply_async((str(stage.folder),), queue=stage.queue, countdown=0.1)
    return stage.start("sweep", **fault)


def counts(stage: Stage, **fault: str) -> Victim:
    """A sweeper finds an entry whose message the broker has lost."""
    _lost(stage)
    return stage.start("sweep", **fault)


def _lost(stage: Stage) -> object:
    stage.folder.go()
    entry = entries.new(
        task=tasks.hold_atomic.name, queue=stage.queue, args=json.dumps([str(stage.folder)])
    )
    assert ledger.enqueue(entry, grace=60.0)
    return entry.id


def takes_back(stage: Stage, **fault: str) -> Victim:
    """A sweeper's broker dies between two sweeps, and comes back empty."""
    stage.folder.go()
    server = services.RedisServer()
    server.start()
    stage.at_end.callback(server.stop)
    stage.broker = server.url
    victim = stage.start("sweep", **fault)
    tasks.hold_atomic.apply_async((str(stage.folder),), queue=stage.queue, countdown=0.1)
    # Its first publish opens the connection whose end it does not notice before the second one.
    wait_until(lambda: stage.entries()[0].publishes, message=stage.logs)
    server.kill()
    tasks.hold_atomic.apply_async((str(stage.folder),), queue=stage.queue, countdown=0.1)
    stage.hit()
    server.start()
    return victim


@dataclass(frozen=True)
class Case:
    """One way to a point.

    Attributes:
        lead: leads a victim there.
        point: the point.
        locked: others cannot take the entry over there, before the victim goes on or dies.
    """

    lead: Callable[..., Victim]
    point: str
    locked: bool = False


def _cases() -> Iterator[Case]:
    yield from (Case(produces, point, point != "enqueue.committed") for point in _of("enqueue"))
    yield from (Case(produces, point) for point in _of("publish"))
    steps = _of("claim", "load", "call", "finish")
    for point in steps:
        opened = point in {"call.begin", "call.returned", "finish.begin"} and ON_SQLITE
        yield Case(runs_atomic, point, opened or point == "finish.written")
    yield from (Case(runs_plain, point) for point in _of("call", "finish"))
    yield from (Case(fails, point, point == "fail.written") for point in _of("fail"))
    yield from (Case(adopts, point, point == "adopt.begin") for point in _of("adopt"))
    yield from (Case(renews, point) for point in _of("renew"))
    yield from (Case(stops, point, point == "release.written") for point in _of("release", "leave"))
    yield from (Case(rescues, point, locked=True) for point in _of("rescue"))
    for point in _of("sweep"):
        yield Case(sweeps, point, point in {"sweep.locked", "sweep.marked"})
    yield from (Case(counts, point) for point in _of("reconcile"))
    yield from (Case(takes_back, point) for point in _of("takeback"))


def _of(*groups: str) -> list[str]:
    return [point for point in POINTS if point.partition(".")[0] in groups]


CASES = list(_cases())
# Between the acknowledgement and the entry that is written, only the broker could know; see the
# limits of "no lost task".
LOSES = ("adopt.begin", "kill")
# No database connection is used there.
NOTHING_TO_CUT = {"publish.begin", "publish.sent"}


def cases_of(fault: str) -> list[Case]:
    """Return the cases in which a fault is tried."""
    if fault != "cut":
        return CASES
    return [] if ON_SQLITE else [case for case in CASES if case.point not in NOTHING_TO_CUT]


def at_each_point(fault: str) -> pytest.MarkDecorator:
    """Parametrize a test with the cases of a fault."""
    cases = cases_of(fault)
    return pytest.mark.parametrize(
        "case", cases, ids=[f"{case.lead.__name__}-{case.point}" for case in cases]
    )


# -- the end --------------------------------------------------------------------------------------


def check(stage: Stage, case: Case, fault: str) -> None:
    """Lead a victim to its point, and see each committed task run and each effect there once."""
    victim = case.lead(stage, point=case.point, fault=fault)
    stage.hit()
    since = time.monotonic()
    stage.folder.go()
    if fault == "cut":
        _survives(stage, case, victim)
    else:
        stage.start("work")
    if fault == "stop":
        outlast(stage, victim, since, locked=case.locked, ends=case.lead is produces)
    if case.lead is produces:
        wait_until(lambda: not victim.is_running(), 25, message=stage.logs)
    stage.wait_ended()
    _judge(stage, case, fault)


def outlast(stage: Stage, victim: Victim, since: float, *, locked: bool, ends: bool) -> None:
    """Keep a victim frozen past its lease, let it go on, and wait for its end.

    Args:
        stage: the test's stage.
        victim: who is frozen.
        since: since when.
        locked: others cannot take over what it holds.
        ends: it ends by itself.
    """
    # On SQLite another thread of the frozen process may just have had the one write lock.
    if not locked and not ON_SQLITE:
        stage.wait_ended()
    wait_until(lambda: time.monotonic() - since > SETTINGS["LEASE_SECONDS"], 5)
    stage.go_on(victim)
    if not ends:
        stage.end(victim)
    wait_until(lambda: not victim.is_running(), 25, message=stage.logs)


def _survives(stage: Stage, case: Case, victim: Victim) -> None:
    """The victim of a cut connection ends its work itself, where running tasks is its work."""
    if case.lead in {runs_atomic, runs_plain, fails, adopts, renews}:
        ends_itself(stage, victim)
    else:
        stage.start("work")


def ends_itself(stage: Stage, victim: Victim) -> None:
    """See a worker end its work by itself after a fault, and stop it then."""
    wait_until(stage.entries, 20, message=stage.logs)
    stage.wait_ended()
    assert victim.is_running(), stage.logs()
    stage.end(victim)


def _judge(stage: Stage, case: Case, fault: str) -> None:
    found = stage.entries()
    if case.lead is produces:
        never = case.point in {"enqueue.begin", "enqueue.written"} and fault != "stop"
        assert len(found) == stage.items() == (0 if never else 1)
    elif (case.point, fault) == LOSES:
        assert found == []
    else:
        assert len(found) == (2 if case.lead is takes_back else 1)
    effects = stage.effects()
    for entry in found:
        assert entry.state == "succeeded", (entry.reason, stage.logs())
        mine = [effect.attempt for effect in effects if effect.entry_id == entry.pk]
        assert mine, stage.logs()
        assert len(mine) == len(set(mine)), mine
        died = Attempt.objects.filter(entry_id=entry.pk, outcome__in=["crashed", "released"])
        if entry.task == tasks.hold.name:
            repeats = sorted(mine)[:-1]
            assert set(repeats) <= set(died.values_list("number", flat=True)), mine
            assert not (repeats and fault == "cut"), mine
        else:
            assert mine == [entry.attempt]
