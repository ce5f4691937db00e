"""The rows in which workers report themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reliable_tasks import ledger
from reliable_tasks.models import WorkerProcess
from tests.entries import OTHER_WORKER, T0, WORKER, later

pytestmark = pytest.mark.django_db

REPORT = ledger.WorkerReport(
    identity=WORKER,
    hostname="celery@here",
    pid=4711,
    pool="prefork",
    concurrency=2,
    queues=("celery", "slow"),
    versions={"python": "3.11.7"},
)


def test_a_worker_reports_itself():
    """The first beat writes who the worker is, what it serves and since when."""
    ledger.beat(REPORT, now=T0)
    found = WorkerProcess.objects.get()
    assert (found.identity, found.hostname, found.pid) == (WORKER, "celery@here", 4711)
    assert (found.pool, found.concurrency, found.draining) == ("prefork", 2, False)
    assert (found.queues, found.versions) == (["celery", "slow"], {"python": "3.11.7"})
    assert (found.started_at, found.beat_at) == (T0, T0)


def test_a_later_beat_is_one_statement(django_assert_num_queries):
    """Each further beat costs one statement and keeps the start."""
    ledger.beat(REPORT, now=T0)
    with django_assert_num_queries(1):
        ledger.beat(replace(REPORT, queues=("celery",)), draining=True, now=later(3))
    found = WorkerProcess.objects.get()
    assert (found.started_at, found.beat_at) == (T0, later(3))
    assert (found.draining, found.queues) == (True, ["celery"])


def test_workers_do_not_share_a_row():
    """A restarted worker of the same host name has a row of its own."""
    ledger.beat(REPORT, now=T0)
    ledger.beat(replace(REPORT, identity=OTHER_WORKER), now=T0)
    assert WorkerProcess.objects.count() == 2


def test_a_worker_that_stops_in_good_order_leaves():
    """A worker that leaves takes its own row along and no other."""
    ledger.beat(REPORT, now=T0)
    ledger.beat(replace(REPORT, identity=OTHER_WORKER), now=T0)
    ledger.leave(WORKER)
    assert WorkerProcess.objects.get().identity == OTHER_WORKER


def test_the_long_silent_are_forgotten():
    """Workers that have been silent for long are removed, the others stay."""
    ledger.beat(REPORT, now=T0)
    ledger.beat(replace(REPORT, identity=OTHER_WORKER), now=later(60))
    assert ledger.forget_silent(timedelta(seconds=60), now=later(61)) == 1
    assert WorkerProcess.objects.get().identity == OTHER_WORKER


def test_fetched_messages_are_added_up_over_the_living():
    """Messages that workers have fetched and not begun count while those workers live."""
    ledger.beat(replace(REPORT, fetched={"celery": 8, "slow": 1}), now=T0)
    ledger.beat(replace(REPORT, identity=OTHER_WORKER, fetched={"celery": 4}), now=later(60))
    assert ledger.fetched(60.0, now=later(60)) == {"celery": 12, "slow": 1}
    assert ledger.fetched(10.0, now=later(60)) == {"celery": 4}
    assert ledger.fetched(10.0, now=later(600))["celery"] == 0


def test_one_living_worker_is_chosen():
    """All workers agree which one of the living does what one is enough for."""
    ledger.beat(REPORT, now=T0)
    ledger.beat(replace(REPORT, identity=OTHER_WORKER), now=later(60))
    assert ledger.first_alive(60.0, now=later(60)) == min(WORKER, OTHER_WORKER)
    assert ledger.first_alive(10.0, now=later(60)) == OTHER_WORKER
    assert ledger.first_alive(10.0, now=later(600)) is None
