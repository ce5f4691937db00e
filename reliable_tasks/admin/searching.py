"""Searches that stay cheap on a large table."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform
from django.utils import timezone

from .. import codec, overview
from ..errors import ArgumentError
from ..models import Key
from ..shown import hiding
from .labels import labels_of
from .window import SLACK, id_at

#: A search by an argument's value looks at so many of the newest entries: no index serves it.
LOOKED_AT: Final = 50_000
_PLACES: Final = 4
#: Most entries with one key that are found where it is held.
_MOST: Final = 500
#: ``order:17``, ``order #17``, ``shop.Order 17``.
_BY_SUBJECT: Final = re.compile(
    r"(?P<model>[^\W\d][\w.]*)(?:\s*[:#]\s*|\s+#?)(?P<pk>\S.*)", re.DOTALL
)
_BY_ARGUMENT: Final = re.compile(r"(?P<name>[^\W\d]\w*)\s*=\s*(?P<value>.+)", re.DOTALL)


def searched(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return the entries that a search finds.

    Args:
        rows: the entries in which to search.
        term: an id, ``name=value`` for an argument, ``order:17`` or ``shop.Order 17`` for what an
            entry is about, a key, or how a task's name begins.
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
    subject = _subject(text)
    if subject is not None:
        return rows.filter(subject)
    holders = _holders(text)
    if holders:
        return rows.filter(pk__in=holders)
    return rows.filter(Q(task__startswith=text) | Q(key=text))


def _subject(text: str) -> Q | None:
    """Return the condition to be about what a text names; None if no entry is about that."""
    found = _BY_SUBJECT.fullmatch(text)
    labels = labels_of(found["model"]) if found is not None else []
    if found is None or not labels:
        return None
    # One model, if it can be: then the index has the entries in their order.
    kind = Q(subject_type=labels[0]) if len(labels) == 1 else Q(subject_type__in=labels)
    condition = kind & Q(subject_id=found["pk"])
    # A key may look like that as well.
    return condition if overview.entries().filter(condition).exists() else None


def _holders(text: str) -> list[UUID]:
    """Return who holds a key, however old, and the newest that took it before; empty for none."""
    keys = Key.objects.using(overview.entries().db).filter(text=text)
    holders = list(keys.values_list("entry_id", flat=True)[:_MOST])
    if not holders:
        return []
    before = _newest(overview.entries()).filter(key=text).order_by("-pk")
    return list({*holders, *before.values_list("pk", flat=True)[:_MOST]})


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
    """Narrow down to the newest, those whose ids tell no time apart; see Note [Times by ids]."""
    now = id_at(timezone.now(), SLACK)
    wanted = Q()
    for kind in (Q(pk__lte=now), Q(pk__gt=now)):
        newest = overview.entries().filter(kind).order_by("-pk").values_list("pk", flat=True)
        last = newest[LOOKED_AT : LOOKED_AT + 1].first()
        wanted |= kind if last is None else kind & Q(pk__gt=last)
    return rows.filter(wanted)
