"""What an operator does, whole: the ledger's act, its record, its event, and Celery's result.

The admin and ``manage.py reliable_tasks`` call these; so may you.
"""

from ..ledger import CancelResult
from ..oversight import Act, Kind
from .acting import (
    BATCH,
    DiscardResult,
    RequeueResult,
    Spread,
    batched,
    cancel,
    discard,
    prune,
    requeue,
)
from .background import (
    POSSIBLE,
    Begun,
    begin,
    carry_out,
    check_rate,
    matching,
    pause_operation,
    resume_operation,
    set_rate,
    stop_operation,
)
from .chosen import Chosen
from .keys import key_of, release_key, release_keys_of
from .pausing import pause, resume
from .telling import celery_app, known_task

__all__ = [
    "BATCH",
    "POSSIBLE",
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
    "stop_operation",
]
