"""A schedule's whole definition as JSON values: what code declares and what the rows say.

Both come in one form, so that the sync can compare them key by key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..models import SchedulePolicy
from .declared import ROW, Declaration
from .policy_values import plain, policy_defaults, policy_fields
from .when import When, when_of_row

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_JSON: Final = ("args", "kwargs", "headers")
_TIMES: Final = ("start_time", "expires")


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


def _when(when: When) -> list[Any]:
    return [when.kind, dict(when.values)]


def _loaded(text: str | None, default: Any) -> Any:
    try:
        return json.loads(text) if text else default
    except ValueError:
        return text  # as it stands: it differs from whatever is declared
