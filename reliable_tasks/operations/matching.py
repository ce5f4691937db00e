"""Which entries an act would touch."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from .. import ledger
from ..oversight import Act
from ..states import ACTIVE, REQUEUEABLE, State
from .chosen import Chosen

#: In which states each act on entries is possible.
POSSIBLE: Final[dict[Act, frozenset[State]]] = {
    Act.REQUEUE: REQUEUEABLE,
    Act.CANCEL: ACTIVE,
    Act.DISCARD: frozenset({State.DEAD}),
    Act.RELEASE_KEY: frozenset(State),
}


def matching(verb: Act, chosen: Chosen, as_of: datetime | None = None) -> Any:
    """Return the entries that an act would touch, in no order.

    Args:
        verb: requeue, cancel, discard, or the release of keys.
        chosen: which entries.
        as_of: leave out what has changed since.
    """
    rows = chosen.rows(POSSIBLE[verb])
    if verb is Act.RELEASE_KEY:
        return rows.filter(pk__in=ledger.entries_with_keys(as_of))
    if as_of is None:
        return rows
    if verb is Act.CANCEL:
        return rows.filter(ledger.not_since(as_of))
    return rows.filter(finished_at__lte=as_of)
