"""Who holds a dedup key, and its release."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from .. import events, ledger
from ..dedup import Conflict
from ..models import Entry
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


def release_keys_of(entry_ids: Iterable[UUID], reason: str = "", *, by: str = "") -> list[UUID]:
    """Release the dedup keys that entries hold; see :func:`release_key`.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on each entry.
        by: who, in words; kept with the reason.

    Returns:
        Those that held one.
    """
    held = ledger.holders(Q(entry_id__in=list(entry_ids)))
    done = [release_key(each.digest, reason, by=by) for each in held if not each.lapsed]
    return [each.entry for each in done if each is not None]


def key_of(entry: Entry) -> Conflict | None:
    """Return who holds the key of an entry now: that entry, another one, or nobody.

    Args:
        entry: the entry.
    """
    if entry.key is None:
        return None
    mine = [each for each in ledger.holders(Q(entry_id=entry.pk)) if not each.lapsed]
    return mine[0] if mine else ledger.held_by_others([entry.pk]).get(entry.pk)
