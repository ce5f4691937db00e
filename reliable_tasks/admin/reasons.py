"""Why an entry is not running, on its page."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import Entry
from ..why import Reason, why_waiting


def why_block(entry: Entry, request: HttpRequest) -> SafeString | str:
    """Return what keeps an entry from running, as a list; a dash if it does not wait.

    Args:
        entry: the entry.
        request: whose user follows the links.
    """
    reasons = why_waiting(entry)
    if not reasons:
        return "-"
    items = format_html_join("", "{}", ((_item(reason, request),) for reason in reasons))
    return format_html('<ul class="reliable-tasks-why">{}</ul>', items)


def _item(reason: Reason, request: HttpRequest) -> SafeString:
    kind = "blocks" if reason.blocks else "waits"
    remedy = ""
    if reason.remedy:
        remedy = format_html(
            '<p class="reliable-tasks-remedy">{}{}</p>', _link(reason, request), reason.remedy
        )
    return format_html(
        '<li class="reliable-tasks-{}" data-cause="{}">{}{}</li>',
        kind,
        reason.cause,
        reason.text,
        remedy,
    )


def _link(reason: Reason, request: HttpRequest) -> SafeString | str:
    """Return the way to the page on which a cause is ended, for those who may."""
    if reason.cause != "paused" or not request.user.has_perm("reliable_tasks.resume_work"):
        return ""
    try:
        url = reverse("admin:reliable_tasks_pause_end", args=[reason.details["pause"]])
    except NoReverseMatch:  # a project may have taken the page of pauses out of its admin
        return ""
    return format_html('<a href="{}">{}</a> · ', url, _("Resume…"))
