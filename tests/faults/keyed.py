"""What leads entries with dedup keys to a fault point, and how it has to end: with no key."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pytest
from django.db import connection, transaction

from reliable_tasks import AlreadyQueued, ledger
from reliable_tasks.models import Key
from reliable_tasks.states import ACTIVE, WAITING, State
from tests.app import once_tasks as tasks
from tests.celery_app import app
from tests.faults.cases import CASES as CASES_WITHOUT_KEYS
from tests.faults.cases import FAULTS, ON_SQLITE, Victim, ends_itself, outlast
from tests.faults.conftest import Stage
from tests.harness import wait_until

LIVE, WAITS = tasks.hold_live, tasks.hold_waiting


def _call(stage: Stage, task: Any, until: int = 1, **options: Any) -> Any:
    args = (str(stage.folder), stage.queue, until)
    return task.apply_async(args, queue=stage.queue, **options)


# -- what leads to each point -------------------------------------------------------------------


def produces(stage: Stage, task: Any, **fault: str) -> Victim:
    """A producer takes the key in its transaction."""
    return stage.start("produce", task=task.name, args=[str(stage.folder), stage.queue], **fault)


def runs(stage: Stage, task: Any, **fault: str) -> Victim:
    """A worker runs the holder."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    _call(stage, task)
    return victim


def fails(stage: Stage, task: Any, **fault: str) -> Victim:
    """A worker runs a holder whose first attempt raises."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    _call(stage, task, until=2)
    return victim


def dies(stage: Stage, task: Any, **fault: str) -> Victim:
    """A worker runs a holder that becomes a dead letter."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    _call(stage, task, until=0)
    return victim


def adopts(stage: Stage, task: Any, **fault: str) -> Victim:
    """A worker receives a message that names no entry, and takes the key for it."""
    stage.folder.go()
    victim = stage.start("work", **fault)
    app.send_task(task.name, [str(stage.folder), stage.queue], queue=stage.queue)
    return victim


def stops(stage: Stage, task: Any, **fault: str) -> Victim:
    """A worker is told to stop at once while its pool runs the holder."""
    victim = stage.start("work", pool="prefork", **fault)
    _call(stage, task)
    stage.folder.wait_for_runs(1)
    victim.send_signal(signal.SIGQUIT)
    return victim


def rescues(stage: Stage, task: Any, **fault: str) -> Victim:
    """A sweeper finds a holder whose lease has ended."""
    held = ledger.claim(UUID(_call(stage, task).id), "gone@nowhere#0a0a0a0a", lease=0.01)
    assert held is not None
    if task is WAITS:
        ledger.free_at_start(held.entry, held.token)
    return stage.start("sweep", **fault)


def expires(stage: Stage, task: Any, **fault: str) -> Victim:
    """A sweeper finds a holder that has expired."""
    _call(stage, task, expires=0.05)
    return stage.start("sweep", **fault)


@dataclass(frozen=True)
class Case:
    """One way of an entry with a key to a point.

    Attributes:
        lead: leads a victim there.
        task: whose key blocks while it lives, or while it waits.
        point: the point.
        locked: others cannot take the entry over there, before the victim goes on or dies.
    """

    lead: Callable[..., Victim]
    task: Any
    point: str
    locked: bool = False

    @property
    def ends(self) -> State:
        """How the entry has to end."""
        return {dies: State.DEAD, expires: State.CANCELLED}.get(self.lead, State.SUCCEEDED)


CASES: Final = (
    Case(produces, LIVE, "enqueue.written", locked=True),
    Case(produces, WAITS, "enqueue.written", locked=True),
    Case(produces, WAITS, "enqueue.committed"),
    Case(adopts, LIVE, "adopt.written"),
    Case(runs, WAITS, "free.begin"),
    Case(runs, LIVE, "claim.written"),
    Case(runs, WAITS, "claim.written"),
    Case(runs, WAITS, "call.returned", locked=ON_SQLITE),
    Case(runs, LIVE, "finish.written", locked=True),
    Case(runs, WAITS, "finish.written", locked=True),
    Case(runs, LIVE, "finish.committed"),
    Case(fails, LIVE, "fail.written", locked=True),
    Case(fails, WAITS, "fail.written", locked=True),
    Case(fails, WAITS, "fail.committed"),
    Case(dies, LIVE, "fail.written", locked=True),
    Case(dies, WAITS, "fail.committed"),
    Case(stops, WAITS, "release.begin"),
    Case(stops, LIVE, "release.written", locked=True),
    Case(stops, WAITS, "release.written", locked=True),
    Case(stops, WAITS, "leave.begin"),
    Case(rescues, WAITS, "rescue.begin", locked=True),
    Case(rescues, LIVE, "rescue.written", locked=True),
    Case(rescues, WAITS, "rescue.written", locked=True),
    Case(expires, LIVE, "sweep.locked", locked=True),
    Case(expires, LIVE, "sweep.marked", locked=True),
)
# On SQLite whoever is frozen in a transaction freezes all who write: the cases without keys try
# that, at the points that they reach.
_ELSEWHERE: Final = {case.point for case in CASES_WITHOUT_KEYS} if ON_SQLITE else set()
TRIED: Final = [
    (case, fault)
    for fault in FAULTS
    for case in CASES
    if fault == "kill" or not ON_SQLITE or (fault == "stop" and case.point not in _ELSEWHERE)
]
IDS: Final = [
    f"{fault}-{case.lead.__name__}-{case.task.__name__}-{case.point}" for case, fault in TRIED
]


