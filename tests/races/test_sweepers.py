"""Any number of sweepers at once."""

from __future__ import annotations

import pytest

from reliable_tasks.models import Attempt, Entry
from tests import entries
from tests.entries import (
    enqueue,
    row,
    running,
)
from tests.races.acts import LATE, lose, sweep


@pytest.mark.parametrize("share", [3, 10])
def test_two_sweepers_publish_each_entry_once(race, share):
    """Of two sweepers on the same entries each takes what the other has not, without waiting."""
    waiting = {str(enqueue(delay=1.0)) for _ in range(10)}
    mine, theirs = race.overlap(sweep(limit=share), sweep(), waits=False)
    first, second = ({wakeup.entry for wakeup in swept.wakeups} for swept in (mine, theirs))
    assert (len(first), first & second, first | second) == (share, set(), waiting)
    assert set(Entry.objects.values_list("publishes", flat=True)) == {1}


def test_two_sweepers_rescue_each_entry_once(race):
    """Of two sweepers on the same lost entries each entry is taken over and charged once."""
    held = {running().entry for _ in range(6)}
    mine, theirs = race.overlap(sweep(limit=2), sweep(), waits=False)
    first, second = ({taken.id for taken in swept.rescued} for swept in (mine, theirs))
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
