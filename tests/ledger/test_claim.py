"""Claim and renew: who may run an entry, and for how long."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.states import WAITING, State
from tests import entries
from tests.entries import LEASE, OTHER_WORKER, T0, WORKER, claim, enqueue, later, new, row
from tests.statements import claiming, verbs

pytestmark = pytest.mark.django_db


def attempt_claim(entry_id, *, now=T0, **changes):
    return ledger.claim(entry_id, WORKER, **{"lease": LEASE, "now": now, **changes})


def test_a_claim_begins_an_attempt():
    """A claim makes the entry running, in the worker's name, until the end of its lease."""
    held = claim(enqueue(), now=later(2))
    found = row(held)
    assert (found.state, found.worker) == (State.RUNNING, WORKER)
    assert (found.started_at, found.wake_at) == (later(2), later(2 + LEASE))
    assert (found.attempt, held.token) == (1, 1)


def test_a_claim_hands_out_the_whole_entry():
    """A claim returns all that an attempt needs, so that nothing is read afterwards."""
    links = {"root_id": uuid4(), "parent_id": uuid4(), "group_id": uuid4()}
    given = new(
        args='[1,"ü"]',
        kwargs='{"a":null}',
        options='{"link":[1]}',
        queue="slow",
        priority=3,
        schedule="nightly",
        **links,
    )
    ledger.enqueue(given, grace=1.0, now=T0)
    held = claim(given.id)

    def parsed(value):
        return json.loads(value) if isinstance(value, str) else value

    assert (held.entry, held.task, held.worker) == (given.id, given.task, WORKER)
    assert parsed(held.args) == [1, "ü"]
    assert parsed(held.kwargs) == {"a": None}
    assert parsed(held.options) == {"link": [1]}
    assert (held.queue, held.priority, held.schedule) == ("slow", 3, "nightly")
    assert {name: getattr(held, name) for name in links} == links
    assert (held.retries, held.crashes) == (0, 1)


def test_a_plain_entry_has_no_links():
    """An entry outside any workflow is claimed without root, parent, group and options."""
    held = claim(enqueue())
    assert (held.root_id, held.parent_id, held.group_id, held.options) == (None, None, None, None)
    assert (held.priority, held.schedule) == (None, "")


def test_a_crash_is_charged_in_advance():
    """The crash is in the row before the body runs: it stays there if nobody reports back."""
    entry_id = enqueue()
    claim(entry_id)
    assert row(entry_id).crashes == 1


def test_claim_is_one_statement():
    """A claim costs one statement (on MariaDB two), and one that fails always one."""
    entry_id = enqueue(now=None)
    with CaptureQueriesContext(connection) as captured:
        assert ledger.claim(entry_id, WORKER, lease=LEASE)
    assert verbs(captured) == claiming()
    with CaptureQueriesContext(connection) as captured:
        assert ledger.claim(entry_id, WORKER, lease=LEASE) is None
    assert verbs(captured) == ["UPDATE"]


@pytest.mark.parametrize("state", State)
def test_only_what_waits_can_be_claimed(state):
    """An entry that runs or has ended cannot be claimed, and is left exactly as it was."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    if state in WAITING:
        assert attempt_claim(entry_id, now=later(1)) is not None
    else:
        assert attempt_claim(entry_id, now=later(1)) is None
        assert entries.snapshot(entry_id) == before


def test_what_does_not_exist_cannot_be_claimed():
    """A message for an entry that is not there claims nothing."""
    assert attempt_claim(new_id()) is None


@pytest.mark.parametrize(("seconds", "claimed"), [(59.9, False), (60.0, True), (61.0, True)])
def test_nothing_is_claimed_before_it_is_due(seconds, claimed):
    """A stale copy of a message cannot start an entry before its time."""
    entry_id = enqueue(delay=60.0)
    assert (attempt_claim(entry_id, now=later(seconds)) is not None) is claimed


def test_a_retry_is_not_claimed_before_it_is_due():
    """A copy of the first message cannot cut the delay of a retry short."""
    held = entries.running()
    entries.reschedule(held, delay=30.0)
    assert attempt_claim(held.entry, now=later(29)) is None
    assert attempt_claim(held.entry, now=later(30)).token == 2


def test_an_eager_call_does_not_wait():
    """An eager claim takes a retry before it is due, but not what is running."""
    held = entries.running()
    entries.reschedule(held, delay=30.0)
    assert attempt_claim(held.entry, ignore_due=True).token == 2
    assert attempt_claim(held.entry, ignore_due=True) is None


@pytest.mark.parametrize(("seconds", "claimed"), [(29.9, True), (30.0, False), (31.0, False)])
def test_nothing_is_claimed_after_it_expired(seconds, claimed):
    """An entry whose expiry has come is not begun, also when a message still wakes it."""
    entry_id = enqueue(expires_in=30.0)
    assert (attempt_claim(entry_id, now=later(seconds)) is not None) is claimed
    assert (attempt_claim(entry_id, now=later(seconds), ignore_due=True) is not None) is False


def test_what_was_cancelled_while_it_ran_is_not_claimed_again():
    """An entry that was asked to stop and came back to waiting waits for its end."""
    held = entries.running()
    ledger.cancel([held.entry], now=T0)
    ledger.release(held, why="shutdown", now=T0)
    assert row(held).state == State.PENDING
    assert attempt_claim(held.entry, now=later(1)) is None


def test_each_claim_has_a_higher_token():
    """The token grows with each attempt and never goes back, not even by a requeue."""
    entry_id = enqueue()
    tokens = []
    for n in range(3):
        held = claim(entry_id, now=later(n))
        tokens.append(held.token)
        entries.bury(held, now=later(n))
        ledger.requeue([entry_id], now=later(n))
    assert tokens == [1, 2, 3]


def test_an_attempt_begins_without_progress():
    """What an earlier attempt reported as progress is not shown as this one's."""
    held = entries.running()
    ledger.report_progress(held.entry, held.token, {"done": 9})
    entries.reschedule(held, delay=1.0)
    claim(held.entry, now=later(1))
    assert row(held).progress is None


