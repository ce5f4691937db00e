"""Release a dedup key."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.db import transaction

from .. import events, ledger
from ..dedup import Conflict
from ..oversight import Act
from .acting import in_words
from .telling import after_commit


def release_key(digest: UUID, reason: str = "", *, by: str = "") -> Conflict | None:
    """Release a dedup key, whoever holds it; its entry goes on without it.

    From then on an equal call is enqueued, also while that entry runs.

    Args:
        digest: the key.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.

    Returns:
        Who held it; None if nobody did.
    """
    words = in_words("Key released", reason, by)
    with transaction.atomic(using=ledger.ledger_connection().alias):
        held = ledger.release_key(digest, reason=words)
        if held is None:
            return None
        target = f"key {held.text} of {held.task}"
        act = ledger.record(Act.RELEASE_KEY, by=by, reason=reason, target=target, done=1)
        ledger.touch(act.pk, [held.entry], "key released")
        event = events.KeyReleased(entry=held.entry, task=held.task, key=held.text, reason=words)
        after_commit(partial(events.emit, event))
    return held
