"""Other schedulers that fire the same schedules, such as a stock beat that runs beside ours.

Whoever runs a schedule leaves the time in its row, ``last_run_at``. A beat of ours knows what it
left there itself. Another value means that somebody else ran it, unless a person saved the row at
just that moment, with a value of ours that was a little older.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from .. import overview
from ..ledger import marks, occurrences
from ..ledger.guard import ledger_connection
from ..models import ScheduleState

#: How long it is told that another scheduler was at work.
TOLD: Final = timedelta(days=1)
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Rival:
    """What is known of another scheduler.

    Attributes:
        count: how many schedules it has run.
        names: some of them.
        latest: when it ran one, last.
    """

    count: int
    names: list[str]
    latest: datetime

    def __str__(self) -> str:
        more = f" and {self.count - len(self.names)} more" if self.count > len(self.names) else ""
        names = ", ".join(map(repr, self.names))
        return f"Another scheduler runs {names}{more}, last at {self.latest:%Y-%m-%d %H:%M:%S} UTC."


def note(found: Mapping[int, datetime]) -> int:
    """Keep which schedules somebody else has run.

    Args:
        found: for each schedule the ``last_run_at`` of its row, which is not what was left there.

    Returns:
        How many of them somebody else has run.
    """
    ours = occurrences.handled_at(found)
    others = {each: at for each, at in found.items() if each not in ours}
    marks.ran_elsewhere(others)
    return len(others)


def warning() -> str:
    """Return what a beat says in its log of another scheduler."""
    told = seen() or "Another scheduler runs schedules."
    return f"{told} Each of its runs is one too many. Stop it, or start it with -S reliable."


def seen() -> Rival | None:
    """Return what another scheduler did within the last day; None if there was none."""
    since = overview.now() - TOLD
    rows = ScheduleState.objects.using(ledger_connection().alias)
    rows = rows.filter(ran_elsewhere_at__gte=since).order_by("-ran_elsewhere_at")
    latest = list(rows.values_list("ran_elsewhere_at", "schedule__name")[:_NAMED])
    if not latest or latest[0][0] is None:
        return None
    return Rival(rows.count(), [name for _, name in latest], latest[0][0])
