"""Moments as people type them into fields and addresses, and as fields show them."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone
from django.utils.dateparse import parse_datetime


def moment_of(text: str, *, late: bool = False) -> datetime | None:
    """Return the moment that a text means; None if it means none.

    Args:
        text: a day or a time in ISO 8601. Without an offset it is one of the reader's time zone,
            which is Django's current one.
        late: of a time that comes twice, because clocks go back, the second.
    """
    try:
        found = parse_datetime(text.strip())
        if found is None:
            return None
        if timezone.is_naive(found):
            found = found.replace(tzinfo=timezone.get_current_timezone(), fold=int(late))
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def typed(text: str) -> str:
    """Return a moment's text as a browser's field for a time takes it; empty if it is none.

    Args:
        text: as :func:`moment_of` takes it.
    """
    found = moment_of(text)
    if found is None:
        return ""
    try:
        local = timezone.localtime(found).replace(tzinfo=None)
    except OverflowError:  # on the first or the last day that there is
        return ""
    return local.isoformat(timespec="seconds" if local.second else "minutes")
