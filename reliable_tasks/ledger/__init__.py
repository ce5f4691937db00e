"""The only writer of entries. One function is one verb is one guarded transition."""

from .claim import Claim, asked_to_stop, claim, is_asked_to_stop, renew, report_progress
from .enqueue import NewEntry, enqueue, enqueue_many, exists
from .finish import bury, release, replace, reschedule, stop, succeed
from .guard import ledger_connection
from .operate import CancelResult, cancel, prune, requeue
from .rescue import (
    CRASH,
    Swept,
    Taken,
    rescue_lost,
    seconds_until_wake,
    sweep_due,
    take_back,
)
from .workers import WorkerReport, beat, forget_silent, leave

__all__ = [
    "CRASH",
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
    "enqueue",
    "enqueue_many",
    "exists",
    "forget_silent",
    "is_asked_to_stop",
    "leave",
    "ledger_connection",
    "prune",
    "release",
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
]
