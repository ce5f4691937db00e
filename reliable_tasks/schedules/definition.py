"""A schedule's whole definition as JSON values: what code declares and what the rows say.

Both come in one form, so that the sync can compare them key by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.db import models

from ..models import SchedulePolicy
from .declared import ROW, Declaration
from .when import When, when_of_row

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_JSON: Final = ("args", "kwargs", "headers")
_TIMES: Final = ("start_time", "expires")


@cache
def policy_fields() -> dict[str, models.Field[Any, Any]]:
    """Return the fields of a policy that a declaration may give, by name."""
    return {field.name: field for field in SchedulePolicy._meta.fields if not field.primary_key}


def declared_values(declared: Declaration) -> dict[str, Any]:
    """Return what code declares, with everything filled in that it leaves open but an operator's.

    Args:
        declared: the declaration, already checked.
    """
    policy = {**policy_defaults(), **declared.policy}
    values = {"task": declared.task, "when": _when(declared.when), **declared.row, **policy}
    if declared.says is None:
        return values
    return {key: value for key, value in values.items() if key in declared.says}


def row_values(row: PeriodicTask, policy: SchedulePolicy | None) -> dict[str, Any]:
    """Return what the rows of a schedule say.

    Args:
        row: the row of django-celery-beat.
        policy: its policy; None where there is none and the defaults hold.
    """
    try:
        when = when_of_row(row)
    except (ValueError, LookupError, OverflowError):  # it makes no sense, and so is never due
        when = None
    columns = {key: plain(getattr(row, key)) for key in ROW}
    columns |= {key: _loaded(columns[key], ROW[key]) for key in _JSON}
    kept = policy or SchedulePolicy()
    fields = {key: plain(getattr(kept, key)) for key in policy_fields()}
    return {"task": row.task, "when": when and _when(when), **columns, **fields}


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


def row_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as django-celery-beat's row takes them, without those of ``when``.

    Args:
        values: as JSON; keys that are no column of the row are left out.
    """
    names = ("task", *ROW)
    return {key: _column(key, value) for key, value in values.items() if key in names}


def _column(key: str, value: Any) -> Any:
    if key in _JSON:
        return json.dumps(value)
    if key in _TIMES and value is not None:
        return datetime.fromisoformat(value)
    return value


def when_from(value: list[Any]) -> When:
    """Return when a schedule is due from its JSON."""
    kind, values = value
    return When(kind, values)


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


def _when(when: When) -> list[Any]:
    return [when.kind, dict(when.values)]


def _loaded(text: str | None, default: Any) -> Any:
    try:
        return json.loads(text) if text else default
    except ValueError:
        return text  # as it stands: it differs from whatever is declared


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
