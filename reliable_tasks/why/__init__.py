"""Why an entry that waits is not running, in words.

The page of an entry in the admin and ``manage.py reliable_tasks show`` print what
:func:`why_waiting` returns; so may you. Each cause is a function in ``causes``.
"""

from __future__ import annotations

from celery import Celery, current_app

from .. import overview
from ..link import Link
from ..models import Entry
from ..states import WAITING
from .case import Case, Reason
from .causes import CAUSES, next_in_turn

__all__ = ["Reason", "why_waiting"]


def why_waiting(
    entry: Entry, *, app: Celery | None = None, ask_broker: bool = True
) -> list[Reason]:
    """Say why an entry that waits is not running.

    Args:
        entry: the entry, as it was just read.
        app: the Celery app whose broker it is; None for the current one.
        ask_broker: connect to the broker to see whether it answers (at most ``PUBLISH_TIMEOUT``
            seconds for each step).

    Returns:
        What keeps it, the most decisive first; never empty for an entry that waits, and empty for
        one that runs or has ended.
    """
    if entry.state not in WAITING:
        return []
    link = Link(app or current_app._get_current_object()) if ask_broker else None
    try:
        case = Case(entry, overview.now(), link)
        found = [reason for cause in CAUSES for reason in cause(case)]
    finally:
        if link is not None:
            link.close()
    if not any(reason.cause != "expires" for reason in found):
        found.insert(0, next_in_turn(case))
    return found
