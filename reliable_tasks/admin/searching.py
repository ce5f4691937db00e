"""Searches that stay cheap on a large table."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet

from ..ledger import ledger_connection
from ..models import Entry

#: A search by an argument's value looks at so many of the newest entries: no index serves it.
LOOKED_AT: Final = 50_000
_PLACES: Final = 4
_BY_ARGUMENT: Final = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.+)", re.DOTALL)


def searched(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return the entries that a search finds.

    Args:
        rows: the entries in which to search.
        term: an id, ``name=value`` for an argument, a key, or how a task's name begins.
    """
    text = term.strip()
    if not text:
        return rows
    try:
        return rows.filter(pk=UUID(text))
    except ValueError:
        pass
    by_argument = _BY_ARGUMENT.fullmatch(text)
    if by_argument is not None:
        return _by_argument(rows, by_argument["name"], by_argument["value"].strip())
    return rows.filter(Q(task__startswith=text) | Q(key=text))


def _by_argument(rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
    wanted = Q(**{f"kwargs__{name}": value})
    try:
        parsed = json.loads(value)
    except ValueError:
        pass
    else:
        wanted |= Q(**{f"kwargs__{name}": parsed})
        # Whatever its name is: positional arguments have none in the ledger.
        for place in range(_PLACES):
            wanted |= Q(**{f"args__{place}": parsed})
    for place in range(_PLACES):
        wanted |= Q(**{f"args__{place}": value})
    return _newest(rows).filter(wanted)


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    every = Entry.objects.using(ledger_connection().alias).order_by("-pk")
    last = every.values_list("pk", flat=True)[LOOKED_AT : LOOKED_AT + 1].first()
    return rows if last is None else rows.filter(pk__gt=last)
