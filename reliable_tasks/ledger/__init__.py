"""The only writer of entries. One function is one verb is one guarded transition."""

from .backlog import missing_on, pull_forward, waiting_queues
from .claim import Claim, asked_to_stop, claim, is_asked_to_stop, renew, report_progress
from .due import seconds_until_wake, sweep_due, take_back
from .enqueue import (
    NewEntry,
    enqueue,
    enqueue_alike,
    enqueue_many,
    exists,
    was_replaced,
)
from .finish import bury, discard, hand_over, has_ended, release, replace, reschedule, stop, succeed
from .guard import ledger_connection
from .operate import CancelResult, cancel, prune, requeue
from .rescue import CRASH, Swept, Taken, has_ended_leases, release_left, rescue_lost
from .workers import EMBEDDED_BEAT, WorkerReport, beat, fetched, first_alive, forget_silent, leave

__all__ = [
    "CRASH",
    "EMBEDDED_BEAT",
    "CancelResult",
    "Claim",
    "NewEntry",
    "Swept",
    "Taken",
    "WorkerReport",
    "asked_to_stop",
    "beat",
    "bury",
    "cancel",
    "claim",
    "discard",
    "enqueue",
    "enqueue_alike",
    "enqueue_many",
    "exists",
    "fetched",
    "first_alive",
    "forget_silent",
    "hand_over",
    "has_ended",
    "has_ended_leases",
    "is_asked_to_stop",
    "leave",
    "ledger_connection",
    "missing_on",
    "prune",
    "pull_forward",
    "release",
    "release_left",
    "renew",
    "replace",
    "report_progress",
    "requeue",
    "reschedule",
    "rescue_lost",
    "seconds_until_wake",
    "stop",
    "succeed",
    "sweep_due",
    "take_back",
    "waiting_queues",
    "was_replaced",
]
