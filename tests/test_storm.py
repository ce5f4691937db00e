"""A long backlog is not drowned in copies of its own messages: an hour on a clock of its own.

RELIABLE_TASKS_TEST_BACKLOG=50000 sets how many entries wait.
"""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from reliable_tasks import ledger
from reliable_tasks.conf import current
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from reliable_tasks.sweeping import reconcile, sweep
from tests.celery_app import app
from tests.entries import T0, WORKER, later, new

BACKLOG = int(os.environ.get("RELIABLE_TASKS_TEST_BACKLOG", "600"))
HOUR = 3600.0
QUEUE = "celery"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(60 + BACKLOG / 50),
]


@dataclass
class Broker:
    """Stands where the link to a broker does: holds messages, and counts what it was sent."""

    messages: deque[str] = field(default_factory=deque)
    sent: int = 0
    counts: bool = True
    breaker: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(is_open=False))

    def is_up(self):
        return True

    def depth(self, queue):
        return len(self.messages) if queue == QUEUE else 0

    def deliver(self, wakeups):
        self.messages.extend(wakeup.entry for wakeup in wakeups)
        self.sent += len(wakeups)
        return len(wakeups)


@dataclass
class Worker:
    """Fetches messages ahead of what it runs, and says so in its heartbeats."""

    per_second: float
    prefetch: int = 40
    fetched: deque[str] = field(default_factory=deque)
    credit: float = 0.0

    def beat(self, broker, seconds, now):
        self.credit += self.per_second * seconds
        while self.credit >= 1.0 and (self.fetched or broker.messages):
            self._fetch(broker)
            self._run(self.fetched.popleft(), now)
            self.credit -= 1.0
        self._fetch(broker)
        held = {QUEUE: len(self.fetched)}
        report = WorkerReport(WORKER, "celery@here", 1, "prefork", 1, [QUEUE], {}, held)
        ledger.beat(report, now=now)

    def _fetch(self, broker):
        while broker.messages and len(self.fetched) < self.prefetch:
            self.fetched.append(broker.messages.popleft())

    def _run(self, entry, now):
        held = ledger.claim(entry_of[entry], WORKER, lease=10.0, now=now)
        if held is not None:
            ledger.succeed(held, now=now)


entry_of: dict[str, object] = {}


@pytest.fixture
def backlog():
    """Enqueue a backlog as callers do, with its messages in the broker."""
    random.seed(7)  # the sweeper spreads its looks at random
    ids = [new_id() for _ in range(BACKLOG)]
    entry_of.clear()
    entry_of.update((str(each), each) for each in ids)
    calls = [(each, "[]", "{}") for each in ids]
    ledger.enqueue_alike(new(queue=QUEUE), calls, grace=current().PUBLISH_RECHECK, now=T0)
    return Broker(deque(entry_of))


def pass_time(broker, seconds, *, begin=0.0, worker=None):
    """Let sweepers look whenever something is due, and count as often as the settings say."""
    settings = current()
    clock, next_count, most = begin, begin, 0
    while clock < begin + seconds:
        now = later(clock)
        if clock >= next_count:
            if worker is not None:
                worker.beat(broker, settings.PUBLISH_GRACE, now)
            reconcile(broker, now=now)
            next_count = clock + settings.PUBLISH_GRACE
        wait, sent = ledger.seconds_until_wake(now=now), broker.sent
        if wait is not None and wait <= 0:
            for _ in range(2):  # once for each of two workers
                sweep(app, broker, prune=False, now=now)
            most = max(most, broker.sent - sent)
            wait = settings.SWEEP_SECONDS
        clock = min(next_count, next_count if wait is None else clock + wait)
    return most


def test_a_backlog_that_waits_for_an_hour_is_left_alone(backlog, record_property):
    """While nobody consumes for an hour, fewer than 5 % of the messages are sent again."""
    pass_time(backlog, HOUR)
    record_property("copies of messages", backlog.sent)
    assert backlog.sent < 0.05 * BACKLOG
    assert Entry.objects.filter(state=State.PENDING).count() == BACKLOG


def test_a_backlog_that_is_worked_off_slowly_is_left_alone(backlog, record_property):
    """While a worker takes its time, fewer than 5 % of a backlog's messages are sent again."""
    seconds = HOUR / 2
    pass_time(backlog, seconds, worker=Worker(per_second=0.9 * BACKLOG / seconds))
    record_property("copies of messages", backlog.sent)
    assert backlog.sent < 0.05 * BACKLOG
    done = Entry.objects.filter(state=State.SUCCEEDED).count()
    assert 0.88 * BACKLOG < done < 0.92 * BACKLOG


def test_what_a_wiped_broker_lost_is_sent_once(backlog, record_property):
    """After a broker was wiped each message is sent again once, a batch of a sweeper at a time."""
    pass_time(backlog, HOUR / 4)
    backlog.messages.clear()
    before = backlog.sent
    most = pass_time(backlog, HOUR / 4, begin=HOUR / 4)
    copies = Counter(backlog.messages)
    record_property("copies of messages", backlog.sent - before)
    assert len(copies) == BACKLOG
    assert backlog.sent - before < 1.05 * BACKLOG
    assert most <= 2 * current().SWEEP_BATCH
