"""What an entry is about: one row of the project's, by its model's label and its primary key.

The label is the natural key of Django's content types (``shop.order``), so it needs no query and
no table. A proxy has that of its concrete model, because both have the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from django.db.models import Model, Q

_LONGEST: Final = 255


class Subject(NamedTuple):
    """One row as the ledger names it.

    Attributes:
        type: label of its concrete model, in lower case.
        id: its primary key as text.
    """

    type: str
    id: str


def subject_of(model: type[Model], pk: Any) -> Subject:
    """Return how the ledger names a row.

    Args:
        model: its model.
        pk: its primary key.
    """
    concrete = model._meta.concrete_model or model
    text = json.dumps(list(pk), default=str) if isinstance(pk, list | tuple) else str(pk)
    if len(text) > _LONGEST:
        text = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return Subject(concrete._meta.label_lower, text)


def primary_key(model: type[Model], instance: Model) -> Any:
    """Return an instance's primary key as a model sees it that may be a parent of the instance's.

    An instance that was saved, and not read since, has the key that it was given, which may be the
    text of a UUID or of a number; what is returned is of the type that the model's own keys have.

    Args:
        model: the instance's model, a proxy of it, or one that it inherits from.
        instance: the instance.
    """
    fields = model._meta.pk_fields
    given = ((field, getattr(instance, field.attname)) for field in fields)
    values = tuple(None if value is None else field.to_python(value) for field, value in given)
    return values if len(values) > 1 else values[0]


def subjects_of(instance: Model) -> list[Subject]:
    """Return all names that a row has: with multi-table inheritance, one for each of its tables."""
    model = type(instance)._meta.concrete_model or type(instance)
    lines = [model, *(parent for parent in model._meta.get_parent_list() if parent is not model)]
    return [subject_of(each, primary_key(each, instance)) for each in lines]


def about(subjects: Iterable[Subject]) -> Q:
    """Return the condition on entries to be about one of these rows.

    Args:
        subjects: the rows; one condition for each model among them.
    """
    by_type: dict[str, list[str]] = {}
    for subject in subjects:
        by_type.setdefault(subject.type, []).append(subject.id)
    found = Q(pk__in=[])
    for label, ids in by_type.items():
        one = Q(subject_id=ids[0]) if len(ids) == 1 else Q(subject_id__in=ids)
        found |= Q(subject_type=label) & one
    return found