# -- what always holds, and the end ---------------------------------------------------------------

#: In one statement, which sees all of a move or nothing.
_LOOK: Final = (
    "SELECT e.id, e.state, k.digest FROM reliable_tasks_entry e "
    "LEFT JOIN reliable_tasks_key k ON k.entry_id = e.id WHERE e.queue = %s "
    "UNION ALL SELECT k.entry_id, NULL, k.digest FROM reliable_tasks_key k WHERE k.text LIKE %s "
    "AND NOT EXISTS (SELECT 1 FROM reliable_tasks_entry e WHERE e.id = k.entry_id)"
)


def look(stage: Stage, case: Case) -> list[tuple[Any, ...]]:
    """Read the entries and keys of a test, and see each key where it belongs."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, [stage.queue, f"%{stage.queue}%"])
        rows = list(cursor.fetchall())
    for _, state, key in rows:
        assert key is None or state in ACTIVE, rows
    if case.task is LIVE:
        living = [key for _, state, key in rows if state in ACTIVE]
        assert len(living) <= 1, rows
        assert None not in living, rows
    elif len(rows) == 1 and rows[0][1] in WAITING:
        assert rows[0][2] is not None, rows
    return rows


def _call_meanwhile(stage: Stage, case: Case) -> str | None:
    """Call while nobody else touches the entry; return the entry that came of it.

    What has expired blocks nobody, whether a sweeper has seen to it or not.
    """
    rows = look(stage, case)
    blocks = ACTIVE if case.task is LIVE else WAITING
    holder = [entry for entry, state, _ in rows if state in blocks]
    if not holder or case.lead is expires:
        return str(_call(stage, case.task).id)
    with pytest.raises(AlreadyQueued) as refused:
        _call(stage, case.task)
    assert [refused.value.entry] == [UUID(str(each)) for each in holder], rows
    return None


def _see_it_block(stage: Stage, case: Case) -> None:
    """Let a sweeper alone put the entry back: it waits then, and blocks, whatever its policy."""
    stage.start("sweep")
    wait_until(lambda: stage.entries()[0].state in WAITING, 20, message=stage.logs)
    assert _call_meanwhile(stage, case) is None


def check(stage: Stage, case: Case, fault: str) -> None:
    """Lead a victim to its point, and see each key end with its entry and not before."""
    stage.watch = lambda: look(stage, case)
    victim = case.lead(stage, case.task, point=case.point, fault=fault)
    stage.hit()
    since = time.monotonic()
    put_back = case.lead in {rescues, stops}
    made = _call_meanwhile(stage, case) if fault == "kill" and not put_back else None
    stage.folder.go()
    frozen = fault == "stop"
    if put_back:
        # Where it cannot be taken from the frozen victim, that one has to let go of it first.
        if frozen and (case.locked or ON_SQLITE):
            outlast(stage, victim, since, locked=True, ends=False)
            frozen = False
        _see_it_block(stage, case)
    if fault == "cut" and case.lead in {runs, fails, dies, adopts}:
        ends_itself(stage, victim)
    else:
        stage.start("work")
    if frozen:
        outlast(stage, victim, since, locked=case.locked, ends=case.lead is produces)
    if case.lead is produces:
        wait_until(lambda: not victim.is_running(), 25, message=stage.logs)
    stage.wait_ended()
    _judge(stage, case, made)


def _judge(stage: Stage, case: Case, made: str | None) -> None:
    found = stage.entries()
    first = [entry for entry in found if str(entry.pk) != made]
    assert len(first) == (stage.items() if case.lead is produces else 1), stage.logs()
    for entry in found:
        ends = case.ends if entry in first else State.SUCCEEDED
        assert entry.state == ends, (entry.reason, stage.logs())
        effects = [each.attempt for each in stage.effects() if each.entry_id == entry.pk]
        assert effects == ([entry.attempt] if ends is State.SUCCEEDED else [])
    assert not Key.objects.filter(text__contains=stage.queue).exists()
    with transaction.atomic():
        again = _call(stage, case.task)
        with pytest.raises(AlreadyQueued) as refused:
            _call(stage, case.task)
        assert str(refused.value.entry) == again.id
        transaction.set_rollback(True)
