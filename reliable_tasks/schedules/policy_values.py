"""A policy's values as JSON: what a declaration may give, and what the row takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from ..models import SchedulePolicy


@cache
def policy_fields() -> dict[str, models.Field[Any, Any]]:
    """Return the fields of a policy that a declaration may give, by name."""
    return {field.name: field for field in SchedulePolicy._meta.fields if not field.primary_key}


def policy_defaults() -> dict[str, Any]:
    """Return the policy of a schedule that has none."""
    return {key: plain(field.get_default()) for key, field in policy_fields().items()}


def policy_value(key: str, given: Any) -> Any:
    """Return one value of a declared policy as JSON.

    Args:
        key: the field.
        given: the value; lengths of time may be seconds.

    Raises:
        ValueError: the field does not take it.
    """
    field = policy_fields()[key]
    value = given
    if isinstance(field, models.DurationField) and _is_number(value):
        value = timedelta(seconds=value)
    try:
        return plain(field.clean(value, None))
    except ValidationError as error:
        raise ValueError(f"{key!r} is {given!r}: {' '.join(error.messages)}") from error


def policy_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a policy as its row takes them.

    Args:
        values: as JSON; keys that are no field of the policy are left out.
    """
    fields = policy_fields()
    return {
        key: timedelta(seconds=value)
        if isinstance(fields[key], models.DurationField) and value is not None
        else value
        for key, value in values.items()
        if key in fields
    }


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case timedelta():
            seconds = value.total_seconds()
            return int(seconds) if seconds.is_integer() else seconds
        case datetime():
            return value.astimezone(UTC).isoformat()
        case str():
            return str(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
