"""Every due time of every schedule, and what became of it."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import Occurrence
from ..occurrence import Trigger
from ..schedules.when import zone_of
from .reading import ReadOnlyAdmin, exact_time, short_time
from .schedule_pages import cause_word, entry_link, outcome, trigger_word

# The pages that delete what occurrences go with. That of schedules counts them.
_GO_WITH: Final = {
    f"django_celery_beat_{kind}schedule_{page}"
    for kind in ("clocked", "crontab", "interval", "solar")
    for page in ("changelist", "delete")
}
_TIMES: Final = (
    exact_time("due_at", _("due")),
    exact_time("last_due_at", _("the last of them due")),
    exact_time("handled_at", _("handled")),
)


@admin.register(Occurrence)
class OccurrenceAdmin(ReadOnlyAdmin):
    """Occurrences, newest first."""

    list_display = (
        short_time("due_at", _("due")),
        "own_zone",
        "of",
        "what",
        "entry",
        "why",
    )
    list_display_links = None
    list_filter = ("outcome", "trigger", "cause")
    search_fields = ("schedule__name__startswith",)
    search_help_text = _("How a schedule's name begins")
    list_select_related = ("schedule", "schedule__crontab")
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("of", "trigger", "what", "why", "entry")}),
        (_("Times"), {"fields": (*_TIMES, "own_zone")}),
    )
    readonly_fields = _TIMES

    class Media:
        css = {"all": ("reliable_tasks/admin.css", "reliable_tasks/schedules.css")}

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Order by what an index serves: one schedule's by due time, all others' by their row."""
        of_one = any(name.startswith("schedule") for name in request.GET)
        return ("-due_at",) if of_one else ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read what the columns show, in one query."""
        return super().get_queryset(request).select_related(*self.list_select_related)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes one by itself; it goes with the crontab, say, that its schedule has."""
        at = request.resolver_match
        return obj is not None and at is not None and at.url_name in _GO_WITH

    @admin.display(description=_("in its own zone"))
    def own_zone(self, row: Occurrence) -> SafeString:
        """Show the due time in the schedule's zone."""
        local = row.due_at.astimezone(zone_of(row.schedule))
        text = f"{date_format(local, 'j M H:i:s')} {local:%Z}"
        return format_html('<span class="reliable-tasks-line">{}</span>', text)

    @admin.display(description=_("schedule"))
    def of(self, row: Occurrence) -> SafeString:
        """Show the schedule, linked."""
        url = reverse("admin:django_celery_beat_periodictask_change", args=[row.schedule_id])
        return format_html('<a href="{}">{}</a>', url, row.schedule.name)

    @admin.display(description=_("outcome"))
    def what(self, row: Occurrence) -> str:
        """Show what became of it, and what made it where that was no due time."""
        made = "" if row.trigger == Trigger.TICK else f" ({trigger_word(row)})"
        return f"{outcome(row)}{made}"

    @admin.display(description=_("why"))
    def why(self, row: Occurrence) -> str:
        """Show why it did not fire, or who fired it."""
        return row.reason or cause_word(row)

    @admin.display(description=_("entry"))
    def entry(self, row: Occurrence) -> SafeString | str:
        """Show its entry, linked."""
        return entry_link(row)
