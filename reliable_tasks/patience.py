"""Whether an ended lease may be believed.

Note [One writer at a time]: where rows cannot be locked (SQLite), one open transaction keeps every
other writer waiting, those who would renew their leases among them. When it ends, leases of healthy
attempts have run out, and a sweeper may be the first to get its turn. So there a lease that has
ended is believed only after everybody had the time of a heartbeat, and no long wait, to renew it.
"""

from __future__ import annotations

import time
from typing import Final

from django.db import transaction

from . import ledger
from .conf import current

# Longer than a writer's usual turn, shorter than what could cost anybody a lease.
_NOTICEABLE: Final = 0.3


class Patience:
    """Remembers since when leases seem to have ended; see Note [One writer at a time]."""

    def __init__(self) -> None:
        self._not_before = 0.0
        self._suspected: float | None = None

    def start_over(self) -> None:
        """The database could not be reached: let everybody renew before taking anything over."""
        self._not_before = time.monotonic() + current().LEASE_SECONDS
        self._suspected = None

    def is_over(self) -> bool:
        """Tell whether running entries whose lease has ended may be taken over now."""
        connection = ledger.ledger_connection()
        if time.monotonic() < self._not_before:
            return False
        if connection.features.has_select_for_update_skip_locked:
            return True
        if not ledger.has_ended_leases():
            self._suspected = None
            return False
        asked = time.monotonic()
        with transaction.atomic(using=connection.alias):
            now = time.monotonic()
        if self._suspected is None or now - asked > _NOTICEABLE:
            self._suspected = now
        return now - self._suspected >= current().HEARTBEAT_SECONDS

    def left(self) -> float | None:
        """Return the seconds until it is over, None if nothing is suspected."""
        if self._suspected is None:
            return None
        return self._suspected + current().HEARTBEAT_SECONDS - time.monotonic()
