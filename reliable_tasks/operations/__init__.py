"""What an operator does, whole: the ledger's act, its record, its event, and Celery's result.

The admin and ``manage.py reliable_tasks`` call these; so may you.
"""

from ..ledger import CancelResult
from ..oversight import Act, Kind
from .acting import DiscardResult, RequeueResult, Spread, cancel, discard, prune, requeue
from .background import FASTEST, SLOWEST, Begun, begin, carry_out, check_rate
from .chosen import Chosen
from .keys import key_of, release_key, release_keys_of
from .matching import POSSIBLE, matching
from .pausing import pause, resume
from .recording import BATCH, batched
from .steering import carrier, pause_operation, resume_operation, set_rate, stalled, stop_operation
from .telling import celery_app, known_task

__all__ = [
    "BATCH",
    "FASTEST",
    "POSSIBLE",
    "SLOWEST",
    "Act",
    "Begun",
    "CancelResult",
    "Chosen",
    "DiscardResult",
    "Kind",
    "RequeueResult",
    "Spread",
    "batched",
    "begin",
    "cancel",
    "carrier",
    "carry_out",
    "celery_app",
    "check_rate",
    "discard",
    "key_of",
    "known_task",
    "matching",
    "pause",
    "pause_operation",
    "prune",
    "release_key",
    "release_keys_of",
    "requeue",
    "resume",
    "resume_operation",
    "set_rate",
    "stalled",
    "stop_operation",
]
