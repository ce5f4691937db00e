"""Who holds a dedup key, and its release."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from .. import events, ledger, overview
from ..dedup import Conflict
from ..ledger import Seen
from ..models import Entry
from ..oversight import Act, OperatorAct
from .recording import in_words, recorded
from .telling import after_commit

# So many of the keys that an act released are named on its record.
_NAMED: Final = 20


def release_key(
    digest: UUID, reason: str = "", *, by: str = "", entry: UUID | None = None
) -> Conflict | None:
    """Release a dedup key, whoever holds it; its entry goes on without it.

    From then on an equal call is enqueued, also while that entry runs.

    Args:
        digest: the key.
        reason: why, in words; kept on the entry.
        by: who, in words; kept with the reason.
        entry: only if this entry holds it; None for whoever does.

    Returns:
        Who held it; None if nobody did, or another entry.
    """
    words = in_words("Key released", reason, by)
    with transaction.atomic(using=ledger.ledger_connection().alias):
        held = ledger.release_key(digest, reason=words, entry=entry)
        if held is None:
            return None
        target = f"key {held.text} of {held.task}"
        act = ledger.record(Act.RELEASE_KEY, by=by, reason=reason, target=target, done=1)
        ledger.touch(act.pk, [held.entry], "key released")
        after_commit(partial(_tell, [held], words))
    return held


def release_keys_of(
    entry_ids: Iterable[UUID],
    reason: str = "",
    *,
    by: str = "",
    as_of: datetime | None = None,
    seen: Seen = None,
    act: OperatorAct | None = None,
) -> list[UUID]:
    """Release the dedup keys that entries hold; see :func:`release_key`.

    Each batch of ``BATCH`` entries is a transaction of its own, unless one is open already.

    Args:
        entry_ids: the entries.
        reason: why, in words; kept on each entry.
        by: who, in words; kept with the reason.
        as_of: leave alone the keys that were taken later: they are not those that somebody saw.
        seen: how the entries stood when somebody chose them; what has changed is left alone.
        act: the act that this is part of, which is on record already.

    Returns:
        Those that held one.
    """
    words = in_words("Key released", reason, by)
    released: list[UUID] = []
    names: list[str] = []

    def write(batch: list[UUID]) -> dict[str, list[UUID]]:
        # The entries first, and locked: see Note [Lock order] of the ledger's keys.
        rows = overview.entries().filter(pk__in=batch).order_by("pk").select_for_update()
        same = batch if seen is None else ledger.as_seen(rows, seen)
        held = [each for each in ledger.holders(Q(entry_id__in=same)) if not each.lapsed]
        done = [
            each
            for each in sorted(held, key=lambda each: each.entry)
            if ledger.release_key(each.digest, reason=words, entry=each.entry, as_of=as_of)
        ]
        entries = list(dict.fromkeys(each.entry for each in done))
        released.extend(entries)
        names[:] = [each.text for each in done[:_NAMED]]
        after_commit(partial(_tell, done, words))
        return {"key released": entries}

    recorded(
        Act.RELEASE_KEY, entry_ids, write, reason=reason, by=by, act=act, details={"keys": names}
    )
    return released


def key_of(entry: Entry) -> Conflict | None:
    """Return who holds the key of an entry now: that entry, another one, or nobody.

    Args:
        entry: the entry.
    """
    if entry.key is None:
        return None
    mine = [each for each in ledger.holders(Q(entry_id=entry.pk)) if not each.lapsed]
    return mine[0] if mine else ledger.held_by_others([entry.pk]).get(entry.pk)


def _tell(released: Iterable[Conflict], reason: str) -> None:
    for held in released:
        events.emit(
            events.KeyReleased(entry=held.entry, task=held.task, key=held.text, reason=reason)
        )
