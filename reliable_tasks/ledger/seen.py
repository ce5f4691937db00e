"""How entries stood when somebody looked at them, so that an act leaves alone what has changed.

Note [What changes with a change]: an attempt's number goes up with each claim, and the state tells
most of the rest. What neither tells is a requeue, which keeps the number, of what was then
cancelled, requeued or buried again: that has another time at which it is due, or ended. A call
that gives a waiting entry other arguments changes the digest that its key keeps of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from ..models import Entry, Key
from ..states import WAITING
from .guard import ledger_connection


class Mark(NamedTuple):
    """How an entry stands. Any change of it that matters to a person makes another mark.

    Attributes:
        state: its state.
        attempt: the number of its last attempt.
        due_at: when it is due, or was.
        finished_at: when it ended; None if it has not.
        arguments: digest of its arguments, where it waits with a key; they may still be replaced.
    """

    state: str
    attempt: int
    due_at: datetime
    finished_at: datetime | None = None
    arguments: str = ""


def marks_of(rows: QuerySet[Entry]) -> dict[UUID, Mark]:
    """Return how entries stand; see Note [What changes with a change].

    Args:
        rows: the entries; they may be locked by this read.
    """
    columns = rows.values_list("pk", "state", "attempt", "due_at", "finished_at", "key")
    found: dict[UUID, Mark] = {}
    keyed = []
    for pk, state, attempt, due_at, finished_at, key in columns:
        found[pk] = Mark(state, attempt, due_at, finished_at)
        if key is not None and state in WAITING:
            keyed.append(pk)
    if keyed:
        held = Key.objects.using(ledger_connection().alias).filter(entry_id__in=keyed)
        for pk, arguments in held.values_list("entry_id", "arguments"):
            found[pk] = found[pk]._replace(arguments=arguments)
    return found


def as_seen(rows: QuerySet[Entry], seen: Mapping[UUID, Mark]) -> list[UUID]:
    """Return the entries that still stand as somebody saw them, in order.

    Args:
        rows: the entries, locked by this read: what is returned stays so until the commit.
        seen: how they stood.
    """
    return [pk for pk, mark in marks_of(rows).items() if seen.get(pk) == mark]


def standing(entry_ids: Collection[UUID], seen: Mapping[UUID, Mark]) -> Q:
    """Return the condition that entries are in the states and at the attempts that were seen.

    Args:
        entry_ids: the entries.
        seen: how they stood.
    """
    groups: dict[tuple[str, int], list[UUID]] = defaultdict(list)
    for pk in entry_ids:
        groups[seen[pk].state, seen[pk].attempt].append(pk)
    found = Q(pk__in=[])
    for (state, attempt), ids in groups.items():
        found |= Q(pk__in=ids, state=state, attempt=attempt)
    return found


#: What an act was told of how its entries stood: None for nothing, and then it goes by state alone.
Seen = Mapping[UUID, Mark] | None


def unless_changed(rows: QuerySet[Entry], seen: Seen) -> QuerySet[Any]:
    """Return those of some entries that stand as they were seen.

    Args:
        rows: the entries, to be locked.
        seen: how they stood; None: all of them.
    """
    return rows if seen is None else rows.filter(pk__in=as_seen(rows, seen))
