"""Entries: the list, and the page of one."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ..dedup import Conflict
from ..models import Entry
from ..operations import POSSIBLE, Act, key_of
from ..shown import shown_arguments, shown_options
from ..states import State
from .arguments import arguments_of, entries_about, subject_link
from .choosing import understood
from .confirming import ActsMixin
from .filters import ALL
from .reading import ReadOnlyAdmin, about, json_text, short_time
from .reasons import why_block
from .results import result_of
from .searching import searched
from .timeline import life_of, relatives_of
from .verbs import ONE_BY_ONE, VERBS, Verb
from .window import WindowedList

_HEAVY: Final = ("args", "kwargs", "options", "error_message", "reason", "progress")
_CHILDREN: Final = 50
#: Columns that links on our own pages choose entries by, beside the filters.
_LINKED: Final = frozenset({"state", "subject_type", "subject_id"})


class EntryAdminMixin(ActsMixin, ReadOnlyAdmin):
    """Entries, newest first. Mix it with another base to show them in a site of your own."""

    list_display: Any = (
        "task",
        "about",
        "state_mark",
        "error",
        "attempt",
        "queue",
        short_time("enqueued_at", _("enqueued")),
        short_time("finished_at", _("ended")),
    )
    list_display_links = ("task",)
    list_filter = ALL
    search_fields = ("id",)
    search_help_text = _(
        "An entry's id, its key, how a task's name begins, what it is about (order:17, shop.Order "
        "17), or an argument's value (name=value)"
    )
    ordering = ("-id",)
    sortable_by = ()
    actions = ("requeue", "cancel", "discard", "release")
    change_form_template = "admin/reliable_tasks/entry/change_form.html"
    change_list_template = "admin/reliable_tasks/entry/change_list.html"

    # -- the list ---------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave what may be large out of the list."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        in_list = match is not None and (match.url_name or "").endswith("_changelist")
        return rows.defer(*_HEAVY) if in_list else rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[WindowedList]:
        """Bound what a filter or a search looks at."""
        return WindowedList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow the filters, and what our own links ask for: any other lookup could probe.

        Django lets an address ask for any column, and for any part of a JSON value.
        """
        if "\x00" in str(value):  # PostgreSQL has no such text
            return False
        filters = self.get_list_filter(request)
        for each in filters:
            if lookup in getattr(each, "parameter_names", ()):
                return True
            if lookup == getattr(each, "parameter_name", None):
                return True
        # A project may have filters of its own by a column.
        plain = [each[0] if isinstance(each, tuple | list) else each for each in filters]
        column, _sep, how = lookup.partition("__")
        return (column in _LINKED and how in {"", "exact", "in"}) or (
            column in plain and super().lookup_allowed(lookup, value, request)
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search in the ways that are cheap on a large table."""
        return searched(queryset, search_term), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Offer the acts on all that the filters choose."""
        query = request.GET.copy()
        for name in ("p", "all", "o", "e"):
            query.pop(name, None)
        offered = [verb for verb in self.verbs_for(request) if verb.name not in ONE_BY_ONE]
        acts = understood(query)
        query["list"] = request.GET.urlencode()
        chosen = query.urlencode()
        addresses = [(verb, f"{act_address(verb)}?{chosen}") for verb in offered]
        found = {"acts_on_all": addresses if acts else [], **(extra_context or {})}
        return super().changelist_view(request, found)

    @admin.display(description=_("entry"))
    def short_id(self, entry: Entry) -> SafeString:
        """Show the end of the id, which tells entries apart; its beginning is the time."""
        text = str(entry.pk)
        return format_html(
            '<span class="reliable-tasks-line" title="{}">{}</span>', text, text[-12:]
        )

    @admin.display(description=_("about"))
    def about(self, entry: Entry) -> SafeString | str:
        """Show which row of the project's it is about: people know that, and no id of ours."""
        text = Truncator(about(entry) or "-").chars(40)
        return format_html('<span class="reliable-tasks-line">{}</span>', text)

    @admin.display(description=_("state"))
    def state_mark(self, entry: Entry) -> SafeString:
        """Show the state, in its colour as well."""
        return state_mark(entry.state)

    @admin.display(description=_("error"))
    def error(self, entry: Entry) -> str:
        """Show the last failure's class, without its module."""
        return Truncator(entry.error_class.rpartition(".")[2]).chars(60)

    # -- one entry --------------------------------------------------------------------------------

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Show an entry's whole life instead of a form."""
        return self.entry_context(request, obj)

    def entry_context(self, request: HttpRequest, entry: Entry) -> dict[str, Any]:
        """Return what the page of an entry shows."""
        holder = key_of(entry)
        possible = self._possible(request, entry, holder)
        return {
            "entry": entry,
            "key_holder": holder,
            "state_mark": state_mark(entry.state),
            "failure": ": ".join(filter(None, (entry.error_class, entry.error_message[:4_000]))),
            "attempts": attempts_so_far(entry),
            "why": why_block(entry, request),
            "life": life_of(entry),
            "arguments": arguments_of(entry, shown_arguments(entry), request),
            "call_options": json_text(shown_options(entry)),
            "subject_link": subject_link(entry, request),
            "subject_entries": entries_about(entry),
            "relatives": relatives_of(entry, _CHILDREN),
            "result": result_of(entry, wanted="result" in request.GET),
            "acts": [(verb, self._address(verb, entry)) for verb in possible],
        }

    def _possible(self, request: HttpRequest, entry: Entry, holder: Conflict | None) -> list[Verb]:
        holds = holder is not None and holder.entry == entry.pk
        return [
            verb
            for verb in self.verbs_for(request)
            if State(entry.state) in POSSIBLE[verb.act]
            and (holds or verb.act is not Act.RELEASE_KEY)
        ]

    def _address(self, verb: Verb, entry: Entry) -> str:
        return f"{act_address(verb)}?id={entry.pk}"

    # -- actions: each leads to the page of its act -----------------------------------------------

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action requeue requires."""
        return self.may(request, VERBS["requeue"])

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action cancel requires."""
        return self.may(request, VERBS["cancel"])

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action discard requires."""
        return self.may(request, VERBS["discard"])

    # Each action has a permission of its own: without one, whoever may look could act.
    @admin.action(permissions=["requeue"], description=_("Requeue the selected…"))
    def requeue(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Lead to the page on which a requeue is confirmed."""
        return self._selected(request, VERBS["requeue"])

    @admin.action(permissions=["cancel"], description=_("Cancel the selected…"))
    def cancel(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Lead to the page on which a cancel is confirmed."""
        return self._selected(request, VERBS["cancel"])

    @admin.action(permissions=["discard"], description=_("Discard the selected…"))
    def discard(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Lead to the page on which a discard is confirmed."""
        return self._selected(request, VERBS["discard"])

    def has_release_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission that the action that releases keys requires."""
        return self.may(request, VERBS["release"])

    @admin.action(permissions=["release"], description=_("Release the keys of the selected…"))
    def release(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Lead to the page on which the release of keys is confirmed."""
        return self._selected(request, VERBS["release"])

    def _selected(self, request: HttpRequest, verb: Verb) -> HttpResponse | None:
        given = request.GET.copy()
        if request.POST.get("select_across") != "1":
            given.clear()
            names = request.POST.getlist("_selected_action")
            try:
                given.setlist("id", [str(UUID(name)) for name in names])
            except ValueError:
                self.message_user(request, _("These are no ids of entries."), messages.ERROR)
                return None
        given["list"] = request.GET.urlencode()
        return self.confirm(request, verb, given)


@admin.register(Entry)
class EntryAdmin(EntryAdminMixin):
    """Entries, newest first."""


def act_address(verb: Verb) -> str:
    """Return the address of an act's page."""
    return reverse("admin:reliable_tasks_entry_act", args=[verb.name])


def state_mark(state: str) -> SafeString:
    """Return a state as a mark that has its colour."""
    return format_html(
        '<span class="reliable-tasks-state reliable-tasks-{}">{}</span>', state, _(state)
    )


def attempts_so_far(entry: Entry) -> str:
    """Return what was tried, beside what may be, in words."""
    limit = _("no limit") if entry.max_retries is None else entry.max_retries
    words = _(
        "%(begun)s begun · %(retries)s retries of %(limit)s · %(crashes)s crashes of %(budget)s"
    )
    return words % {
        "begun": entry.attempt,
        "retries": entry.retries,
        "limit": limit,
        "crashes": entry.crashes - (entry.state == State.RUNNING),  # counted in advance
        "budget": entry.crash_budget,
    }
