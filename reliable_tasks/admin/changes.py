"""The arguments that an act changed, in words."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from django.utils.text import Truncator
from django.utils.translation import gettext as _

from ..codec import MASK
from ..models import OperatorAct
from ..shown import hiding

_TAG: Final = "__type__"
_LONGEST: Final = 200


def changes_of(act: OperatorAct, entry: UUID | None = None) -> list[dict[str, Any]]:
    """Return the arguments that an act changed; see ``operations.editing.changes``.

    Args:
        act: the act.
        entry: of this entry only.
    """
    found = (act.details or {}).get("arguments")
    if not isinstance(found, list):
        return []
    changed = [each for each in found if isinstance(each, dict)]
    return [each for each in changed if entry is None or each.get("entry") == str(entry)]


def change_in_words(change: dict[str, Any]) -> str:
    """Return one argument's change, such as ``order: 17 → 18``.

    Args:
        change: one item of what :func:`changes_of` returned.
    """
    none = _("(none)")
    # What its task has declared sensitive since is hidden as well.
    hidden = change.get("task") in hiding(str(change.get("name", "")), 0)[0]
    sides = (
        (MASK if hidden else _value(change[side])) if side in change else none
        for side in ("before", "after")
    )
    return f"{change.get('name', '?')}: {' → '.join(sides)}"


def _value(value: Any) -> str:
    if isinstance(value, dict) and _TAG in value:
        return f"{_value(value.get('value'))} ({value[_TAG]})"
    if value == MASK:
        return MASK
    return Truncator(json.dumps(value, ensure_ascii=False)).chars(_LONGEST)
