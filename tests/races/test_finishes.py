"""Attempts that end or renew while somebody else takes their entry over."""

from __future__ import annotations

import pytest

from reliable_tasks import ledger
from reliable_tasks.errors import Fenced
from reliable_tasks.models import Attempt
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.entries import (
    LEASE,
    T0,
    WORKER,
    later,
    row,
    running,
    state,
)
from tests.races.acts import FINISHES, LATE, cancel, finish, lose, sign_off, stop, sweep


@pytest.mark.parametrize("verb", FINISHES)
def test_a_finish_against_a_rescue(race, verb):
    """An attempt that reports at the last moment has finished; the sweeper leaves it alone."""
    held = running()
    _, swept = race.overlap(finish(verb, held), sweep(publishing=False), waits=False)
    assert not [*swept.rescued, *swept.died]
    assert not Attempt.objects.filter(outcome=Outcome.CRASHED).exists()
    assert row(held).crashes == 0


@pytest.mark.parametrize("verb", FINISHES)
def test_a_rescue_against_a_finish(race, verb):
    """An attempt that comes back while it is rescued is fenced off and writes nothing."""
    held = running()
    swept, answer = race.overlap(sweep(), finish(verb, held))
    assert [taken.id for taken in swept.rescued] == [held.entry]
    assert isinstance(answer, Fenced)
    assert (state(held), row(held).crashes, row(held).retries) == (State.RETRYING, 1, 0)
    assert [attempt.outcome for attempt in Attempt.objects.all()] == [Outcome.CRASHED]


@pytest.mark.parametrize("verb", FINISHES)
def test_a_finish_after_a_rescue_that_rolled_back(race, verb):
    """A sweeper that dies in the middle of a rescue costs the attempt nothing."""
    held = running()
    _, answer = race.overlap(sweep(), finish(verb, held), commit=False)
    assert answer is None
    assert state(held) is not State.RUNNING
    assert not Attempt.objects.filter(outcome=Outcome.CRASHED).exists()


@pytest.mark.parametrize("verb", FINISHES)
def test_a_rescue_after_a_finish_that_rolled_back(race, verb):
    """An attempt whose process dies before its commit is rescued by the next sweep."""
    held = running()
    race.overlap(finish(verb, held), sweep(), commit=False, waits=False)
    entries.sweep(now=LATE)
    assert (state(held), row(held).crashes) == (State.RETRYING, 1)
    assert Attempt.objects.get().outcome == Outcome.CRASHED


@pytest.mark.parametrize("verb", FINISHES)
def test_a_note_of_a_lost_process_against_a_finish(race, verb):
    """A process believed lost that finishes all the same has finished, or is fenced off."""
    held = running()
    swept, answer = race.overlap(lose(held), finish(verb, held))
    assert (len(swept.rescued), type(answer)) == (1, Fenced)
    held = running()
    _, swept = race.overlap(finish(verb, held), lose(held), waits=False)
    assert not swept.rescued


def test_a_success_against_a_cancel(race):
    """A cancel that comes while an attempt succeeds comes too late, and says so."""
    held = running()
    _, result = race.overlap(finish("succeed", held), cancel(held.entry))
    assert result.skipped == [held.entry]
    assert state(held) is State.SUCCEEDED


def test_a_cancel_against_a_failure(race):
    """An attempt that fails while it is cancelled does not hide the cancel for a retry's delay."""
    held = running()
    result, _ = race.overlap(
        cancel(held.entry), lambda: entries.reschedule(held, now=later(1), delay=600.0)
    )
    assert result.asked == [held.entry]
    assert (state(held), row(held).wake_at) == (State.RETRYING, T0)
    entries.sweep(now=later(2))
    assert state(held) is State.CANCELLED


def test_a_failure_against_a_cancel(race):
    """A cancel that waits for a failure cancels the entry instead of its next attempt."""
    held = running()
    _, result = race.overlap(finish("reschedule", held), cancel(held.entry))
    assert result.cancelled == [held.entry]
    assert state(held) is State.CANCELLED


def test_a_stop_against_a_rescue(race):
    """An attempt that stops as it was asked while it is rescued ends its entry once."""
    held = running()
    cancel(held.entry)()
    swept, answer = race.overlap(sweep(), stop(held))
    assert [taken.id for taken in swept.cancelled] == [held.entry]
    assert isinstance(answer, Fenced)
    held = running()
    cancel(held.entry)()
    _, swept = race.overlap(stop(held), sweep(publishing=False), waits=False)
    assert swept.cancelled == []
    assert set(Attempt.objects.values_list("outcome", flat=True)) == {Outcome.CANCELLED}
    assert Attempt.objects.count() == 2


def test_a_stop_before_it_was_asked(race):
    """A stop that nobody had asked for when it began waits for no cancel: it is fenced."""
    held = running()
    _, answer = race.overlap(cancel(held.entry), stop(held), commit=False, waits=False)
    assert isinstance(answer, Fenced)
    assert state(held) is State.RUNNING


@pytest.mark.parametrize("verb", FINISHES)
def test_a_sign_off_against_a_finish(race, verb):
    """A worker that signs off gives back only what has not finished, uncharged, and only once."""
    held = running()
    _, left = race.overlap(finish(verb, held), sign_off(), waits=False)
    assert left == 0
    held = running()
    left, answer = race.overlap(sign_off(), finish(verb, held))
    assert (left, type(answer)) == (1, Fenced)
    assert (state(held), row(held).crashes) == (State.PENDING, 0)


def test_a_renewal_against_a_rescue(race):
    """A heartbeat that comes just in time keeps the lease."""
    held = running()
    renewed, swept = race.overlap(
        lambda: ledger.renew([held.entry], WORKER, lease=LEASE, now=LATE), sweep(), waits=False
    )
    assert (renewed, swept.touched) == (1, 0)
    assert (state(held), row(held).attempt) == (State.RUNNING, 1)


def test_a_rescue_against_a_renewal(race):
    """A heartbeat that comes too late renews nothing, and says so."""
    held = running()
    swept, renewed = race.overlap(
        sweep(), lambda: ledger.renew([held.entry], WORKER, lease=LEASE, now=LATE), waits=False
    )
    assert (len(swept.rescued), renewed) == (1, 0)
    assert state(held) is State.RETRYING


def test_a_rescue_against_a_report_of_progress(race):
    """An attempt that was taken over cannot report its progress, and is told."""
    held = running()
    _, kept = race.overlap(
        sweep(), lambda: ledger.report_progress(held.entry, held.token, {"done": 9})
    )
    assert kept is False
    assert row(held).progress is None
