"""What two connections do to one entry."""

from __future__ import annotations

from datetime import timedelta

from reliable_tasks import ledger
from tests import entries
from tests.entries import (
    GRACE,
    LEASE,
    T0,
    WORKER,
    later,
    new,
)

LATE = later(LEASE + 1)


def claim(entry_id, worker=WORKER, now=T0):
    return lambda: ledger.claim(entry_id, worker, lease=LEASE, now=now)


def cancel(entry_id):
    return lambda: ledger.cancel([entry_id], reason="race", now=T0)


def requeue(entry_id):
    return lambda: ledger.requeue([entry_id], now=T0)


def sweep(**changes):
    return lambda: entries.sweep(**{"now": LATE, **changes})


def lose(held):
    return lambda: ledger.rescue_lost([held.entry], held.worker, now=T0)


def sign_off(worker=WORKER):
    return lambda: ledger.release_left(worker, now=T0)


def stop(held):
    return lambda: ledger.stop(held, now=T0)


def take_back(entry_id):
    return lambda: ledger.take_back([entry_id], retry_in=3.0, now=T0)


def pull_forward(now=LATE):
    return lambda: ledger.pull_forward("celery", count=9, grace=0.0, now=now)


def prune(wanted):
    return lambda: ledger.prune(wanted, timedelta(0), now=later(1))


FINISHES = {
    "succeed": lambda held: ledger.succeed(held, now=T0),
    "reschedule": entries.reschedule,
    "bury": entries.bury,
    "discard": lambda held: ledger.discard(held, entries.FAILURE, reason="gone", now=T0),
    "release": lambda held: ledger.release(held, why="shutdown", now=T0),
    "replace": lambda held: ledger.replace(held, new(), grace=GRACE, now=T0),
    "hand_over": lambda held: ledger.hand_over(held, now=T0),
}


def finish(verb, held):
    return lambda: FINISHES[verb](held)
