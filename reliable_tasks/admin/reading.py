"""What every page here has in common: it is read only, cheap on large tables, and escaped."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext

from ..ledger import ledger_connection
from ..models import Entry
from .theme import ThemedAdmin

if TYPE_CHECKING:
    # Generic to the type checker only.
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

#: Rows that the pages of a list are made of at most.
COUNTED: Final = 5_000
_SHOWN: Final = 20_000
_LINE: Final = 80


class AtLeast(int):
    """A number of rows that may be larger, and says so wherever Django's templates show it.

    The sign stands in front, where a separator of thousands leaves it alone.
    """

    def __str__(self) -> str:
        return f"≥{int(self)}"


class CappedPaginator(_Paginator):
    """Counts up to 5,000 rows; what is older is reached by filters and the search.

    An exact count reads the whole table for each page.
    """

    @cached_property
    def count(self) -> int:
        """How many rows the pages are made of."""
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        found = rows[:COUNTED].count()
        return found if found < COUNTED else AtLeast(found)


class OrderedList(ChangeList):
    """A list in the order of its admin: another one would sort the whole table for each page."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the order, whatever the address asks for; ``sortable_by`` hides the links only."""
        self.params.pop(ORDER_VAR, None)
        found: list[Any] = super().get_ordering(request, queryset)
        return found


class ReadOnlyAdmin(ThemedAdmin):
    """Rows that only the ledger writes. What may be done to them is an act with its own page."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    change_form_template = "admin/reliable_tasks/change_form.html"

    class Media:
        css = {"all": ("reliable_tasks/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """Read from the database that is written to: a replica shows states that are over."""
        return super().get_queryset(request).using(ledger_connection().alias)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """List rows in one order, which an index serves."""
        return OrderedList

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes: ``manage.py reliable_tasks prune`` does."""
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Name the page after what it lists: nothing has to be selected on it."""
        title = capfirst(str(self.opts.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the page of one row shows besides its fields."""
        return {}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add what the page of one row shows besides its fields."""
        if obj is not None:
            context.update(self.page_context(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)


def about(entry: Entry) -> str:
    """Return which row of the project's an entry is about, as people say it; empty for none."""
    if not entry.subject_id:
        return ""
    return f"{(entry.subject_type or '').rpartition('.')[2]} {entry.subject_id}"


def block(text: str) -> SafeString | str:
    """Return text with its line breaks, escaped; a dash if there is none."""
    if not text:
        return "-"
    if len(text) > _SHOWN:
        more = gettext("%d characters more") % (len(text) - _SHOWN)
        text = f"{text[:_SHOWN]}\n… {more}"
    return format_html('<pre class="reliable-tasks-text">{}</pre>', text)


def json_block(value: Any) -> SafeString | str:
    """Return a JSON value, escaped, and indented if it is long; a dash for None."""
    return block(json_text(value))


def json_text(value: Any) -> str:
    """Return a JSON value as text, indented and cut if it is long; empty for None."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > _LINE:
        text = json.dumps(value, ensure_ascii=False, default=str, indent=2)
    if len(text) > _SHOWN:
        more = gettext("%d characters more") % (len(text) - _SHOWN)
        text = f"{text[:_SHOWN]}\n… {more}"
    return text


def exact_time(field: str, label: Any) -> Any:
    """Return a column or field that shows a time to the millisecond; Django stops at minutes."""

    @admin.display(description=label)
    def show(row: Model) -> str:
        value: datetime | None = getattr(row, field)
        if value is None:
            return "-"
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"

    return show


def short_time(field: str, label: Any) -> Any:
    """Return a column that shows a time to the second in little room."""

    @admin.display(description=label)
    def show(row: Model) -> SafeString | str:
        value: datetime | None = getattr(row, field)
        if value is None:
            return "-"
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return format_html(
            '<span class="reliable-tasks-line" title="{}">{}</span>',
            local.isoformat(sep=" "),
            date_format(local, "j M H:i:s"),
        )

    return show
