"""From the address of a list, or a form, to the entries that it chooses, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from .. import overview
from ..operations import Chosen
from .filters import PERIODS
from .labels import label_of
from .moments import moment_of

_PLAIN: Final = ("task", "queue", "worker", "error", "fingerprint", "schedule")
_TYPED: Final = ("since", "until", "subject_type", "subject_id")
#: What else an address or a form may say, which chooses nothing.
_ASIDE: Final = {
    *("q", "p", "o", "all", "e", "csrfmiddlewaretoken", "confirmed", "as_of"),
    *("list", "seen", "marks"),
    *("reason", "when", "minutes", "rate", "args", "kwargs"),
}
_CHOOSING: Final = {*_PLAIN, *_TYPED, "id", "state", "period"}
_KNOWN: Final = {*_CHOOSING, *_ASIDE}
#: Most ids that a form names; a list shows fewer on a page.
MOST_IDS: Final = 1_000


class Unclear(ValueError):
    """An address or form that chooses entries by what this package does not know."""


def chosen_by(given: QueryDict) -> Chosen:
    """Return what the address of a list or a form chooses.

    Args:
        given: its parameters: those of the list's filters, and ``id`` for entries by name.

    Raises:
        Unclear: it chooses by something that an act cannot go by, such as a search.
    """
    if given.get("q", "").strip():
        raise Unclear(_("An act goes by filters, not by a search. Select the entries in the list."))
    # What is not understood does not narrow anything down: an act would touch more than was meant.
    if strange := set(given).difference(_KNOWN):
        names = ", ".join(sorted(strange))
        words = _("An act does not go by %(names)s. Select the entries in the list.")
        raise Unclear(words % {"names": names})
    if any("\x00" in text for name in _CHOOSING for text in given.getlist(name)):
        raise Unclear(_("There is no entry with a NUL character."))
    found: dict[str, object] = {
        **{name: value for name in _PLAIN if (value := given.get(name))},
        **_moments(given),
        **_subject(given),
    }
    found["ids"] = tuple(dict.fromkeys(given.getlist("id")))[:MOST_IDS]
    found["states"] = tuple(filter(None, given.getlist("state")))
    try:
        return Chosen.from_json(found)
    except ValueError as error:
        raise Unclear(_("An id, a state or a time in this address is none.")) from error


def _moments(given: QueryDict) -> dict[str, str]:
    """Return from when to when; a period and a moment both narrow down, as in the list."""
    found = {"since": "", "until": ""}
    for name in found:
        if text := given.get(name, "").strip():
            moment = moment_of(text, late=name == "until")
            if moment is None:
                raise Unclear(_("“%s” is no time.") % text[:40])
            found[name] = moment.isoformat()
    if (period := given.get("period")) in PERIODS:
        begin = (overview.now() - PERIODS[str(period)][0]).astimezone(UTC).isoformat()
        found["since"] = max(found["since"], begin)
    return found


def _subject(given: QueryDict) -> dict[str, str]:
    """Return what they are about, as the list's filter reads it."""
    model, pk = given.get("subject_type", "").strip(), given.get("subject_id", "").strip()
    return {"subject_type": label_of(model) if model else "", "subject_id": pk}


def fields_of(chosen: Chosen) -> list[tuple[str, str]]:
    """Return the hidden fields of a form that chooses the same again."""
    found = [(name, value) for name in (*_PLAIN, *_TYPED) if (value := getattr(chosen, name))]
    found += [("id", text) for text in chosen.ids]
    return found + [("state", text) for text in chosen.states]


def address_of(chosen: Chosen) -> str:
    """Return the parameters of the list that shows what is chosen by filters."""
    return urlencode([(name, value) for name, value in fields_of(chosen) if name != "id"])


def time_of(text: str) -> datetime | None:
    """Return a time from a form's hidden field; None if it is none."""
    try:
        found = parse_datetime(text)
        if found is None or found.tzinfo is None:
            return None
        # With room to reckon with it, in any zone.
        return found.astimezone(UTC) if 1 < found.year < 9999 else None
    except (ValueError, OverflowError):
        return None


def understood(given: QueryDict) -> bool:
    """Tell whether an act can go by the address of a list.

    Args:
        given: its parameters.
    """
    try:
        chosen_by(given)
    except Unclear:
        return False
    return True
