"""The record of what people did. Nobody edits it, not even here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import OperatorAct, TouchedEntry
from ..overview import entries
from .changes import change_in_words, changes_of
from .reading import ReadOnlyAdmin, about, exact_time, json_block, short_time
from .targets import target_words
from .timeline import result_words

_AT: Any = exact_time("at", _("at"))
_SHOWN: int = 100


class OperatorActAdminMixin(ReadOnlyAdmin):
    """What people did, newest first."""

    list_display: Any = (short_time("at", _("at")), "act", "by", "what", "reason", "touched")
    list_display_links = ("act",)
    list_filter = ("act",)
    search_fields = ("by__startswith",)
    search_help_text = _("How the name of who acted begins")
    ordering = ("-id",)
    sortable_by = ()
    fields = (
        *("act", "by", _AT, "what", "why", "touched"),
        *("changed", "parameters", "entries_touched"),
    )
    readonly_fields = (_AT, *fields[3:])

    @admin.display(description=_("target"))
    def what(self, act: OperatorAct) -> str:
        """Show what it was done to."""
        return target_words(act)

    @admin.display(description=_("reason"))
    def why(self, act: OperatorAct) -> SafeString | str:
        """Show the reason with its line breaks."""
        if not act.reason:
            return "-"
        return format_html('<div class="reliable-tasks-prose">{}</div>', act.reason)

    @admin.display(description=_("parameters"))
    def parameters(self, act: OperatorAct) -> SafeString | str:
        """Show how it was done."""
        kept = dict(act.details or {})
        if changes_of(act):  # which are shown apart, to those who may see arguments
            del kept["arguments"]
        return json_block(kept or None)

    @admin.display(description=_("changed arguments"))
    def changed(self, act: OperatorAct) -> SafeString | str:
        """Show which arguments it changed, from what to what."""
        lines = ((change_in_words(each),) for each in changes_of(act)[:_SHOWN])
        shown = '<div class="reliable-tasks-prose">{}</div>'
        return format_html_join("", shown, lines) or "-"

    @admin.display(description=_("touched"))
    def touched(self, act: OperatorAct) -> SafeString | str:
        """Show how many it touched, and how many it left alone."""
        if act.done is None:
            try:
                operation = act.operation
            except OperatorAct.operation.RelatedObjectDoesNotExist:
                return "-"
            url = reverse("admin:reliable_tasks_operation_change", args=[operation.pk])
            return format_html('<a href="{}">{}</a>', url, _("operation"))
        return f"{act.done:,}" if not act.skipped else f"{act.done:,} (+{act.skipped:,})"

    @admin.display(description=_("first of the entries"))
    def entries_touched(self, act: OperatorAct) -> SafeString | str:
        """Show the first entries that it touched."""
        rows = TouchedEntry.objects.using(entries().db).filter(act_id=act.pk)
        results = dict(rows.order_by("pk").values_list("entry_id", "result")[:_SHOWN])
        found = entries().in_bulk(list(results)) if results else {}
        lines = (
            (
                reverse("admin:reliable_tasks_entry_change", args=[pk]),
                pk,
                found[pk].task,
                about(found[pk]) or str(pk)[-12:],
                result_words(result),
            )
            for pk, result in results.items()
            if pk in found
        )
        shown = '<div><a href="{}" title="{}">{}</a> · {} · {}</div>'
        return format_html_join("", shown, lines) or "-"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show entries only to those who may see them."""
        shown = super().get_fields(request, obj)
        left_out = set() if obj is None or changes_of(obj) else {"changed"}
        if not request.user.has_perm("reliable_tasks.view_entry"):
            left_out = {"changed", "entries_touched"}
        return [name for name in shown if name not in left_out]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Read the operation of each act with it."""
        return super().get_queryset(request).select_related("operation")


@admin.register(OperatorAct)
class OperatorActAdmin(OperatorActAdminMixin):
    """What people did, newest first."""
