"""The entries of an object, in the admin of its own model."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import overview
from ..models import Entry
from ..states import State
from ..subject import Subject, subjects_of

if TYPE_CHECKING:
    # Generic to the type checker only.
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object

#: Most entries that an object's page shows.
SHOWN: Final = 20
_COUNTS: Final = "_reliable_entries"
_COLUMNS: Final = ("id", "task", "state", "queue", "error_class", "enqueued_at", "finished_at")


class SubjectAdminMixin(_Base):
    """Shows the entries that are about an object, for any ``ModelAdmin``; put it first.

    The object's page gets its newest entries. A list gets the column ``entries_by_state`` if
    ``list_display`` names it. Both are for those who may view entries, and cost one query each.
    """

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add the entries."""
        return (*super().get_readonly_fields(request, obj), "entries_of_object")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add a section with the entries to the page of an object that exists."""
        found = []
        for title, options in super().get_fieldsets(request, obj):
            fields = [name for name in options["fields"] if name != "entries_of_object"]
            found.append((title, {**options, "fields": fields}))
        if obj is not None and _may_view(request):
            found.append((_("Tasks"), {"fields": ("entries_of_object",)}))
        return found

    def get_list_display(self, request: HttpRequest) -> Any:
        """Leave the column out for those who may not view entries."""
        names = super().get_list_display(request)
        if _may_view(request):
            return names
        return [name for name in names if name != "entries_by_state"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Count the entries of all rows of the page at once."""
        page = super().get_changelist_instance(request)
        if "entries_by_state" in page.list_display:
            _count(page.result_list)
        return page

    @admin.display(description=_("tasks"))
    def entries_by_state(self, obj: Model) -> SafeString | str:
        """Show how many entries there are of the object, in which states."""
        if not hasattr(obj, _COUNTS):
            _count([obj])
        counts: dict[str, int] = getattr(obj, _COUNTS)
        if not counts:
            return "-"
        text = " · ".join(f"{counts[state]} {gettext(state)}" for state in State if state in counts)
        return _linked(text, _list_of(obj))

    @admin.display(description=_("newest"))
    def entries_of_object(self, obj: Model) -> SafeString | str:
        """Show the newest entries that are about the object."""
        rows = overview.entries().for_object(obj).only(*_COLUMNS)[: SHOWN + 1]
        entries = list(rows)
        if not entries:
            return "-"
        lines = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            [_cells(entry) for entry in entries[:SHOWN]],
        )
        table = format_html(
            "<table><thead><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr></thead>"
            "<tbody>{}</tbody></table>",
            *(_("task"), _("state"), _("enqueued"), _("ended"), _("error"), lines),
        )
        address = _list_of(obj)
        if not address:
            return table
        more = len(entries) > SHOWN
        words = _("All of them") if more else _("In the list of entries")
        return format_html("{}<p>{}</p>", table, _linked(str(words), address))


def _may_view(request: HttpRequest) -> bool:
    return request.user.has_perm("reliable_tasks.view_entry")


def _count(objects: Any) -> None:
    """Count the entries of several objects by state, with one query, and keep it at them."""
    rows = list(objects)
    names: dict[Subject, list[Model]] = {}
    for each in rows:
        setattr(each, _COUNTS, {})
        for name in subjects_of(each):
            names.setdefault(name, []).append(each)
    if not rows:
        return
    found = overview.entries().for_objects(rows).order_by()
    grouped = found.values_list("subject_type", "subject_id", "state").annotate(n=Count("pk"))
    for label, key, state, number in grouped:
        for each in names.get(Subject(label or "", key or ""), ()):
            counts = getattr(each, _COUNTS)
            counts[state] = counts.get(state, 0) + number


def _cells(entry: Entry) -> tuple[Any, ...]:
    page = _url("change", entry.pk)
    return (
        _linked(entry.task, page),
        gettext(entry.state),
        _time(entry.enqueued_at),
        _time(entry.finished_at),
        entry.error_class.rpartition(".")[2],
    )


def _time(value: datetime | None) -> str:
    if value is None:
        return ""
    return date_format(localtime(value) if is_aware(value) else value, "j M H:i:s")


def _list_of(obj: Model) -> str:
    names = subjects_of(obj)
    query = {
        "subject_type__in": ",".join(name.type for name in names),
        "subject_id__in": ",".join(dict.fromkeys(name.id for name in names)),
    }
    if len(names) == 1:
        query = {"subject_type": names[0].type, "subject_id": names[0].id}
    return f"{_url('changelist')}?{urlencode(query)}" if _url("changelist") else ""


def _url(page: str, *args: Any) -> str:
    try:
        return reverse(f"admin:reliable_tasks_entry_{page}", args=args)
    except NoReverseMatch:  # a project may have taken the entries out of its admin
        return ""


def _linked(text: str, url: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text) if url else format_html("{}", text)
