"""Whatever is done to the ledger, in whatever order and from two connections, it does as the model.

RELIABLE_TASKS_TEST_EXAMPLES=5000 runs that many lives, other ones each time, instead of the same
few.
"""

from __future__ import annotations

import copy
import os
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from reliable_tasks import ledger
from reliable_tasks.models import Attempt, Entry
from tests.entries import GRACE, LEASE, WORKER
from tests.model import acts
from tests.model.acts import Act, Plan, World
from tests.model.reference import ENDED, Answer, Model, Row
from tests.racing import Race

LIVES = int(os.environ.get("RELIABLE_TASKS_TEST_EXAMPLES", "0"))
COLUMNS = [name for name in Row.__dataclass_fields__ if name != "attempts"]
# Where no other number is asked for: some seconds on each database.
FEW_LIVES, STEPS = 30, 40
FINISHES = ("succeed", "reschedule", "bury", "discard", "release", "stop", "replace")
IN_THE_THICK = ("claim", "sweep", "cancel", "rescue_lost", "requeue", *FINISHES)


def stored() -> dict[UUID, Row]:
    """Read all entries, with their attempts, as the model keeps them."""
    rows = {
        values[0]: Row(**dict(zip(COLUMNS, values, strict=True)))
        for values in Entry.objects.values_list(*COLUMNS)
    }
    columns = ("outcome", "error_class", "worker", "started_at", "ended_at")
    for entry, number, *rest in Attempt.objects.values_list("entry_id", "number", *columns):
        assert number not in rows[entry].attempts
        rows[entry].attempts[number] = tuple(rest)
    return rows


def same(here: Row | None, there: Row | None) -> bool:
    """Tell whether two entries agree; of the reason, only whether there is one."""
    if here is None or there is None:
        return here is there
    return all(
        bool(getattr(here, name)) == bool(getattr(there, name))
        if name == "reason"
        else getattr(here, name) == getattr(there, name)
        for name in (*COLUMNS, "attempts")
    )


def after(model: Model, *done: Act) -> tuple[Model, list[Answer]]:
    """Return what some acts, in this order, make of a model, and what they answer."""
    model = copy.deepcopy(model)
    return model, [act.ideal(model) for act in done]


