"""Random lives: whatever happens to an entry, in whatever order, its row stays in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliable_tasks import ledger
from reliable_tasks.errors import Fenced
from reliable_tasks.ledger import Claim
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import ACTIVE, ENDED, WAITING, State, legal
from tests import entries
from tests.entries import GRACE, LEASE, OTHER_WORKER, WORKER, later, new

pytestmark = pytest.mark.django_db

CRASH_BUDGET = 2


@dataclass
class Life:
    """One entry, its clock, and every claim that was ever made of it, the outdated included."""

    entry_id: UUID
    seconds: float = 0.0
    claims: list[Claim] = field(default_factory=list)
    silent_ends: int = 0  # successes and replacements leave no attempt row

    @property
    def now(self):
        return later(self.seconds)

    def do(self, verb: str, pick: int) -> None:
        getattr(self, f"_{verb}")(pick)

    def _wait(self, pick: int) -> None:
        self.seconds += (0.5, 3.0, LEASE, 70.0)[pick % 4]

    def _claim(self, pick: int) -> None:
        worker = (WORKER, OTHER_WORKER)[pick % 2]
        held = ledger.claim(self.entry_id, worker, lease=LEASE, now=self.now)
        if held is not None:
            self.claims.append(held)

    def _finish(self, pick: int) -> None:
        if not self.claims:
            return
        # As often by the attempt before the current one, which a rescue has fenced off.
        held = self.claims[-1 - (pick // 6) % min(2, len(self.claims))]
        act, leaves_a_row = (
            (lambda: ledger.succeed(held, now=self.now), False),
            (lambda: entries.reschedule(held, now=self.now, delay=float(pick % 3)), True),
            (lambda: entries.bury(held, now=self.now), True),
            (lambda: ledger.release(held, why="x", now=self.now), True),
            (lambda: ledger.stop(held, now=self.now), True),
            (lambda: ledger.replace(held, self._successor(), grace=GRACE, now=self.now), False),
        )[pick % 6]
        before = entries.row(self.entry_id)
        owns = held is self.claims[-1] and before.state == State.RUNNING
        if pick % 6 == 4:  # only who was asked may stop
            owns = owns and before.cancel_requested_at is not None
        try:
            act()
        except Fenced:
            assert not owns
        else:
            assert owns
            self.silent_ends += not leaves_a_row

    def _successor(self):
        return new(crash_budget=CRASH_BUDGET)

    def _renew(self, pick: int) -> None:
        ledger.renew([self.entry_id], WORKER, lease=LEASE, now=self.now)

    def _sweep(self, pick: int) -> None:
        entries.sweep(now=self.now, publishing=bool(pick % 3), counted=bool(pick % 2))

    def _lapse(self, pick: int) -> None:
        """Let the lease end, so that the next attempt meets the one before."""
        self.seconds += LEASE
        entries.sweep(now=self.now)
        self._claim(pick)

    def _lose(self, pick: int) -> None:
        ledger.rescue_lost([self.entry_id], WORKER, now=self.now)

    def _cancel(self, pick: int) -> None:
        ledger.cancel([self.entry_id], now=self.now)

    def _requeue(self, pick: int) -> None:
        ledger.requeue([self.entry_id], now=self.now)


VERBS = sorted(name[1:] for name in vars(Life) if name[0] == "_" and name[1] != "_")
VERBS.remove("successor")
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*VERBS, "claim", "lapse", "finish", "finish"]), st.sampled_from(range(12))
    ),
    min_size=4,
    max_size=25,
)


@settings(max_examples=200)
@given(steps=STEPS, expires_in=st.none() | st.just(60.0))
def test_whatever_happens_the_row_stays_in_order(db, steps, expires_in):
    """No sequence of acts, of live and outdated attempts alike, breaks a rule of the ledger."""
    life = Life(entries.enqueue(expires_in=expires_in, crash_budget=CRASH_BUDGET))
    before = entries.row(life.entry_id)
    for verb, pick in steps:
        life.do(verb, pick)
        after = entries.row(life.entry_id)
        check_step(before, after)
        check_row(after, life)
        before = after
    check_attempts(before, life)


def check_step(before: Entry, after: Entry) -> None:
    if before.state != after.state:
        assert legal(State(before.state), State(after.state)), (before.state, after.state)
    assert after.attempt - before.attempt in (0, 1)
    if after.attempt > before.attempt:
        assert after.state == State.RUNNING
    assert after.enqueued_at == before.enqueued_at


def check_row(found: Entry, life: Life) -> None:
    state = State(found.state)
    assert (found.finished_at is not None) == (state in ENDED)
    assert (found.wake_at is not None) == (state in ACTIVE)
    assert found.attempt == (life.claims[-1].token if life.claims else 0)
    assert 0 <= found.crashes <= CRASH_BUDGET
    if state is State.RUNNING:
        assert found.crashes >= 1
        assert found.worker
        assert found.started_at is not None
    if state is State.DEAD:
        assert found.reason
    if state is State.CANCELLED:
        assert found.reason
    if found.cancel_requested_at is not None and state in WAITING:
        assert ledger.claim(life.entry_id, WORKER, lease=LEASE, now=later(10**6)) is None


def check_attempts(found: Entry, life: Life) -> None:
    numbers = list(Attempt.objects.filter(entry=found).values_list("number", flat=True))
    assert numbers == sorted(set(numbers))
    running = found.state == State.RUNNING
    assert len(numbers) == len(life.claims) - life.silent_ends - running
    lost = Attempt.objects.filter(entry=found, error_class=ledger.CRASH).count()
    assert found.crashes <= lost + running
