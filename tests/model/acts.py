"""Every verb of the ledger as an act that can be done to the ledger and to the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from reliable_tasks import ledger
from reliable_tasks.errors import Fenced
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import Claim
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.entries import FAILURE, GRACE, LEASE, OTHER_WORKER, T0, WORKER
from tests.model.reference import Answer, Model

#: More would only make it rarer that two acts meet at one entry.
MOST_ENTRIES = 5
WORKERS = (WORKER, OTHER_WORKER)
QUEUES = ("celery", "other")
TASK, OTHER_TASK = "tests.app.tasks.add", "tests.app.tasks.other"
RECHECK, LONGEST = GRACE, 40.0


@dataclass
class World:
    """What the acts of one run have to do with."""

    model: Model = field(default_factory=Model)
    now: datetime = T0
    #: Every claim that was ever made, the outdated included.
    claims: list[Claim] = field(default_factory=list)
    #: The id of the next entry, so that two acts may both try to write it.
    next_id: UUID = field(default_factory=new_id)
    #: The entry at which two acts are to meet.
    focus: UUID | None = None

    def entry(self, pick: int) -> UUID:
        if self.focus is not None and pick % 4:
            return self.focus
        known = [*self.model.rows, self.next_id]
        return known[pick % len(known)]

    def some(self, picks: list[int]) -> list[UUID]:
        return list(dict.fromkeys(self.entry(pick) for pick in picks))

    def new(self, pick: int) -> UUID:
        if pick % 4 == 0 or len(self.model.rows) >= MOST_ENTRIES:
            return self.entry(pick // 4)
        return self.next_id

    def claim(self, pick: int) -> Claim | None:
        claims = self.claims
        if self.focus is not None and pick % 4:
            claims = [held for held in claims if held.entry == self.focus]
        # As often the last one as any other.
        return claims[-1 - (pick // 2 % len(claims) if pick % 2 else 0)] if claims else None


@dataclass
class Act:
    """One call of the ledger, and the same of the model."""

    real: Callable[[], Answer]
    ideal: Callable[[Model], Answer]
    names: frozenset[UUID] = frozenset()
    #: Leaves out rows that somebody else has locked.
    skips: bool = False
    claimed: list[Claim] = field(default_factory=list)


Builder = Callable[..., Act | None]
_BUILDERS: dict[str, Builder] = {}
_PLANS: list[st.SearchStrategy[Plan]] = []

PICK = st.integers(0, 23)
PICKS = st.lists(st.integers(0, 7), min_size=1, max_size=3)
WHO = st.sampled_from(WORKERS)
FLAG = st.booleans()


@dataclass(frozen=True)
class Plan:
    """An act before it is known which entries there are."""

    verb: str
    options: tuple[tuple[str, Any], ...]

    def act(self, world: World) -> Act | None:
        return _BUILDERS[self.verb](world, **dict(self.options))

    def __repr__(self) -> str:
        return f"{self.verb}({', '.join(f'{name}={value!r}' for name, value in self.options)})"


def verb(**options: st.SearchStrategy[Any]) -> Callable[[Builder], Builder]:
    """Let the machine choose a verb, with options drawn from strategies."""

    def register(builder: Builder) -> Builder:
        name = builder.__name__
        _BUILDERS[name] = builder
        drawn = st.fixed_dictionaries(options)
        _PLANS.append(drawn.map(lambda chosen: Plan(name, tuple(chosen.items()))))
        return builder

    return register


def plans(*verbs: str) -> st.SearchStrategy[Plan]:
    """Return a strategy for acts: of some verbs, or of all."""
    chosen = [plan for name, plan in zip(_BUILDERS, _PLANS, strict=True) if name in verbs]
    return st.one_of(chosen or _PLANS)


def _counted(number: int) -> Answer:
    return {None: number}


# -- enqueue --------------------------------------------------------------------------------------
def _new(**changes: Any) -> dict[str, Any]:
    given = {"delay": 0.0, "expires_in": None, "crash_budget": 2, "queue": QUEUES[0]}
    return {**given, **changes}


NEW = {
    "pick": PICK,
    "delay": st.sampled_from([0.0, 0.0, 3.0, 30.0]),
    "expires_in": st.sampled_from([None, None, 2.0, 20.0]),
    "queue": st.sampled_from(QUEUES),
}


@verb(**NEW)
def enqueue(world: World, pick: int, **changes: Any) -> Act:
    entry, given, now = world.new(pick), _new(**changes), world.now

    def real() -> Answer:
        new = entries.new(id=entry, task=TASK, args="[1]", **given)
        return {entry: ledger.enqueue(new, grace=GRACE, now=now)}

    def ideal(model: Model) -> Answer:
        return model.enqueue(entry, now=now, grace=GRACE, task=TASK, args=[1], **given)

    return Act(real, ideal, frozenset([entry]))


@verb(**NEW)
def enqueue_many(world: World, pick: int, **changes: Any) -> Act:
    ids, given, now = [world.new(pick), world.new(pick // 2)], _new(**changes), world.now

    def real() -> Answer:
        new = [entries.new(id=each, task=TASK, args="[2]", **given) for each in dict.fromkeys(ids)]
        ledger.enqueue_many(new, grace=GRACE, now=now)
        return {}

    def ideal(model: Model) -> Answer:
        for each in ids:
            model.enqueue(each, now=now, grace=GRACE, task=TASK, args=[2], **given)
        return {}

    return Act(real, ideal, frozenset(ids))


@verb(**NEW)
def enqueue_alike(world: World, pick: int, **changes: Any) -> Act:
    ids, given, now = [world.new(pick), world.new(pick // 2)], _new(**changes), world.now

    def real() -> Answer:
        calls = [(each, "[3]", "{}") for each in dict.fromkeys(ids)]
        ledger.enqueue_alike(entries.new(task=TASK, **given), calls, grace=GRACE, now=now)
        return {}

    def ideal(model: Model) -> Answer:
        for each in ids:
            model.enqueue(each, now=now, grace=GRACE, task=TASK, args=[3], **given)
        return {}

    return Act(real, ideal, frozenset(ids))


# -- claim ----------------------------------------------------------------------------------------
@verb(pick=PICK, worker=WHO, ignore_due=FLAG, task=st.sampled_from([None, None, TASK, OTHER_TASK]))
def claim(world: World, pick: int, worker: str, ignore_due: bool, task: str | None) -> Act:
    entry, now = world.entry(pick), world.now
    how = {"lease": LEASE, "ignore_due": ignore_due, "task": task, "now": now}
    claimed: list[Claim] = []

    def real() -> Answer:
        held = ledger.claim(entry, worker, **how)
        if held is None:
            return {entry: None}
        claimed.append(held)
        args = json.loads(held.args) if isinstance(held.args, str) else held.args
        return {entry: (held.token, held.retries, held.crashes, held.task, args, held.queue)}

    return Act(
        real,
        lambda model: model.claim(entry, worker, **how),
        frozenset([entry]),
        claimed=claimed,
    )


@verb(picks=PICKS, worker=WHO)
def renew(world: World, picks: list[int], worker: str) -> Act:
    ids, now = world.some(picks), world.now
    return Act(
        lambda: _counted(ledger.renew(ids, worker, lease=LEASE, now=now)),
        lambda model: model.renew(ids, worker, lease=LEASE, now=now),
        frozenset(ids),
    )


@verb(pick=PICK, done=st.integers(0, 3))
def report_progress(world: World, pick: int, done: int) -> Act | None:
    held = world.claim(pick)
    if held is None:
        return None
    said = {"done": done}
    return Act(
        lambda: {held.entry: ledger.report_progress(held.entry, held.token, said)},
        lambda model: model.progress(held.entry, held.token, said),
        frozenset([held.entry]),
    )


# -- finish ---------------------------------------------------------------------------------------
def _finish(
    held: Claim | None, real: Callable[[Claim], None], ideal: Callable[[Model, Claim], Answer]
) -> Act | None:
    if held is None:
        return None

    def act() -> Answer:
        try:
            real(held)
        except Fenced:
            return {held.entry: "fenced"}
        return {held.entry: "done"}

    return Act(act, lambda model: ideal(model, held), frozenset([held.entry]))


@verb(pick=PICK, handing_over=FLAG)
def succeed(world: World, pick: int, handing_over: bool) -> Act | None:
    now = world.now
    if handing_over:
        return _finish(
            world.claim(pick),
            lambda held: ledger.hand_over(held, now=now),
            lambda model, held: model.hand_over(held.entry, held.token, now=now),
        )
    return _finish(
        world.claim(pick),
        lambda held: ledger.succeed(held, now=now),
        lambda model, held: model.succeed(held.entry, held.token, now=now),
    )


RETRY = {
    "delay": st.sampled_from([0.0, 1.0, 25.0]),
    "args": st.sampled_from([None, [4]]),
    "charged": st.sampled_from([True, True, False]),
}


@verb(pick=PICK, **RETRY)
def reschedule(world: World, pick: int, args: list[int] | None, **how: Any) -> Act | None:
    changes = None if args is None else {"args": json.dumps(args)}
    how = {**how, "grace": GRACE, "now": world.now}
    return _finish(
        world.claim(pick),
        lambda held: ledger.reschedule(held, FAILURE, Outcome.FAILED, changes=changes, **how),
        lambda model, held: model.reschedule(
            held.entry, held.token, error=FAILURE.error_class, args=args, **how
        ),
    )


@verb(pick=PICK)
def bury(world: World, pick: int) -> Act | None:
    now = world.now
    return _finish(
        world.claim(pick),
        lambda held: entries.bury(held, now=now),
        lambda model, held: model.bury(held.entry, held.token, error=FAILURE.error_class, now=now),
    )


@verb(pick=PICK)
def discard(world: World, pick: int) -> Act | None:
    now = world.now
    return _finish(
        world.claim(pick),
        lambda held: ledger.discard(held, FAILURE, reason="gone", now=now),
        lambda model, held: model.discard(
            held.entry, held.token, error=FAILURE.error_class, now=now
        ),
    )


@verb(pick=PICK)
def release(world: World, pick: int) -> Act | None:
    now = world.now
    return _finish(
        world.claim(pick),
        lambda held: ledger.release(held, why="told to stop", now=now),
        lambda model, held: model.release(held.entry, held.token, now=now),
    )


@verb(pick=PICK)
def stop(world: World, pick: int) -> Act | None:
    now = world.now
    return _finish(
        world.claim(pick),
        lambda held: ledger.stop(held, now=now),
        lambda model, held: model.stop(held.entry, held.token, now=now),
    )


@verb(pick=PICK)
def replace(world: World, pick: int) -> Act | None:
    now = world.now
    successor = entries.new(task=OTHER_TASK, args="[5]", crash_budget=2, queue=QUEUES[0])

    def ideal(model: Model, held: Claim) -> Answer:
        answer = model.replace(
            held.entry, held.token, task=OTHER_TASK, args=[5], grace=GRACE, now=now
        )
        if answer[held.entry] == "done":
            model.rows[held.entry].queue = QUEUES[0]
        return answer

    return _finish(
        world.claim(pick),
        lambda held: ledger.replace(held, successor, grace=GRACE, now=now),
        ideal,
    )


# -- rescue and sweep -----------------------------------------------------------------------------
def told(swept: ledger.Swept) -> Answer:
    """Return what a pass says it did, entry by entry."""
    answer: dict[UUID, set[str]] = {}
    for word in ("rescued", "died", "cancelled", "expired"):
        for taken in getattr(swept, word):
            answer.setdefault(taken.id, set()).add(word)
    for wakeup in swept.wakeups:
        answer.setdefault(UUID(wakeup.entry), set()).add("published")
    return {**answer}


@verb(picks=PICKS, worker=WHO, dead_for=st.sampled_from([0.0, 0.0, 2.0]))
def rescue_lost(world: World, picks: list[int], worker: str, dead_for: float) -> Act:
    ids, how = world.some(picks), {"dead_for": dead_for, "now": world.now}
    return Act(
        lambda: told(ledger.rescue_lost(ids, worker, **how)),
        lambda model: model.rescue_lost(ids, worker, crash=ledger.CRASH, **how),
        frozenset(ids),
        skips=True,
    )


@verb(worker=WHO)
def release_left(world: World, worker: str) -> Act:
    now = world.now
    return Act(
        lambda: _counted(ledger.release_left(worker, now=now)),
        lambda model: model.release_left(worker, now=now),
        skips=True,
    )


SWEEP = {
    "publishing": st.sampled_from([True, True, False]),
    "counted": FLAG,
    "shared": st.sampled_from([(), QUEUES[:1]]),
    "rescuing": st.sampled_from([True, True, False]),
}


@verb(**SWEEP)
def sweep(world: World, limit: int = 100, **how: Any) -> Act:
    how = {**how, "recheck": RECHECK, "longest": LONGEST, "now": world.now}

    def real() -> Answer:
        swept = ledger.sweep_due(limit=limit, **how)
        return {**told(swept), None: swept.put_off}

    return Act(real, lambda model: model.sweep(crash=ledger.CRASH, **how), skips=True)


@verb(picks=PICKS)
def take_back(world: World, picks: list[int]) -> Act:
    ids, now = world.some(picks), world.now
    return Act(
        lambda: _counted(ledger.take_back(ids, retry_in=5.0, now=now)),
        lambda model: model.take_back(ids, retry_in=5.0, now=now),
        frozenset(ids),
    )


@verb(queue=st.sampled_from(QUEUES))
def pull_forward(world: World, queue: str) -> Act:
    now = world.now
    return Act(
        lambda: _counted(ledger.pull_forward(queue, count=100, grace=GRACE, now=now)),
        lambda model: model.pull_forward(queue, grace=GRACE, now=now),
    )


# -- people ---------------------------------------------------------------------------------------
@verb(picks=PICKS)
def cancel(world: World, picks: list[int]) -> Act:
    ids, now = world.some(picks), world.now

    def real() -> Answer:
        result = ledger.cancel(ids, reason="changed my mind", now=now)
        parts = {"cancelled": result.cancelled, "asked": result.asked, "skipped": result.skipped}
        return {each: word for word, part in parts.items() for each in part}

    return Act(
        real,
        lambda model: model.cancel(ids, reason="changed my mind", now=now),
        frozenset(ids),
    )


@verb(picks=PICKS, delay=st.sampled_from([0.0, 0.0, 4.0]))
def requeue(world: World, picks: list[int], delay: float) -> Act:
    ids, now = world.some(picks), world.now
    due_at = now + timedelta(seconds=delay) if delay else None
    return Act(
        lambda: dict.fromkeys(ledger.requeue(ids, due_at=due_at, now=now), "back"),
        lambda model: model.requeue(ids, delay=delay, now=now),
        frozenset(ids),
    )


@verb(picks=PICKS)
def discard_dead(world: World, picks: list[int]) -> Act:
    ids, now = world.some(picks), world.now
    return Act(
        lambda: dict.fromkeys(ledger.discard_dead(ids, reason="given up", now=now), "discarded"),
        lambda model: model.discard_dead(ids, reason="given up", now=now),
        frozenset(ids),
    )


@verb(state=st.sampled_from(["succeeded", "dead", "cancelled"]), older_than=st.just(20.0))
def prune(world: World, state: str, older_than: float) -> Act:
    now = world.now
    age = timedelta(seconds=older_than)
    return Act(
        lambda: _counted(ledger.prune(State(state), age, now=now)),
        lambda model: model.prune(state, older_than=older_than, now=now),
        skips=True,
    )
