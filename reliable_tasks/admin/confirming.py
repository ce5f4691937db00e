"""The page between the wish to act and the act: what it will touch, why, and one button.

Note [Nothing without this page]: every act on entries goes through :meth:`ActsMixin.act_view`. A
GET shows what would be touched and changes nothing; a POST with the reason does it.

Note [As it was shown]: what is touched is what the page counted, as it stood then. Up to
:data:`AT_ONCE` entries are named in the form, each with its mark (``marks``); one whose mark is
another by then is left alone, and the answer names it and says why. More go by the time at which
the page was made (``as_of``), and the answer says how many have changed since, by the number that
the page has shown (``seen``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import operations, overview
from ..operations import Chosen, LeftAlone
from ..shown import shown_arguments
from .choosing import Unclear, address_of, chosen_by, fields_of, time_of
from .forms import ActForm, Aim, EditForm
from .marks import left_words, marks_as_text, marks_in
from .theme import ThemedAdmin
from .verbs import VERBS, Verb

#: What is done while the browser waits; more is done in the background.
AT_ONCE: Final = operations.BATCH


@dataclass(slots=True)
class Preview:
    """What an act would touch.

    Attributes:
        count: how many entries.
        groups: state, task and number of the largest groups.
        others: entries chosen by name on which the act is not possible.
        more: how many groups are not shown.
    """

    count: int
    groups: list[tuple[str, str, int]] = field(default_factory=list)
    others: int = 0
    more: int = 0


@dataclass(frozen=True, slots=True)
class _Wish:
    """What somebody wants to do.

    Attributes:
        verb: the act.
        chosen: to which entries.
        as_of: when they saw them; what has changed since is left alone.
        listed: how the list was narrowed down from which they came; None if they came from
            elsewhere.
        seen: how many they were told that it will touch; 0 before they were told.
        marks: how these stood then; empty before they were told, or if there are too many.
    """

    verb: Verb
    chosen: Chosen
    as_of: datetime
    listed: str | None
    seen: int
    marks: dict[UUID, operations.Mark]

    def rows(self) -> Any:
        """Return the entries that it would touch, in no order."""
        found = operations.matching(self.verb.act, self.chosen, self.as_of)
        return found.filter(pk__in=list(self.marks)) if self.marks else found

    @property
    def back(self) -> str:
        """The address of the page from which they came."""
        if self.listed is not None:
            return _list(self.listed)
        if len(self.chosen.ids) == 1:
            return reverse("admin:reliable_tasks_entry_change", args=self.chosen.ids)
        if self.chosen.fingerprint:
            return reverse("admin:reliable_tasks_deadletter_changelist")
        return _list(address_of(self.chosen))


def preview(rows: Any, chosen: Chosen) -> Preview:
    """Count what an act would touch.

    Args:
        rows: those entries.
        chosen: how they were chosen.
    """
    groups = list(
        rows.order_by()
        .values_list("state", "task")
        .annotate(count=Count("pk"))
        .order_by("-count", "task", "state")[:100]
    )
    count = sum(number for *_group, number in groups) if len(groups) < 100 else rows.count()
    others = len(chosen.ids) - count if chosen.ids else 0
    return Preview(count, groups[:8], max(others, 0), max(len(groups) - 8, 0))


class ActsMixin(ThemedAdmin):
    """The pages on which acts are confirmed, for the admin of entries."""

    act_template: str = "admin/reliable_tasks/act.html"

    def get_urls(self) -> list[Any]:
        """Add the pages of the acts."""
        view = self.admin_site.admin_view(self.act_view)
        return [
            path("act/<slug:name>/", view, name="reliable_tasks_entry_act"),
            *super().get_urls(),
        ]

    def may(self, request: HttpRequest, verb: Verb) -> bool:
        """Tell whether a user may do an act, which includes seeing what it is done to."""
        user = request.user
        return user.has_perm(f"reliable_tasks.{verb.permission}") and user.has_perm(
            "reliable_tasks.view_entry"
        )

    def verbs_for(self, request: HttpRequest) -> list[Verb]:
        """Return the acts that a user may do."""
        return [verb for verb in VERBS.values() if self.may(request, verb)]

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show what an act would touch, or do it."""
        verb = VERBS.get(name)
        if verb is None:
            raise Http404(name)
        if not self.may(request, verb):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        return self.confirm(request, verb, given, confirmed=request.POST.get("confirmed") == "yes")

    def confirm(
        self, request: HttpRequest, verb: Verb, given: QueryDict, *, confirmed: bool = False
    ) -> HttpResponse:
        """Show the page of an act for what was given, or do it if it is confirmed."""
        listed = given.get("list")
        try:
            chosen, marks = _chosen_for(verb, given), marks_in(given.get("marks", ""))
        except Unclear as unclear:
            self.message_user(request, str(unclear), messages.ERROR)
            return HttpResponseRedirect(_list(listed or ""))
        as_of = time_of(given.get("as_of", "")) or overview.now()
        wish = _Wish(verb, chosen, as_of, listed, _number(given.get("seen", "")), marks)
        form = self._form(wish, given if confirmed else None)
        if form is None:
            self._tell(request, [], operations.left_alone(map(UUID, chosen.ids), marks))
            return HttpResponseRedirect(wish.back)
        if confirmed and form.is_valid():
            done = self._do(request, wish, form)
            if done is not None:
                return done
        return self._page(request, wish, form)

    def _form(self, wish: _Wish, data: QueryDict | None) -> ActForm | None:
        """Return the form of an act; None if it is about one entry, which has changed."""
        if wish.verb.form is EditForm:
            # The entry of which the form was made, or none: another one's arguments are not its.
            entry = wish.rows().first()
            if entry is None or (wish.marks and operations.marks_of(wish.rows()) != wish.marks):
                return None
            if shown_arguments(entry) != (entry.args, entry.kwargs):
                raise PermissionDenied("It has sensitive arguments, which are not shown.")
            return EditForm(data, entry=entry)
        return wish.verb.form(data)

    def _page(self, request: HttpRequest, wish: _Wish, form: ActForm) -> HttpResponse:
        verb, chosen = wish.verb, wish.chosen
        seen = preview(wish.rows(), chosen)
        if seen.count <= AT_ONCE:
            form.fields.pop("rate", None)
        context = {
            **self.admin_site.each_context(request),
            "title": verb.label,
            "opts": self.model._meta,
            "media": self.media,
            "verb": verb,
            "label": verb.label,
            "danger": verb.danger,
            "chosen": chosen,
            "words": chosen.words(),
            "preview": seen,
            "background": seen.count > AT_ONCE,
            "at_once": AT_ONCE,
            "form": form,
            "fields": _hidden_fields(wish, seen),
            "action_url": reverse("admin:reliable_tasks_entry_act", args=[verb.name]),
            "back": wish.back,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.act_template, context)

    def _do(self, request: HttpRequest, wish: _Wish, form: ActForm) -> HttpResponse | None:
        """Do an act; None if its form turns out to be wrong after all."""
        ids = sorted(wish.marks)
        if not ids:
            ids = list(wish.rows().order_by("pk").values_list("pk", flat=True)[: AT_ONCE + 1])
        if len(ids) > AT_ONCE:
            return self._begin(request, wish, form)
        aim = Aim(ids, wish.as_of, wish.marks or None)
        done = form.act(wish.verb.act, aim, form.cleaned_data["reason"], by=who(request))
        if not done.touched and form.errors:
            return None
        others = set(map(UUID, wish.chosen.ids)).difference(ids)
        left = operations.left_alone([*done.skipped, *sorted(others)], wish.marks, done.held)
        # Of what a filter chose, only their number is known where nobody told which.
        unknown = 0 if wish.marks or wish.chosen.ids else wish.seen - len(ids)
        self._tell(request, done.words, left, unknown)
        return HttpResponseRedirect(wish.back)

    def _begin(self, request: HttpRequest, wish: _Wish, form: ActForm) -> HttpResponse:
        begun = operations.begin(
            wish.verb.act,
            wish.chosen,
            form.cleaned_data["reason"],
            by=who(request),
            params=form.params(),
            rate=form.cleaned_data.get("rate"),
            as_of=wish.as_of,
        )
        words = _("%d entries are dealt with in the background.") % begun.total
        self._tell(request, [words], [], (len(wish.chosen.ids) or wish.seen) - begun.total)
        url = reverse("admin:reliable_tasks_operation_change", args=[begun.operation])
        return HttpResponseRedirect(url)

    def _tell(
        self, request: HttpRequest, words: list[str], left: list[LeftAlone], unknown: int = 0
    ) -> None:
        for line in words:
            self.message_user(request, line, messages.SUCCESS)
        if left:
            self.message_user(request, left_words(left), messages.WARNING)
        if unknown > 0:
            line = ngettext(
                "%d entry was left alone: this is not possible in its state, or it has changed "
                "meanwhile.",
                "%d entries were left alone: this is not possible in their state, or they have "
                "changed meanwhile.",
                unknown,
            )
            self.message_user(request, line % unknown, messages.WARNING)
        if not words and not left and unknown <= 0:
            self.message_user(request, _("Nothing matches any more."), messages.WARNING)


