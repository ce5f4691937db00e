"""Any number of sweepers at once."""

from __future__ import annotations

import pytest
from django.db import connection

from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.entries import (
    GRACE,
    LEASE,
    T0,
    enqueue,
    later,
    row,
    running,
    state,
)
from tests.races.acts import LATE, claim, lose, pull_forward, sign_off, sweep, take_back


@pytest.mark.parametrize("share", [3, 10])
def test_two_sweepers_publish_each_entry_once(race, share):
    """Of two sweepers on the same entries each takes what the other has not, without waiting."""
    waiting = {str(enqueue(delay=1.0)) for _ in range(10)}
    mine, theirs = race.overlap(sweep(limit=share), sweep(), waits=False)
    first, second = ({wakeup.entry for wakeup in swept.wakeups} for swept in (mine, theirs))
    if connection.vendor == "mysql":  # which may lock what it only looks at, and so hide it
        second |= {wakeup.entry for wakeup in entries.sweep(now=LATE).wakeups}
    assert (len(first), first & second, first | second) == (share, set(), waiting)
    assert set(Entry.objects.values_list("publishes", flat=True)) == {1}


def test_two_sweepers_rescue_each_entry_once(race):
    """Of two sweepers on the same lost entries each entry is taken over and charged once."""
    held = {running().entry for _ in range(6)}
    mine, theirs = race.overlap(sweep(limit=2), sweep(), waits=False)
    first, second = ({taken.id for taken in swept.rescued} for swept in (mine, theirs))
    if connection.vendor == "mysql":  # as above
        second |= {taken.id for taken in entries.sweep(now=LATE).rescued}
    assert (len(first), first & second, first | second) == (2, set(), held)
    assert Attempt.objects.count() == 6
    assert set(Entry.objects.values_list("crashes", flat=True)) == {1}


def test_a_herd_of_sweepers(race):
    """However many sweepers run at once, each entry is published exactly once."""
    waiting = sorted(str(enqueue(delay=1.0)) for _ in range(40))
    answers = race.together(*[sweep(limit=15)] * 4)
    answers.append(entries.sweep(now=LATE))
    published = sorted(wakeup.entry for swept in answers for wakeup in swept.wakeups)
    assert published == waiting


def test_a_sweeper_and_a_keeper_rescue_once(race):
    """An entry whose lease ends while its process is known lost is charged one crash."""
    held = running()
    first, second = race.overlap(sweep(), lose(held), waits=False)
    assert (len(first.rescued), len(second.rescued)) == (1, 0)
    assert (row(held).crashes, Attempt.objects.count()) == (1, 1)


def test_a_sweeper_and_a_sign_off_take_an_entry_once(race):
    """An entry that a stopping worker gives back while it is rescued is taken over once."""
    held = running()
    left, swept = race.overlap(sign_off(), sweep(publishing=False), waits=False)
    assert (left, swept.touched, row(held).crashes) == (1, 0, 0)
    held = running()
    swept, left = race.overlap(sweep(), sign_off(), waits=False)
    assert (len(swept.rescued), left, row(held).crashes) == (1, 0, 1)
    outcomes = sorted(Attempt.objects.values_list("outcome", flat=True))
    assert outcomes == [Outcome.CRASHED, Outcome.RELEASED]


def test_a_claim_against_a_take_back(race):
    """A publish that is taken back leaves an entry alone that was claimed all the same."""
    entry_id = enqueue()
    held, waiting = race.overlap(claim(entry_id), take_back(entry_id))
    assert (held.token, waiting) == (1, 0)
    assert (state(entry_id), row(entry_id).wake_at) == (State.RUNNING, later(LEASE))


def test_a_take_back_against_a_claim(race):
    """A claim that comes while a publish is taken back has the entry, and its lease."""
    entry_id = enqueue()
    waiting, held = race.overlap(take_back(entry_id), claim(entry_id))
    assert (waiting, held.token) == (1, 1)
    assert row(entry_id).wake_at == later(LEASE)


def test_a_claim_against_a_pull_forward(race):
    """An entry whose message was thought lost and is claimed keeps its lease."""
    entry_id = enqueue()
    held, pulled = race.overlap(claim(entry_id), pull_forward())
    assert (held.token, pulled) == (1, 0)
    assert row(entry_id).wake_at == later(LEASE)


def test_a_pull_forward_against_a_claim(race):
    """A claim that comes while its entry is thought lost has the entry, and its lease."""
    entry_id = enqueue()
    pulled, held = race.overlap(pull_forward(), claim(entry_id))
    assert (pulled, held.token) == (1, 1)
    assert row(entry_id).wake_at == later(LEASE)


def test_two_pulls_publish_an_entry_once(race):
    """Of two workers that miss the same message, one has it published again."""
    entry_id = enqueue(now=T0)
    race.overlap(pull_forward(later(GRACE)), pull_forward(later(GRACE)))
    swept = [entries.sweep(now=later(GRACE)) for _ in range(2)]
    assert [len(each.wakeups) for each in swept] == [1, 0]
    assert row(entry_id).publishes == 2
