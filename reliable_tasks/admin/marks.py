"""What the page of an act has shown, kept in its form; and what was left alone since, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..operations import LeftAlone, Mark
from .choosing import Unclear

#: Most entries that a message names.
_NAMED: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


def marks_as_text(marks: Mapping[UUID, Mark]) -> str:
    """Return how entries stood, for a form's hidden field."""
    return " ".join(
        ".".join(
            (
                pk.hex,
                mark.state,
                str(mark.attempt),
                _number(mark.due_at),
                _number(mark.finished_at),
                mark.arguments,
            )
        )
        for pk, mark in marks.items()
    )


def marks_in(text: str) -> dict[UUID, Mark]:
    """Return how entries stood when a page was made, from its form's hidden field.

    Raises:
        Unclear: the field is not as this package made it.
    """
    found = {}
    try:
        for part in text.split():
            pk, state, attempt, due, ended, arguments = part.split(".")
            at = _EPOCH + int(due) * _TICK
            end = _EPOCH + int(ended) * _TICK if ended else None
            found[UUID(pk)] = Mark(state, int(attempt), at, end, arguments)
    except (ValueError, OverflowError):
        raise Unclear(_("This form is not whole. Open its page again.")) from None
    return found


def left_words(left: Sequence[LeftAlone]) -> str:
    """Return which entries were left alone, and why."""
    named = [_why(each) for each in left[:_NAMED]]
    if len(left) > _NAMED:
        named.append(_("and %d more") % (len(left) - _NAMED))
    words = ngettext(
        "%(count)d entry was left alone: %(which)s.",
        "%(count)d entries were left alone: %(which)s.",
        len(left),
    )
    return words % {"count": len(left), "which": "; ".join(named)}


def _why(left: LeftAlone) -> str:
    given = {"id": left.entry, "was": _(left.was or "-"), "now": _(left.now or "-")}
    if not left.now:
        return _("%(id)s is not in the ledger any more") % given
    if left.holder is not None:
        holder = {**given, "holder": left.holder.entry}
        return _("%(id)s is %(now)s, because entry %(holder)s has its key") % holder
    if left.changed and left.was != left.now:
        return _("%(id)s was %(was)s and is %(now)s now") % given
    if left.changed:
        return _("%(id)s is %(now)s as before, but something has happened to it since") % given
    if left.was:
        return _("%(id)s is %(now)s, and there is nothing to do") % given
    return _("%(id)s is %(now)s: not possible there, or it has changed meanwhile") % given


def _number(at: datetime | None) -> str:
    return "" if at is None else str((at - _EPOCH) // _TICK)
