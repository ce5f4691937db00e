"""Delete entries that ended long ago."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from ..models import Attempt, Entry, Key
from ..oversight import TouchedEntry
from ..states import ENDED, State
from .guard import explained, ledger_connection, moment_expression


def prune(
    state: State, older_than: timedelta, *, batch: int = 1000, now: datetime | None = None
) -> int:
    """Delete ended entries of one state, and their attempts, in one bounded transaction.

    Args:
        state: which kind.
        older_than: how long ago they ended at least.
        batch: most entries to delete.
        now: a fixed time instead of the database's clock, for tests.

    Returns:
        How many were deleted; call again until it is 0.

    Raises:
        ValueError: the state is not an ended one.
    """
    if state not in ENDED:
        raise ValueError(f"Only ended entries can be pruned; {state} is not an ended state.")
    alias = ledger_connection().alias
    before = moment_expression(-older_than.total_seconds(), now)
    with explained(), transaction.atomic(using=alias):
        old = (
            Entry.objects.using(alias)
            .filter(state=state, finished_at__isnull=False, finished_at__lt=before)
            .order_by("finished_at")
        )
        if ledger_connection().features.has_select_for_update_skip_locked:
            old = old.select_for_update(skip_locked=True)
        found = dict(old.values_list("pk", "key")[:batch])
        chosen = list(found)
        if not chosen:
            return 0
        # _raw_delete skips Django's collector, which would load every row first.
        attempts = Attempt.objects.using(alias).filter(entry_id__in=chosen)
        attempts._raw_delete(alias)
        # What a dead entry still held; a window outlasts the pruning.
        keyed = [pk for pk, key in found.items() if key is not None]
        if keyed and state is State.DEAD:
            Key.objects.using(alias).filter(entry_id__in=keyed, until=None)._raw_delete(alias)
        TouchedEntry.objects.using(alias).filter(entry_id__in=chosen)._raw_delete(alias)
        doomed = Entry.objects.using(alias).filter(pk__in=chosen, state=state)
        return int(doomed._raw_delete(alias))
