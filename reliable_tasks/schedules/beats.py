"""Which beats there are, as workers and the lease tell."""

from __future__ import annotations

from datetime import timedelta

from .. import overview
from ..conf import current
from ..ledger import EMBEDDED_BEAT, ledger_connection
from ..models import BeatLease


def embedded_beats() -> list[str]:
    """Return the identities of living workers that run a beat of their own (``-B``)."""
    lease = timedelta(seconds=current().LEASE_SECONDS)
    at = overview.now()
    return [
        worker.identity
        for worker in overview.workers()
        if EMBEDDED_BEAT in worker.versions and at - worker.beat_at <= lease
    ]


def leader() -> BeatLease | None:
    """Return the lease that a beat holds or held last; None if there has never been one."""
    rows = BeatLease.objects.using(ledger_connection().alias)
    return rows.order_by("-until").first()
