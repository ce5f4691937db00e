"""Whatever is done to entries with keys, in whatever order: one holder per key, and no stray key.

RELIABLE_TASKS_TEST_EXAMPLES=5000 runs that many lives, other ones each time, instead of the same
few.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reliable_tasks import Fenced, dedup, ledger
from reliable_tasks.dedup import Conflict, Hold
from reliable_tasks.ids import new_id
from reliable_tasks.models import Attempt, Entry, Key
from reliable_tasks.states import ACTIVE, REQUEUEABLE, WAITING, State
from tests.entries import FAILURE, GRACE, LEASE, T0, WORKER, bury, new, reschedule, sweep

LIVES = int(os.environ.get("RELIABLE_TASKS_TEST_EXAMPLES", "0"))
FEW_LIVES, STEPS = 50, 40
# Name of a key, and its policy: a key is always used with the same one.
KEYS = {
    "live": {},
    "unstarted": {"blocks": "unstarted"},
    "waiting": {"blocks": "waiting"},
    "window": {"window": 30.0},
    "period": {"period": 30.0},
    "dead": {"holds_dead": True},
}
NAMES = st.sampled_from(sorted(KEYS))
PICK = st.integers(0, 11)
FINISHES = ("succeed", "bury", "discard", "reschedule", "release", "put_off")


def hold(name):
    digest = dedup.digest_of("value", "machine", name)
    return Hold(digest=digest, text=name, arguments="0" * 32, **KEYS[name])


def entry(name, **more):
    made = hold(name)
    return new(id=new_id(), hold=made, options=json.dumps({"once": made.kept()}), **more)


class KeyMachine(RuleBasedStateMachine):
    """Entries with a few keys, done everything to that the ledger can do."""

    def __init__(self) -> None:
        super().__init__()
        for model in (Attempt, Entry, Key):
            model.objects.all()._raw_delete("default")
        self.now = T0
        self.claims = []
        # Until when a key is not free though no entry lives, by what was promised.
        self.lingers = {}

    # -- what the ledger promises -----------------------------------------------------------------
    def blocker(self, name):
        """Return whether a call must be refused (True), must be taken (False), or may be either."""
        blocks = KEYS[name].get("blocks", "live")
        live = Entry.objects.filter(key=name, state__in=ACTIVE)
        if blocks == "live":
            dead = Entry.objects.filter(key=name, state=State.DEAD)
            # A follower blocks once it has taken the key over.
            holders = Key.objects.filter(text=name, until=None).values("entry_id")
            works = live.exclude(options__has_key="follows") | live.filter(pk__in=holders)
            if works.exists():
                return True
            if self.lingers.get(name, self.now) > self.now:
                return True
            return None if KEYS[name].get("holds_dead") and dead.exists() else False
        if blocks == "unstarted":
            return True if live.filter(attempt=0).exclude(options__has_key="follows") else None
        return None

    # -- acts -------------------------------------------------------------------------------------
    @rule(name=NAMES, expires_in=st.sampled_from([None, None, 20.0]))
    def call(self, name, expires_in):
        must = self.blocker(name)
        made = entry(name, expires_in=expires_in)
        self._check(name, must, ledger.enqueue_once(made, grace=GRACE, now=self.now))

    @rule(name=NAMES, other=NAMES)
    def call_many(self, name, other):
        must = {each: self.blocker(each) for each in (name, other)}
        refused = ledger.enqueue_many_once([entry(name), entry(other)], grace=GRACE, now=self.now)
        self._check(name, must[name], refused.get(0, True))
        if other != name:
            self._check(other, must[other], refused.get(1, True))
        else:
            assert isinstance(refused[1], Conflict)

    def _check(self, name, must, answer):
        if must is not None:
            assert isinstance(answer, Conflict) == must, (name, answer)
        if isinstance(answer, Conflict):
            assert answer.text == name
            assert not answer.lapsed
        else:
            self.lingers.pop(name, None)
            period = KEYS[name].get("period")
            if period:
                self.held_at = self.now
                self.lingers[name] = self.now + timedelta(seconds=period)

    @rule(name=NAMES)
    def follow(self, name):
        made = entry(name)
        kept = {"once": made.hold.kept(), "follows": str(new_id())}
        follower = new(id=made.id, hold=made.hold, options=json.dumps(kept))
        assert ledger.enqueue_follower(follower, grace=GRACE, now=self.now)

    @rule(pick=PICK)
    def take_over(self, pick):
        """Let a follower take the key, as one does whose holder is gone; refuse, if it is held."""
        running = [held for held in self.claims if self._current(held)]
        if running:
            held = running[pick % len(running)]
            ledger.take(held.hold, held.task, held.entry, now=self.now)

    @rule(pick=PICK, delay=st.sampled_from([None, 5.0]))
    def change(self, pick, delay):
        row = self._some(pick)
        if row is not None:
            waits = row.state in WAITING and not self._expired(row)
            asked = row.cancel_requested_at is not None
            changed = ledger.change_waiting(
                row.pk, args="[9]", kwargs="{}", arguments="9" * 32, delay=delay, now=self.now
            )
            assert changed == (waits and not asked)

    @rule(pick=PICK)
    def expire(self, pick):
        row = self._some(pick)
        if row is not None:
            ended = ledger.expire([row.pk], now=self.now)
            assert bool(ended) == (row.state in WAITING and self._expired(row))
            self._ended_badly(row)

    @rule(pick=PICK)
    def claim(self, pick):
        row = self._some(pick)
        if row is None:
            return
        held = ledger.claim(row.pk, WORKER, lease=LEASE, ignore_due=True, now=self.now)
        if held is not None:
            taken = hold(row.key)
            if row.args == [9]:  # changed while it waited
                taken = replace(taken, arguments="9" * 32)
            assert held.hold == taken
            if held.hold.blocks != "live":
                ledger.free_at_start(held.entry, held.token)
            self.claims.append(held)

    @rule(pick=PICK, verb=st.sampled_from(FINISHES))
    def finish(self, pick, verb):
        if not self.claims:
            return
        held = self.claims[pick % len(self.claims)]
        held_key = Key.objects.filter(entry_id=held.entry).exists()
        acts = {
            "succeed": lambda: ledger.succeed(held, now=self.now),
            "bury": lambda: bury(held, now=self.now),
            "reschedule": lambda: reschedule(held, now=self.now),
            "release": lambda: ledger.release(held, why="told", now=self.now),
            "put_off": lambda: ledger.put_off(held, delay=1.0, now=self.now),
            "discard": lambda: ledger.discard(held, FAILURE, reason="gone", now=self.now),
        }
        try:
            acts[verb]()
        except Fenced:
            return
        window = KEYS[held.key].get("window")
        if verb == "succeed" and window and held_key:
            self.lingers[held.key] = self.now + timedelta(seconds=window)
        if verb in ("bury", "discard") and held_key:
            self.lingers.pop(held.key, None)

    @rule(pick=PICK)
    def cancel(self, pick):
        row = self._some(pick)
        if row is not None:
            ledger.cancel([row.pk], reason="no", now=self.now)
            self._ended_badly(row)

    @rule(pick=PICK)
    def requeue(self, pick):
        row = self._some(pick)
        if row is None:
            return
        must = self.blocker(row.key)
        put_back = ledger.requeue([row.pk], now=self.now)
        if row.state in REQUEUEABLE and must is not None:
            assert bool(put_back) == (not must)

    @rule()
    def requeue_all(self):
        """One act on all that have ended puts back one for each key that is free."""
        must = {name: self.blocker(name) for name in KEYS}
        names = dict(Entry.objects.filter(state__in=REQUEUEABLE).values_list("pk", "key"))
        put_back = Counter(names[pk] for pk in ledger.requeue(names, now=self.now))
        for name in set(names.values()):
            assert put_back[name] <= 1
            if must[name] is not None:
                assert bool(put_back[name]) == (not must[name])

    @rule()
    def lose_and_sweep(self):
        self.now += timedelta(seconds=LEASE + 1)
        swept = sweep(now=self.now)
        for taken in (*swept.died, *swept.cancelled, *swept.expired):
            self._ended_badly(Entry.objects.get(pk=taken.id))

    @rule()
    def leave(self):
        ledger.release_left(WORKER, now=self.now)

    @rule(state=st.sampled_from([State.SUCCEEDED, State.DEAD, State.CANCELLED]))
    def prune(self, state):
        ledger.prune(state, timedelta(0), now=self.now + timedelta(seconds=1))

    @rule(pick=PICK)
    def start_elsewhere(self, pick):
        """A caller frees the key of a holder that runs, if it blocks only while it waits."""
        row = self._some(pick)
        if row is not None:
            blocks = hold(row.key).blocks
            freed = ledger.free_started(row.pk)
            assert freed == (row.state == State.RUNNING and blocks != "live")

    @rule(name=NAMES)
    def release_key(self, name):
        """Only of what has ended: of a live entry it would rightly make two."""
        held = ledger.holder(hold(name).digest, now=self.now)
        if held is not None and held.state not in ACTIVE:
            ledger.release_key(held.digest, reason="by hand")
            self.lingers.pop(name, None)

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def tidy(self):
        lapsed = Key.objects.filter(until__lte=self.now).count()
        assert ledger.forget_lapsed(batch=100, now=self.now) == lapsed

    def _ended_badly(self, row):
        row = Entry.objects.filter(pk=row.pk).first()
        held = Key.objects.filter(text=row.key).exists()
        if row.ended and not held:
            self.lingers.pop(row.key, None)

    def _expired(self, row):
        return row.expires_at is not None and row.expires_at <= self.now

    def _some(self, pick):
        rows = list(Entry.objects.order_by("-pk")[:6])
        return rows[pick % len(rows)] if rows else None

    def _current(self, held):
        return Entry.objects.filter(pk=held.entry, attempt=held.token, state=State.RUNNING).exists()

    # -- what always holds ------------------------------------------------------------------------
    @invariant()
    def one_holder_and_no_stray(self):
        entries = {row.pk: row for row in Entry.objects.all()}
        for key in Key.objects.all():
            row = entries.get(key.entry_id)
            if key.until is None:
                assert row is not None
                dead = row.state == State.DEAD and key.holds_dead
                assert row.state in ACTIVE or dead, f"{key} is left behind by {row.state}"
        held_by = set(Key.objects.values_list("entry_id", flat=True))
        live = Counter(
            row.key
            for row in entries.values()
            if row.state in ACTIVE
            and KEYS[row.key].get("blocks", "live") == "live"
            # A follower does no work of its own until it holds the key.
            and ("follows" not in row.options or row.pk in held_by)
        )
        assert not {key: n for key, n in live.items() if n > 1}


@pytest.mark.timeout(120 if not LIVES else 600 + LIVES)
def test_keys_do_as_promised(transactional_db):
    """No sequence of acts leaves two live entries with a key, or a key that nobody holds."""
    chosen = settings(
        max_examples=LIVES or FEW_LIVES,
        derandomize=not LIVES,
        stateful_step_count=STEPS,
        phases=[Phase.generate, Phase.shrink] if LIVES else [Phase.generate],
    )
    run_state_machine_as_test(KeyMachine, settings=chosen)
