"""Why an entry is not running, on its page, with links to where that is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from ..models import Entry
from ..why import Reason, why_waiting

#: For each cause: the permission to follow its link, the page's name, its arguments, its words.
_LINKS: Final[Mapping[str, tuple[str, str, Callable[[Reason], list[Any]], str | Promise]]] = {
    "paused": (
        "resume_work",
        "pause_end",
        lambda reason: [reason.details["pause"]],
        gettext_lazy("Resume…"),
    ),
    "key_held": (
        "view_entry",
        "entry_change",
        lambda reason: [reason.details["holder"]],
        gettext_lazy("Look at that entry"),
    ),
    **dict.fromkeys(
        ("no_worker", "unknown_task", "in_vain", "busy"),
        (
            "view_workerprocess",
            "workerprocess_changelist",
            lambda reason: [],
            gettext_lazy("Look at the workers"),
        ),
    ),
    "backlog": (
        "view_entry",
        "entry_changelist",
        lambda reason: [],
        gettext_lazy("Look at what waits on its queue"),
    ),
}


def why_block(entry: Entry, request: HttpRequest) -> SafeString | str:
    """Return what keeps an entry from running, as a list; a dash if it does not wait.

    Args:
        entry: the entry.
        request: whose user follows the links.
    """
    reasons = why_waiting(entry)
    if not reasons:
        return "-"
    items = format_html_join("", "{}", ((_item(reason, entry, request),) for reason in reasons))
    return format_html('<ul class="reliable-tasks-why">{}</ul>', items)


def _item(reason: Reason, entry: Entry, request: HttpRequest) -> SafeString:
    kind = "blocks" if reason.blocks else "waits"
    link = _link(reason, entry, request)
    remedy: SafeString | str = ""
    if reason.remedy or link:
        remedy = format_html(
            '<p class="reliable-tasks-remedy">{} {}</p>', reason.remedy or "", link
        )
    return format_html(
        '<li class="reliable-tasks-{}" data-cause="{}">{}{}</li>',
        kind,
        reason.cause,
        reason.text,
        remedy,
    )


def _link(reason: Reason, entry: Entry, request: HttpRequest) -> SafeString | str:
    if reason.cause not in _LINKS:
        return ""
    permission, page, arguments, words = _LINKS[reason.cause]
    if not request.user.has_perm(f"reliable_tasks.{permission}"):
        return ""
    try:
        address = reverse(f"admin:reliable_tasks_{page}", args=arguments(reason))
    except NoReverseMatch:  # a project may have taken the page out of its admin
        return ""
    if reason.cause == "backlog":
        waiting = [("queue", entry.queue), ("state", "pending"), ("state", "retrying")]
        address = f"{address}?{urlencode(waiting)}"
    return format_html('<a href="{}">{}</a>', address, words)
