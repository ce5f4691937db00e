"""What to say of a value that the ledger cannot keep: what it is, and what to pass instead."""

from __future__ import annotations

import dataclasses
from datetime import time
from typing import Any

from django.db.models import Model, QuerySet
from django.utils.functional import Promise


def refusal(value: Any) -> str:
    """Return what a value is and what to pass instead, to follow the argument's name.

    Args:
        value: what the ledger cannot keep.
    """
    name = type(value).__qualname__
    if isinstance(value, Model):
        if value.pk is None:
            return (
                f"is an unsaved {name} instance. Save it first, then pass its primary key and "
                "load it in the task. (One that was deleted looks the same.)"
            )
        return (
            f"is a {name} instance. Only ids cross the process boundary: pass its primary key "
            f"({value.pk!r}) and load the object in the task, or annotate the parameter with "
            f"{name}, and it is done for you."
        )
    if isinstance(value, QuerySet):
        return f"is a queryset. Pass primary keys: list({name}.values_list('pk', flat=True))."
    if isinstance(value, bytes | bytearray | memoryview):
        return f"is {name}. Pass text (base64), or store the content and pass its id."
    if isinstance(value, set | frozenset):
        return f"is a {name}, which has no order. Pass sorted(value)."
    if isinstance(value, time):
        return (
            f"is a time in {value.tzinfo}, whose offset depends on the day. Pass a datetime, or "
            "the naive time and the name of the zone."
        )
    if isinstance(value, Promise):
        return "is a lazy translation, whose text depends on the reader. Pass str(value)."
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"is a {name}, a dataclass. Pass dataclasses.asdict(value), or an id."
    if callable(value):
        return f"is {value!r}, a callable. Pass its name and look it up in the task."
    return (
        f"is a {name}, which the ledger cannot keep. Pass an id, a str, a number, a list, a dict, "
        "or a UUID, Decimal, datetime, date, time, timedelta or Enum."
    )
