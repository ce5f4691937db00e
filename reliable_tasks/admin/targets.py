"""What an act was done to, in the reader's language; its record is in one language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..models import OperatorAct
from ..operations import Chosen

_Words = Callable[[dict[str, Any]], str]


def target_words(act: OperatorAct) -> str:
    """Return what an act was done to.

    Args:
        act: the act. What its record says in no way of ours is returned as it is.
    """
    chosen = (act.details or {}).get("chosen")
    if isinstance(chosen, dict):
        try:
            return Chosen.from_json(chosen).words()
        except ValueError:  # of a later version
            return act.target
    for pattern, words in _TARGETS:
        if found := pattern.fullmatch(act.target):
            return words(found.groupdict())
    return act.target


def _some(given: dict[str, Any]) -> str:
    count = int(given["count"])
    return ngettext("%d entry", "%d entries", count) % count


def _steered(given: dict[str, Any]) -> str:
    words = {
        "pause": _("pause operation %s"),
        "resume": _("resume operation %s"),
        "stop": _("stop operation %s"),
    }
    found: str = words[given["verb"]] % given["id"]
    return found


def _paced(given: dict[str, Any]) -> str:
    if given["rate"] is None:
        return _("rate of operation %(id)s: no limit") % given
    return _("rate of operation %(id)s: %(rate)s entries a second") % given


# As ``operations`` words them.
_TARGETS: Final[tuple[tuple[re.Pattern[str], _Words], ...]] = (
    (re.compile(r"entry (?P<id>\S+)"), lambda given: _("entry %s") % given["id"]),
    (re.compile(r"(?P<count>\d+) entries"), _some),
    (
        re.compile(r"schedule (?P<name>.+)", re.DOTALL),
        lambda given: _("schedule %s") % given["name"],
    ),
    (
        re.compile(r"(?P<kind>queue|task) (?P<name>.+)"),
        lambda given: f"{_(given['kind'])} {given['name']}",
    ),
    (
        re.compile(r"key (?P<key>.+) of (?P<task>\S+)"),
        lambda given: _("key %(key)s of %(task)s") % given,
    ),
    (re.compile(r"(?P<verb>pause|resume|stop) operation (?P<id>\S+)"), _steered),
    (
        re.compile(r"rate of operation (?P<id>\S+): (?:no limit|(?P<rate>\S+) entries a second)"),
        _paced,
    ),
)