def _hidden_fields(wish: _Wish, seen: Preview) -> list[tuple[str, str]]:
    """Return what the form of an act's page repeats; see Note [As it was shown]."""
    marks = wish.marks
    if not marks and seen.count <= AT_ONCE:
        marks = operations.marks_of(wish.rows())
    fields = fields_of(wish.chosen)
    if marks:
        fields = [(name, text) for name, text in fields if name != "id" or UUID(text) in marks]
    fields.append(("confirmed", "yes"))
    fields.append(("as_of", wish.as_of.isoformat()))
    fields.append(("marks", marks_as_text(marks)))
    # What a page shows again has been seen before: what it lost since is told of as well.
    fields.append(("seen", str(max(seen.count, wish.seen))))
    if wish.listed is not None:
        fields.append(("list", wish.listed))
    return fields


def _chosen_for(verb: Verb, given: QueryDict) -> Chosen:
    chosen = chosen_by(given)
    if verb.form is EditForm and len(chosen.ids) != 1:
        raise Unclear(_("Other arguments are given to one entry at a time."))
    return chosen


def who(request: HttpRequest) -> str:
    """Return who acts, for the record."""
    return f"{request.user.get_username()} in the admin"


def _list(query: str) -> str:
    """Return the address of the list of entries, narrowed down as it was."""
    return f"{reverse('admin:reliable_tasks_entry_changelist')}?{QueryDict(query).urlencode()}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
