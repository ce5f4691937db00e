"""The only writer of entries. One function is one verb is one guarded transition."""

from .acts import (
    advance_operation,
    begin_operation,
    end_operation,
    hold_operation,
    pass_operation_on,
    record,
    set_rate,
    steer_operation,
    touch,
)
from .again import put_off, release, reschedule
from .assorted import enqueue_many
from .backlog import missing_on, pull_forward, waiting_queues
from .claim import (
    Claim,
    asked_to_stop,
    claim,
    claim_of,
    is_asked_to_stop,
    renew,
    report_progress,
)
from .due import seconds_until_wake, sweep_due, take_back
from .enqueue import (
    NewEntry,
    enqueue,
    enqueue_alike,
    exists,
    was_replaced,
)
from .expire import expire
from .finish import bury, discard, is_recorded, stop, succeed
from .guard import ledger_connection, short_transaction
from .keyring import (
    entries_with_keys,
    find_keys,
    forget_lapsed,
    free_at_start,
    free_started,
    held_by_others,
    release_key,
)
from .keys import holder, holders, take
from .once import change_waiting, enqueue_follower, enqueue_many_once, enqueue_once
from .operate import CancelResult, OtherCall, cancel, discard_dead, not_since, requeue
from .pauses import Paused, forget_ended, pause, paused, resume
from .pruning import prune
from .replacing import hand_over, has_ended, replace
from .rescue import CRASH, Swept, Taken, has_ended_leases, release_left, rescue_lost
from .seen import Mark, Seen, as_seen, marks_of
from .workers import EMBEDDED_BEAT, WorkerReport, beat, fetched, first_alive, forget_silent, leave

__all__ = [
    "CRASH",
    "EMBEDDED_BEAT",
    "CancelResult",
    "Claim",
    "Mark",
    "NewEntry",
    "OtherCall",
    "Paused",
    "Seen",
    "Swept",
    "Taken",
    "WorkerReport",
    "advance_operation",
    "as_seen",
    "asked_to_stop",
    "beat",
    "begin_operation",
    "bury",
    "cancel",
    "change_waiting",
    "claim",
    "claim_of",
    "discard",
    "discard_dead",
    "end_operation",
    "enqueue",
    "enqueue_alike",
    "enqueue_follower",
    "enqueue_many",
    "enqueue_many_once",
    "enqueue_once",
    "entries_with_keys",
    "exists",
    "expire",
    "fetched",
    "find_keys",
    "first_alive",
    "forget_ended",
    "forget_lapsed",
    "forget_silent",
    "free_at_start",
    "free_started",
    "hand_over",
    "has_ended",
    "has_ended_leases",
    "held_by_others",
    "hold_operation",
    "holder",
    "holders",
    "is_asked_to_stop",
    "is_recorded",
    "leave",
    "ledger_connection",
    "marks_of",
    "missing_on",
    "not_since",
    "pass_operation_on",
    "pause",
    "paused",
    "prune",
    "pull_forward",
    "put_off",
    "record",
    "release",
    "release_key",
    "release_left",
    "renew",
    "replace",
    "report_progress",
    "requeue",
    "reschedule",
    "rescue_lost",
    "resume",
    "seconds_until_wake",
    "set_rate",
    "short_transaction",
    "steer_operation",
    "stop",
    "succeed",
    "sweep_due",
    "take",
    "take_back",
    "touch",
    "waiting_queues",
    "was_replaced",
]
