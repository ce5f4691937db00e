"""Why an entry is not running, on its page."""

from __future__ import annotations

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..models import Entry
from ..why import Reason, why_waiting


def why_block(entry: Entry) -> SafeString | str:
    """Return what keeps an entry from running, as a list; a dash if it does not wait."""
    reasons = why_waiting(entry)
    if not reasons:
        return "-"
    items = format_html_join("", "{}", ((_item(reason),) for reason in reasons))
    return format_html('<ul class="reliable-tasks-why">{}</ul>', items)


def _item(reason: Reason) -> SafeString:
    kind = "blocks" if reason.blocks else "waits"
    remedy = ""
    if reason.remedy:
        remedy = format_html('<p class="reliable-tasks-remedy">{}</p>', reason.remedy)
    return format_html(
        '<li class="reliable-tasks-{}" data-cause="{}">{}{}</li>',
        kind,
        reason.cause,
        reason.text,
        remedy,
    )
