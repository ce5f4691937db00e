"""What requeue and cancel have in common: a look at what was chosen, the question, the account."""

from __future__ import annotations

import getpass
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandError

from ... import operations, overview
from ...dedup import Conflict
from ...operations import LeftAlone
from ..console import shape
from ..console.output import Output
from .selection import Selection

_PREVIEW: Final = 20


def operator() -> str:
    """Return who acts, for the reason that an entry keeps."""
    try:
        return f"{getpass.getuser()} with manage.py"
    except (KeyError, OSError):  # a container's user may have no name
        return "manage.py"


def check_named(chosen: Selection) -> None:
    """Refuse ids that the ledger does not have, before anything is touched.

    Raises:
        CommandError: some do not exist.
    """
    if chosen.missing:
        names = ", ".join(str(pk) for pk in chosen.missing[:5])
        more = f" and {len(chosen.missing) - 5} more" if len(chosen.missing) > 5 else ""
        raise CommandError(
            f"The ledger has no entry {names}{more}. Nothing was changed; "
            "`reliable_tasks list` shows what there is."
        )


def question(verb: str, chosen: Selection, count: int) -> str:
    """Return what is asked before the act."""
    groups = chosen.by_task()
    parts = [f"{number:,} {state} {task}" for task, state, number in groups[:4]]
    if len(groups) > 4:
        parts.append(f"{len(groups) - 4} more kinds")
    of = f" of these, oldest first: {', '.join(parts)}"
    whole = f" ({', '.join(parts)})"
    total = sum(number for *_, number in groups)
    return f"{verb} {shape.entries(count)}{of if count < total else whole}?"


def preview(verb: str, chosen: Selection, count: int, out: Output) -> int:
    """Print what would be done to which entries.

    Args:
        verb: what would be done, as a participle: ``requeued``.
        chosen: the entries.
        count: to how many of them.
        out: where to print.

    Returns:
        The exit code.
    """
    rows = chosen.possible.order_by("pk").only(*shape.LISTED)
    if out.as_json:
        ids = [pk for batch in _possible_ids(chosen, count) for pk in batch]
        out.data({"dry_run": True, verb: ids, "skipped": skipped(chosen)})
        return 0 if ids else 1
    if not count:
        out.note(nothing(chosen))
        return 1
    at = overview.now()
    shown = min(count, _PREVIEW)
    out.table(shape.LIST_COLUMNS, [shape.row(entry, at) for entry in rows[:shown]])
    if count > shown:
        out.line(f"… and {count - shown:,} more")
    out.line(f"{shape.entries(count)} would be {verb}; nothing was changed.")
    return 0


def nothing(chosen: Selection) -> str:
    """Return why there is nothing to do."""
    others = chosen.others()
    if not others:
        return "No entry matches."
    return "Nothing to do: " + "; ".join(f"{pk} is {state}" for pk, state in others[:5]) + "."


def skipped(chosen: Selection) -> list[dict[str, Any]]:
    """Return the named entries on which the act is not possible, as JSON has them."""
    return [{"id": pk, "state": state} for pk, state in chosen.others()]


def left_alone(
    entry_ids: list[UUID], chosen: Selection, held: dict[UUID, Conflict] | None = None
) -> list[LeftAlone]:
    """Return how entries stand that an act left alone.

    Args:
        entry_ids: the entries.
        chosen: how they were chosen, and stood then.
        held: who holds the keys of some of them.
    """
    return operations.left_alone(sorted(entry_ids), chosen.seen, held)


def as_json(left: list[LeftAlone]) -> list[dict[str, Any]]:
    """Return entries that were left alone as JSON has them."""
    found = []
    for each in left:
        told: dict[str, Any] = {"id": each.entry, "state": each.now or None}
        if each.changed:
            told["was"] = each.was
        if each.holder is not None:
            told["held_by"] = each.holder.entry
        found.append(told)
    return found


def left_words(left: list[LeftAlone]) -> str:
    """Return which entries were left alone and why, in words."""
    parts = [_why(each) for each in left[:5]]
    if len(left) > 5:
        parts.append(f"and {len(left) - 5} more")
    return f"Left alone: {'; '.join(parts)}."


def _why(left: LeftAlone) -> str:
    if not left.now:
        return f"{left.entry} is gone"
    if left.holder is not None:
        return f"{left.entry} is {left.now}: its key is held by {left.holder.entry}"
    if left.changed and left.was != left.now:
        return f"{left.entry} was {left.was} and is {left.now} now"
    changed = ", and has changed since" if left.changed else ""
    return f"{left.entry} is {left.now}{changed}"


def _possible_ids(chosen: Selection, count: int) -> list[list[UUID]]:
    ids = chosen.possible.order_by("pk").values_list("pk", flat=True)[:count]
    return [list(ids)]
