"""Queues and tasks that are paused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import operations, overview
from ..ledger.guard import moment_expression
from ..models import Pause
from ..oversight import Kind
from .choosing import time_of
from .confirming import who
from .forms import ActForm, PauseForm, ResumeForm
from .reading import ReadOnlyAdmin, short_time


class PauseAdminMixin(ReadOnlyAdmin):
    """Pauses that last."""

    list_display: Any = (
        "kind",
        "name",
        "reason",
        "by",
        short_time("paused_at", gettext_lazy("paused")),
        short_time("ends_at", gettext_lazy("until")),
        "resume_link",
    )
    list_display_links = None
    sortable_by = ()
    ordering = ("kind", "name")
    change_list_template = "admin/reliable_tasks/pause/change_list.html"
    pause_template: str = "admin/reliable_tasks/confirm.html"

    def get_urls(self) -> list[Any]:
        """Add the pages on which one pauses and resumes."""
        wrap = self.admin_site.admin_view
        return [
            path("pause/", wrap(self.pause_view), name="reliable_tasks_pause_begin"),
            path("<int:pk>/resume/", wrap(self.resume_view), name="reliable_tasks_pause_end"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave out those that have ended and wait to be forgotten."""
        lasting = Q(ends_at__isnull=True) | Q(ends_at__gt=moment_expression())
        return super().get_queryset(request).filter(lasting)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Offer a new pause."""
        may = request.user.has_perm("reliable_tasks.pause_work")
        return super().changelist_view(request, {"may_pause": may, **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> Any:
        """Offer to resume only to those who may."""
        shown = super().get_list_display(request)
        may = request.user.has_perm("reliable_tasks.resume_work")
        return shown if may else tuple(name for name in shown if name != "resume_link")

    @admin.display(description="")
    def resume_link(self, pause: Pause) -> SafeString:
        """Lead to the page on which it is resumed."""
        url = reverse("admin:reliable_tasks_pause_end", args=[pause.pk])
        return format_html('<a href="{}">{}</a>', url, _("Resume…"))

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what to pause and why, count what that would hold up, and pause it."""
        if not request.user.has_perm("reliable_tasks.pause_work"):
            raise PermissionDenied
        posted = request.POST.copy() if request.method == "POST" else None
        initial = {name: request.GET[name] for name in ("kind", "name") if name in request.GET}
        wanted = _wanted(initial if posted is None else posted.dict())
        label = "" if wanted is None else " ".join(wanted)
        # Nothing is done before its page has counted what it would be done to.
        counted = posted is not None and posted.get("counted") == label
        if posted is not None:
            posted["counted"] = label
        form = PauseForm(posted, initial={"kind": Kind.QUEUE.value, **initial, "counted": label})
        if counted and form.is_valid():
            data = form.cleaned_data
            minutes = data["minutes"]
            ends_at = None if minutes is None else overview.now() + timedelta(minutes=minutes)
            done = operations.pause(
                data["kind"], data["name"], data["reason"], by=who(request), ends_at=ends_at
            )
            self._tell(request, done, _("Paused %s."), _("%s is paused already."), data["name"])
            return self._to_list()
        about = _(
            "No worker begins an entry of it while it is paused. What runs goes on, what is "
            "enqueued waits, and nothing is lost."
        )
        title = _("Pause a queue or a task")
        lines = [] if wanted is None else _pause_lines(*wanted)
        return self._page(request, form, title, [*lines, about], _("Pause"))

    def resume_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask why, and resume."""
        if not request.user.has_perm("reliable_tasks.resume_work"):
            raise PermissionDenied
        pause = self.get_queryset(request).filter(pk=pk).first()
        if pause is None:
            if request.method != "POST":
                raise Http404
            self.message_user(request, _("It is not paused any more."), messages.WARNING)
            return self._to_list()
        form = ResumeForm(request.POST or None, initial={"since": pause.paused_at.isoformat()})
        if request.method == "POST" and form.is_valid():
            reason = form.cleaned_data["reason"]
            # The pause that was shown: another one may be in its row by now.
            since = time_of(form.cleaned_data["since"]) or pause.paused_at
            done = operations.resume(pause.kind, pause.name, reason, by=who(request), since=since)
            changed = _("%s was left alone: this is another pause than the one that was shown.")
            self._tell(request, done, _("Resumed %s."), changed, pause.name)
            return self._to_list()
        title = _("Resume %(kind)s %(name)s") % {
            "kind": pause.get_kind_display(),
            "name": pause.name,
        }
        lines = [*_resume_lines(pause), _("What is due is published within seconds.")]
        return self._page(request, form, title, lines, _("Resume"))

    def _page(
        self, request: HttpRequest, form: ActForm, title: str, about: list[str], label: str
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.model._meta,
            "media": self.media,
            "form": form,
            "lines": about,
            "label": label,
            "back": reverse("admin:reliable_tasks_pause_changelist"),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.pause_template, context)

    def _tell(self, request: HttpRequest, done: bool, yes: str, no: str, name: str) -> None:
        words, level = (yes, messages.SUCCESS) if done else (no, messages.WARNING)
        self.message_user(request, words % name, level)

    def _to_list(self) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:reliable_tasks_pause_changelist"))


def _wanted(given: dict[str, Any]) -> tuple[str, str] | None:
    """Return the kind and the name that a page is about; None if nobody has named any yet."""
    kind, name = given.get("kind", Kind.QUEUE.value), given.get("name", "").strip()
    # A database may have no text with a NUL; the form says so.
    return (kind, name) if name and "\x00" not in name and kind in set(Kind) else None


def _pause_lines(kind: str, name: str) -> list[str]:
    """Return what a pause would hold up, in words."""
    found = operations.concerned(kind, name)
    waits = ngettext(
        "%(kind)s %(name)s: %(count)s entry waits there now, and will not begin (due: %(due)s).",
        "%(kind)s %(name)s: %(count)s entries wait there now, and will not begin (due: %(due)s).",
        found.waiting,
    )
    runs = ngettext(
        "%(count)s entry runs there, and goes on.",
        "%(count)s entries run there, and go on.",
        found.running,
    )
    return [
        waits % {**_counts(found), "kind": _(kind), "name": name},
        runs % {"count": _number(found.running, found.exact)},
    ]


def _resume_lines(pause: Pause) -> list[str]:
    """Return what the end of a pause would let go, in words."""
    found = operations.concerned(pause.kind, pause.name)
    waits = ngettext(
        "%(count)s entry waits there now, of which %(due)s would begin.",
        "%(count)s entries wait there now, of which %(due)s would begin.",
        found.waiting,
    )
    why = _("Paused by %(who)s: %(why)s") % {
        "who": pause.by or _("somebody"),
        "why": pause.reason or _("no reason given"),
    }
    return [why, waits % _counts(found)]


def _counts(found: operations.Concerned) -> dict[str, str]:
    return {
        "count": _number(found.waiting, found.exact),
        "due": _number(found.due, found.exact),
    }


def _number(count: int, exact: bool) -> str:
    return f"{count:,}" if exact else f"≥{count:,}"


@admin.register(Pause)
class PauseAdmin(PauseAdminMixin):
    """Pauses that last."""
