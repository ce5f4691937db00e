"""What an operator does, whole: the ledger's act, its record, its event, and Celery's result.

The admin and ``manage.py reliable_tasks`` call these; so may you.
"""

from ..ledger import CancelResult, Mark, marks_of
from ..oversight import Act, Kind
from .accounts import DiscardResult, LeftAlone, RequeueResult, left_alone
from .acting import Spread, cancel, discard, prune, requeue
from .background import FASTEST, SLOWEST, Begun, begin, carry_out, check_rate
from .chosen import Chosen
from .editing import Unreadable, read_arguments, would_change
from .keys import key_of, release_key, release_keys_of
from .matching import POSSIBLE, matching
from .pausing import Concerned, concerned, pause, resume
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
    "Concerned",
    "DiscardResult",
    "Kind",
    "LeftAlone",
    "Mark",
    "RequeueResult",
    "Spread",
    "Unreadable",
    "batched",
    "begin",
    "cancel",
    "carrier",
    "carry_out",
    "celery_app",
    "check_rate",
    "concerned",
    "discard",
    "key_of",
    "known_task",
    "left_alone",
    "marks_of",
    "matching",
    "pause",
    "pause_operation",
    "prune",
    "read_arguments",
    "release_key",
    "release_keys_of",
    "requeue",
    "resume",
    "resume_operation",
    "set_rate",
    "stalled",
    "stop_operation",
    "would_change",
]