class LedgerMachine(RuleBasedStateMachine):
    """The ledger and its model side by side."""

    race: Race

    def __init__(self) -> None:
        super().__init__()
        Attempt.objects.all()._raw_delete("default")
        Entry.objects.all()._raw_delete("default")
        self.world = World()
        self.tokens: dict[UUID, int] = {}

    # -- acts -------------------------------------------------------------------------------------
    @initialize(plan=acts.plans("enqueue"))
    def begin(self, plan: Plan) -> None:
        self._do(plan)

    @rule(plan=acts.plans(), elsewhere=acts.FLAG)
    def act(self, plan: Plan, elsewhere: bool) -> None:
        self._do(plan, elsewhere)

    @rule(plan=acts.plans("claim"), elsewhere=acts.FLAG)
    def claim(self, plan: Plan, elsewhere: bool) -> None:
        self._do(plan, elsewhere)

    @rule(plan=acts.plans(*FINISHES), elsewhere=acts.FLAG)
    def finish(self, plan: Plan, elsewhere: bool) -> None:
        self._do(plan, elsewhere)

    @rule(plan=acts.plans("sweep"))
    def lapse(self, plan: Plan) -> None:
        """Let leases end, so that the next attempt meets the one before."""
        self.wait(LEASE)
        self._do(plan)

    @rule(seconds=st.sampled_from([0.5, 2.0, GRACE, LEASE, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += acts.timedelta(seconds=seconds)

    def _do(self, plan: Plan, elsewhere: bool = False) -> None:
        act = plan.act(self.world)
        if act is None:
            return
        answer = self.race.elsewhere(act.real) if elsewhere else act.real()
        assert answer == act.ideal(self.world.model)
        self._remember(act)

    def _remember(self, *done: Act) -> None:
        for act in done:
            self.world.claims += act.claimed
        if self.world.next_id in self.world.model.rows:
            self.world.next_id = acts.new_id()

    @rule(pick=acts.PICK, first=acts.plans(), second=acts.plans(), commit=acts.FLAG)
    def meet(self, pick: int, first: Plan, second: Plan, commit: bool) -> None:
        self.world.focus = self.world.entry(pick)
        self._meet(first, second, commit)
        self.world.focus = None

    @rule(
        pick=acts.PICK,
        first=acts.plans(*IN_THE_THICK),
        second=acts.plans(*IN_THE_THICK),
        commit=st.sampled_from([True, True, False]),
    )
    def meet_in_the_thick(self, pick: int, first: Plan, second: Plan, commit: bool) -> None:
        self.meet(pick, first, second, commit)

    def _meet(self, first: Plan, second: Plan, commit: bool) -> None:
        """Begin a second act before the first has ended: each entry sees one after the other."""
        here, there = first.act(self.world), second.act(self.world)
        if here is None or there is None:
            return
        answers = self.race.overlap(here.real, there.real, commit=commit, waits=None)
        assert not isinstance(answers[1], Exception), answers[1]
        before, found = self.world.model, stored()
        for entry in {*before.rows, *found, *here.names, *there.names}:
            self._one_after_the_other(entry, (here, there), answers, commit, found)
        self.world.model = Model()
        self.world.model.rows = found
        self._remember(*((here, there) if commit else (there,)))

    def _one_after_the_other(
        self,
        entry: UUID,
        acts_: tuple[Act, Act],
        answers: tuple[Answer, Answer],
        commit: bool,
        found: dict[UUID, Row],
    ) -> None:
        before, (here, there) = self.world.model, acts_
        if commit:
            model, told = after(before, here, there)
            orders = [(model, told)]
            model, told = after(before, there, here)
            orders.append((model, told[::-1]))
        else:
            # What the first one answered was taken back with it.
            model, told = after(before, there)
            orders = [(model, [answers[0], *told])]
        alone, told = after(before, here)
        locked = entry in here.names or not same(alone.rows.get(entry), before.rows.get(entry))
        if there.skips and locked:
            orders.append((alone if commit else before, [*told, {}]))
        expected = [
            (model.rows.get(entry), [answer.get(entry) for answer in told])
            for model, told in orders
        ]
        seen = [answer.get(entry) for answer in answers]
        assert any(same(found.get(entry), row) and seen == said for row, said in expected), (
            f"{entry}: neither order explains {found.get(entry)} and {seen}; {expected}"
        )

    # -- a sweep that may not take all ------------------------------------------------------------
    @rule(plan=acts.plans("sweep"), limit=st.integers(1, 3))
    def sweep_some(self, plan: Plan, limit: int) -> None:
        """A sweep with a limit takes the lost first, then the urgent, each the oldest first."""
        how = dict(plan.options)
        act = acts.sweep(self.world, limit=limit, **how)
        before = copy.deepcopy(self.world.model)
        kinds = before.due(self.world.now, publishing=how["publishing"], rescuing=how["rescuing"])
        answer, found = act.real(), stored()
        taken = {key for key, row in before.rows.items() if not same(row, found[key])}
        left = limit
        for kind in kinds:
            mine = [row.wake_at for row in kind if row.id in taken]
            others = [row.wake_at for row in kind if row.id not in taken]
            assert len(mine) == min(left, len(kind))
            assert not mine or not others or max(mine) <= min(others)
            left -= len(mine)
        how = {**how, "recheck": acts.RECHECK, "longest": acts.LONGEST, "now": self.world.now}
        assert answer == self.world.model.sweep(only=taken, crash=ledger.CRASH, **how)

    # -- reads ------------------------------------------------------------------------------------
    @rule(pick=acts.PICK)
    def look(self, pick: int) -> None:
        """What the ledger tells about itself is what the model says."""
        rows, now = list(self.world.model.rows.values()), self.world.now
        wakes = [row.wake_at for row in rows if row.wake_at is not None]
        wait = (min(wakes) - now).total_seconds() if wakes else None
        assert ledger.seconds_until_wake(now=now) == (wait and pytest.approx(wait, abs=0.002))
        lost = any(row.runs and row.wake_at <= now for row in rows)
        assert ledger.has_ended_leases(now=now) == lost
        held = {row.id for row in rows if row.runs and row.worker == WORKER}
        asked = {row.id for row in rows if row.cancel_requested_at is not None}
        everything = [row.id for row in rows]
        assert set(ledger.asked_to_stop(everything, WORKER)) == held & asked
        self._look_at_queues(now)
        claim = self.world.claim(pick)
        if claim is not None:
            row = self.world.model.rows.get(claim.entry)
            mine = row is not None and row.attempt == claim.token
            assert ledger.is_asked_to_stop(claim.entry, claim.token) == (mine and row.id in asked)
            ended = mine and row.state in {"succeeded", "pending"}
            assert ledger.has_ended(claim) == ended
            assert ledger.exists(claim.entry) == (row is not None)

    def _look_at_queues(self, now: Any) -> None:
        model = self.world.model
        old = now - acts.timedelta(seconds=GRACE)
        suspected = {queue for queue in acts.QUEUES if model.suspects(queue, since=old)}
        assert set(ledger.waiting_queues(grace=GRACE, now=now)) == suspected
        for queue in acts.QUEUES:
            waiting = len(model.suspects(queue, since=now))
            for messages in (0, 1, waiting + 1):
                found = ledger.missing_on(queue, messages, grace=GRACE, at_most=100, now=now)
                assert found == model.missing(queue, messages, grace=GRACE, now=now)

    # -- what always holds ------------------------------------------------------------------------
    @invariant()
    def as_the_model_says(self) -> None:
        found, expected = stored(), self.world.model.rows
        assert found.keys() == expected.keys()
        for key, row in found.items():
            assert same(row, expected[key]), f"\nledger: {row}\nmodel:  {expected[key]}"
            self._in_order(row)

    def _in_order(self, row: Row) -> None:
        """The rules that a reader of the ledger relies on, whatever the model says."""
        ended = row.state in ENDED
        assert (row.finished_at is not None) == ended
        assert (row.wake_at is None) == ended
        assert 0 <= row.crashes <= row.crash_budget
        assert row.attempt >= self.tokens.get(row.id, 0)
        self.tokens[row.id] = row.attempt
        assert set(row.attempts) <= set(range(1, row.attempt + 1))
        if row.runs:
            assert row.crashes >= 1
            assert row.worker
            assert row.started_at is not None
            assert row.attempt not in row.attempts
        if row.state in {"dead", "cancelled"}:
            assert row.reason
        if row.state == "dead":
            assert row.attempt in row.attempts


@pytest.mark.timeout(300 if not LIVES else 600 + LIVES)
def test_the_ledger_does_as_the_model(second_connection):
    """No sequence of acts, overlapping or not, of live and outdated attempts, breaks a rule."""
    LedgerMachine.race = Race(second_connection)
    chosen = settings(
        max_examples=LIVES or FEW_LIVES,
        derandomize=not LIVES,
        stateful_step_count=STEPS,
        report_multiple_bugs=False,
        # The shortest failing life takes minutes to find: only where somebody asked for it.
        phases=[Phase.generate, Phase.shrink] if LIVES else [Phase.generate],
    )
    run_state_machine_as_test(LedgerMachine, settings=chosen)
