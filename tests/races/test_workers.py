"""Workers that report themselves, leave and are forgotten, all at once."""

from __future__ import annotations

from datetime import timedelta

from reliable_tasks import ledger
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import WorkerProcess
from tests.entries import T0, WORKER, later

REPORT = WorkerReport(WORKER, "celery@here", 1, "prefork", 2, ["celery"], {})


def beat(seconds=0.0, **changes):
    return lambda: ledger.beat(REPORT, now=later(seconds), **changes)


def leave():
    return lambda: ledger.leave(WORKER)


def forget(seconds):
    return lambda: ledger.forget_silent(timedelta(days=1), now=later(seconds))


def test_two_first_beats(race):
    """Of two first beats of one worker one writes its row, and neither fails."""
    assert race.overlap(beat(), beat()) == (None, None)
    assert WorkerProcess.objects.count() == 1


def test_a_beat_against_a_sign_off(race):
    """A sign-off that waits for a beat has the last word."""
    beat()()
    race.overlap(beat(1.0), leave())
    assert not WorkerProcess.objects.exists()


def test_a_worker_that_beats_is_not_forgotten(race):
    """A worker that beats again after a day, while others forget it, stays on the list."""
    beat()()
    day = 86_400.0
    _, forgotten = race.overlap(beat(day + 1.0), forget(day + 1.0))
    assert forgotten == 0
    assert WorkerProcess.objects.get().beat_at == later(day + 1.0)


def test_a_worker_that_was_forgotten_is_written_anew(race):
    """A beat that comes while its worker is forgotten writes a new row."""
    beat()()
    day = 86_400.0
    forgotten, _ = race.overlap(forget(day + 1.0), beat(day + 1.0))
    assert forgotten == 1
    assert WorkerProcess.objects.get().started_at == later(day + 1.0) > T0
