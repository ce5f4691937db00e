"""Searches that stay cheap on a large table."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform

from .. import codec
from ..errors import ArgumentError
from ..ledger import ledger_connection
from ..models import Entry
from ..shown import hiding

#: A search by an argument's value looks at so many of the newest entries: no index serves it.
LOOKED_AT: Final = 50_000
_PLACES: Final = 4
_BY_ARGUMENT: Final = re.compile(r"(?P<name>[^\W\d]\w*)\s*=\s*(?P<value>.+)", re.DOTALL)


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
    """Return the entries whose argument is exactly this.

    Note [No search tells a secret]: whoever may search sees no sensitive argument, so none is
    compared either: a guess that is confirmed is as good as a look. A name is one key and nothing
    inside it, whatever underscores it has; what looks like a secret as entries keep it is never
    asked for; and where a task hides an argument, its entries do not match by that one.
    """
    asked = _readings(value)
    if asked is None:
        return rows.none()
    named, placed = hiding(name, _PLACES)
    # Whatever its name is: positional arguments have none in the ledger.
    places = {f"argument_{n}": KeyTransform(n, "args") for n in range(_PLACES)}
    wanted = Q()
    for each in asked:
        wanted |= Q(argument=each) & ~Q(task__in=named)
        for n, hidden in enumerate(placed):
            wanted |= Q(**{f"argument_{n}": each}) & ~Q(task__in=hidden)
    return _newest(rows.alias(argument=KeyTransform(name, "kwargs"), **places)).filter(wanted)


def _readings(value: str) -> list[Any] | None:
    """Return what a typed value may mean: text, or JSON; None if nothing may be found by it."""
    try:
        parsed = json.loads(value)
        if codec.shown(parsed) != parsed:
            return None
        json.dumps(parsed, allow_nan=False)
        codec.dumps(parsed)
    except RecursionError:
        return None
    except (ValueError, ArgumentError):  # no JSON that a database takes
        return [value]
    return [value, parsed]


def _newest(rows: QuerySet[Any]) -> QuerySet[Any]:
    every = Entry.objects.using(ledger_connection().alias).order_by("-pk")
    last = every.values_list("pk", flat=True)[LOOKED_AT : LOOKED_AT + 1].first()
    return rows if last is None else rows.filter(pk__gt=last)