# ---------------------------------------------------------------------------------------- renew
def test_renew_moves_the_end_of_the_lease():
    """A heartbeat extends the leases that the worker holds and tells how many."""
    first, second = entries.running(), entries.running()
    assert ledger.renew([first.entry, second.entry], WORKER, lease=LEASE, now=later(4)) == 2
    assert row(first).wake_at == row(second).wake_at == later(4 + LEASE)


def test_renew_is_one_statement(django_assert_num_queries):
    """A heartbeat costs one statement, however many entries run; on MySQL two, in a savepoint."""
    held = [entries.running().entry for _ in range(30)]
    with django_assert_num_queries(4 if connection.vendor == "mysql" else 1):
        assert ledger.renew(held, WORKER, lease=LEASE) == 30


def test_renew_leaves_other_workers_alone():
    """A worker that comes back cannot extend a lease that somebody else holds by now."""
    held = entries.running(worker=OTHER_WORKER)
    assert ledger.renew([held.entry], WORKER, lease=LEASE, now=later(4)) == 0
    assert row(held).wake_at == later(LEASE)


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_renew_touches_only_what_runs(state):
    """A late heartbeat does not touch an entry that waits or has ended."""
    entry_id = entries.in_state(state)
    before = entries.snapshot(entry_id)
    assert ledger.renew([entry_id], WORKER, lease=LEASE, now=later(4)) == 0
    assert entries.snapshot(entry_id) == before


# ------------------------------------------------------------------------------ cancel, progress
def test_a_worker_learns_which_of_its_entries_are_to_stop():
    """A worker is told which of the entries that it runs were cancelled."""
    mine, other, left = entries.running(), entries.running(worker=OTHER_WORKER), entries.running()
    ledger.cancel([mine.entry, other.entry], now=later(3))
    ids = [mine.entry, other.entry, left.entry]
    assert ledger.asked_to_stop(ids, WORKER) == [mine.entry]


def test_an_attempt_learns_that_it_is_to_stop():
    """An attempt is told to stop only if it is the one that was cancelled."""
    held = entries.running()
    assert not ledger.is_asked_to_stop(held.entry, held.token)
    ledger.cancel([held.entry], now=T0)
    assert ledger.is_asked_to_stop(held.entry, held.token)
    assert not ledger.is_asked_to_stop(held.entry, held.token + 1)
    assert not ledger.is_asked_to_stop(new_id(), 1)


def test_progress_is_kept_for_the_attempt_that_runs():
    """Progress is written with one statement, and only under the current token."""
    held = entries.running()
    with CaptureQueriesContext(connection) as captured:
        assert ledger.report_progress(held.entry, held.token, {"done": 3, "total": 9})
    assert len(captured) == 1
    assert not ledger.report_progress(held.entry, held.token + 1, {"done": 8})
    assert row(held).progress == {"done": 3, "total": 9}
    ledger.succeed(held, now=T0)
    assert not ledger.report_progress(held.entry, held.token, {"done": 9})
