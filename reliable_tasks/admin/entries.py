"""Entries and their attempts."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import operations, overview
from ..models import Entry
from ..shown import shown_arguments, shown_options
from ..states import State
from .attempts import AttemptInline, error_of
from .filters import QueueFilter
from .reading import ReadOnlyAdmin, exact_time, json_block, short_time
from .reasons import why_block

#: Most entries that one action touches: it must end before the web server's patience does.
ACTION_LIMIT: Final = 1_000
_HEAVY: Final = ("args", "kwargs", "options", "error_message", "reason", "progress")

_TIMES: Final = (
    exact_time("enqueued_at", _("enqueued")),
    exact_time("due_at", _("due")),
    exact_time("expires_at", _("expires")),
    exact_time("started_at", _("last attempt began")),
    exact_time("cancel_requested_at", _("asked to stop")),
    exact_time("finished_at", _("ended")),
    exact_time("wake_at", _("sweeper looks next")),
)


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    """Entries, newest first."""

    list_display = (
        "short_id",
        "task",
        "state",
        "queue",
        "attempt",
        "error",
        short_time("enqueued_at", _("enqueued")),
        short_time("finished_at", _("ended")),
    )
    list_display_links = ("short_id", "task")
    list_filter = ("state", QueueFilter)
    search_fields = ("id",)
    search_help_text = _("An entry's id, or how a task's name begins")
    ordering = ("-id",)
    sortable_by = ()
    inlines = (AttemptInline,)
    actions = ("requeue", "cancel", "release_keys")
    fieldsets = (
        (None, {"fields": ("id", "task", "state", "waits", "reason", "failure")}),
        (_("Call"), {"fields": ("arguments", "keyword_arguments", "call_options")}),
        (
            _("Running"),
            {
                "fields": (
                    "queue",
                    "priority",
                    "worker",
                    "how_far",
                    "attempts_so_far",
                    "publishes",
                    "fingerprint",
                )
            },
        ),
        (_("Times"), {"fields": _TIMES}),
        (
            _("Connections"),
            {
                "classes": ("collapse",),
                "fields": (
                    "key",
                    "held_key",
                    "subject_type",
                    "subject_id",
                    "root_id",
                    "parent_id",
                    "group_id",
                    "schedule",
                ),
            },
        ),
    )
    readonly_fields = _TIMES

    class Media:
        css = {"all": ("reliable_tasks/admin.css",)}

    # -- the list ---------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave what may be large out of the list."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        in_list = match is not None and (match.url_name or "").endswith("_changelist")
        return rows.defer(*_HEAVY) if in_list else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by exact id or by the beginning of the task's name: no other way is cheap."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(task__startswith=term), False

    @admin.display(description=_("entry"))
    def short_id(self, entry: Entry) -> SafeString:
        """Show the end of the id, which tells entries apart; its beginning is the time."""
        text = str(entry.pk)
        return format_html(
            '<span class="reliable-tasks-line" title="{}">{}</span>', text, text[-12:]
        )

    @admin.display(description=_("error"))
    def error(self, entry: Entry) -> str:
        """Show the last failure's class, without its module."""
        return Truncator(entry.error_class.rpartition(".")[2]).chars(60)

    # -- one entry --------------------------------------------------------------------------------

    @admin.display(description=_("why it waits"))
    def waits(self, entry: Entry) -> SafeString | str:
        """Show what keeps an entry from running."""
        return why_block(entry)

    @admin.display(description=_("last error"))
    def failure(self, entry: Entry) -> SafeString | str:
        """Show the last failure's class and message."""
        return error_of(entry)

    @admin.display(description=_("arguments"))
    def arguments(self, entry: Entry) -> SafeString | str:
        """Show the positional arguments."""
        return json_block(shown_arguments(entry)[0])

    @admin.display(description=_("keyword arguments"))
    def keyword_arguments(self, entry: Entry) -> SafeString | str:
        """Show the keyword arguments."""
        return json_block(shown_arguments(entry)[1])

    @admin.display(description=_("options"))
    def call_options(self, entry: Entry) -> SafeString | str:
        """Show the options of the call."""
        return json_block(shown_options(entry))

    @admin.display(description=_("progress"))
    def how_far(self, entry: Entry) -> SafeString | str:
        """Show what the body reported last."""
        return json_block(entry.progress)

    @admin.display(description=_("attempts"))
    def attempts_so_far(self, entry: Entry) -> str:
        """Show what was tried, beside what may be."""
        limit = _("no limit") if entry.max_retries is None else entry.max_retries
        return _(
            "%(begun)s begun · %(retries)s retries of %(limit)s · %(crashes)s crashes of %(budget)s"
        ) % {
            "begun": entry.attempt,
            "retries": entry.retries,
            "limit": limit,
            "crashes": entry.crashes - (entry.state == State.RUNNING),  # counted in advance
            "budget": entry.crash_budget,
        }

    @admin.display(description=_("who holds the key"))
    def held_key(self, entry: Entry) -> str:
        """Show who holds the entry's dedup key now."""
        held, mine = operations.key_of(entry)
        if held is None:
            return "" if entry.key is None else str(_("nobody: an equal call would be enqueued"))
        return str(_("this entry") if mine else held)

    # -- actions ----------------------------------------------------------------------------------

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action requeue requires."""
        return request.user.has_perm("reliable_tasks.requeue_entry")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action cancel requires."""
        return request.user.has_perm("reliable_tasks.cancel_entry")

    def has_release_key_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action that releases keys requires."""
        return request.user.has_perm("reliable_tasks.release_key")

    # Each action has a permission of its own: without one, whoever may look could act.
    @admin.action(
        permissions=["requeue"], description=_("Requeue the selected dead or cancelled entries")
    )
    def requeue(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Put the selected entries back."""
        done = operations.requeue(self._selected(request, queryset), by=_who(request))
        self._log(request, done.requeued, "Requeued.")
        self._tell(
            request,
            len(done.requeued),
            ngettext("Requeued %d entry.", "Requeued %d entries.", len(done.requeued)),
        )
        self._tell_skipped(request, len(done.skipped), _("neither dead nor cancelled"))

    @admin.action(
        permissions=["cancel"], description=_("Cancel the selected waiting or running entries")
    )
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel the selected entries, or ask them to stop."""
        done = operations.cancel(self._selected(request, queryset), by=_who(request))
        self._log(request, done.cancelled, "Cancelled.")
        self._log(request, done.asked, "Asked to stop.")
        cancelled, asked = len(done.cancelled), len(done.asked)
        self._tell(
            request, cancelled, ngettext("Cancelled %d entry.", "Cancelled %d entries.", cancelled)
        )
        self._tell(
            request,
            asked,
            ngettext(
                "Asked %d running attempt to stop.", "Asked %d running attempts to stop.", asked
            ),
        )
        self._tell_skipped(request, len(done.skipped), _("ended, or asked before"))

    @admin.action(
        permissions=["release_key"], description=_("Release the keys of the selected entries")
    )
    def release_keys(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Release the dedup keys that the selected entries hold; the entries go on."""
        done = operations.release_keys_of(self._selected(request, queryset), by=_who(request))
        self._log(request, done, "Key released.")
        self._tell(request, len(done), ngettext("Released %d key.", "Released %d keys.", len(done)))

    def _selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[UUID]:
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: ACTION_LIMIT + 1])
        if len(ids) > ACTION_LIMIT:
            self.message_user(
                request,
                _(
                    "Only the oldest %d of them were looked at. `manage.py reliable_tasks` does "
                    "any number."
                )
                % ACTION_LIMIT,
                messages.WARNING,
            )
        return ids[:ACTION_LIMIT]

    def _log(self, request: HttpRequest, entry_ids: list[UUID], words: str) -> None:
        user = request.user.pk
        if entry_ids and user is not None:
            rows: QuerySet[Model] = overview.entries().filter(pk__in=entry_ids).only("task")
            LogEntry.objects.log_actions(user, rows, CHANGE, words)

    def _tell(self, request: HttpRequest, count: int, words: str) -> None:
        if count:
            self.message_user(request, words % count, messages.SUCCESS)

    def _tell_skipped(self, request: HttpRequest, count: int, why: Any) -> None:
        if count:
            words = ngettext(
                "%(count)d entry was left alone: %(why)s.",
                "%(count)d entries were left alone: %(why)s.",
                count,
            )
            self.message_user(request, words % {"count": count, "why": why}, messages.WARNING)


def _who(request: HttpRequest) -> str:
    return f"{request.user.get_username()} in the admin"
