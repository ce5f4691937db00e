"""Operations: how far they have come, and their reins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http import HttpResponseRedirect as Redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import operations
from ..models import Operation
from ..oversight import Steps
from ..spans import span
from .confirming import who
from .forms import ActForm
from .reading import ReadOnlyAdmin, exact_time, short_time
from .targets import target_words

_STEER: Final = {
    "pause": operations.pause_operation,
    "resume": operations.resume_operation,
    "stop": operations.stop_operation,
}
_ASKED: Final = {
    "pause": (
        gettext_lazy("Pause the operation"),
        gettext_lazy("It touches nothing more until somebody resumes it."),
    ),
    "resume": (
        gettext_lazy("Resume the operation"),
        gettext_lazy("It goes on behind the last entry that it has touched."),
    ),
    "stop": (
        gettext_lazy("Stop for good"),
        gettext_lazy("What it has done stays done. It cannot be resumed."),
    ),
}
_GOING: Final = {Steps.RUNNING.value, Steps.PAUSED.value}
_TIMES: Final[tuple[Any, ...]] = (
    exact_time("started_at", gettext_lazy("started")),
    exact_time("moved_at", gettext_lazy("last moved")),
    exact_time("ended_at", gettext_lazy("ended")),
)


class OperationAdminMixin(ReadOnlyAdmin):
    """Operations, newest first."""

    list_display: Any = (
        "verb",
        "target",
        "state",
        "progress",
        "by",
        short_time("started_at", gettext_lazy("started")),
        short_time("ended_at", gettext_lazy("ended")),
    )
    list_filter = ("state",)
    list_select_related = ("act",)
    ordering = ("-id",)
    sortable_by = ()
    change_form_template = "admin/reliable_tasks/operation/change_form.html"
    fields = ("verb", "target", "state", "progress", "how", "by", "reason", *_TIMES)
    readonly_fields = ("target", "progress", "how", "by", "reason", *_TIMES)

    def get_urls(self) -> list[Any]:
        """Add where the reins are."""
        view = self.admin_site.admin_view(self.steer_view)
        name = "reliable_tasks_operation_steer"
        return [path("<uuid:pk>/steer/", view, name=name), *super().get_urls()]

    @admin.display(description=gettext_lazy("target"))
    def target(self, operation: Operation) -> str:
        """Show which entries, in words."""
        return target_words(operation.act)

    @admin.display(description=gettext_lazy("by"))
    def by(self, operation: Operation) -> str:
        """Show who began it."""
        return operation.act.by

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, operation: Operation) -> str:
        """Show why."""
        return operation.act.reason

    @admin.display(description=gettext_lazy("how"))
    def how(self, operation: Operation) -> str:
        """Show when what it touches becomes due, and how fast it goes."""
        words = []
        if over := operation.params.get("spread"):
            words.append(_("due spread over %s") % span(timedelta(seconds=float(over))))
        if due_at := parse_datetime(operation.params.get("due_at") or ""):
            words.append(_("due at %s") % date_format(timezone.localtime(due_at), "j M H:i:s"))
        if operation.rate is None:
            words.append(_("as fast as it goes"))
        else:
            words.append(_("at most %s entries a second") % f"{operation.rate:g}")
        return " · ".join(words)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, operation: Operation) -> SafeString:
        """Show how far it has come."""
        handled = operation.done + operation.skipped
        words = _("%(done)s done, %(skipped)s left alone, of %(total)s") % {
            "done": f"{operation.done:,}",
            "skipped": f"{operation.skipped:,}",
            "total": f"{operation.total:,}",
        }
        return format_html(
            '<progress max="{}" value="{}" aria-label="{}"></progress> '
            '<span class="reliable-tasks-line">{}</span>',
            max(operation.total, 1),
            handled if operation.total else 1,
            words,
            words,
        )

    def may_steer(self, request: HttpRequest) -> bool:
        """Tell whether a user may pause, resume, stop and slow down operations."""
        return request.user.has_perm("reliable_tasks.steer_operation")

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Add the reins and what carries the operation."""
        operation: Operation = obj
        going = operation.state in _GOING
        stalled = operations.stalled(operation)
        return {
            "operation": operation,
            "carrier": operations.carrier(operation),
            "stalled": stalled,
            "may_steer": going and self.may_steer(request),
            "can_pause": operation.state == Steps.RUNNING and not stalled,
            "can_resume": operation.state == Steps.PAUSED or stalled,
            "steer_url": reverse("admin:reliable_tasks_operation_steer", args=[operation.pk]),
        }

    def steer_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Ask why to pause, resume or stop an operation, and do it; or set its rate.

        A GET changes nothing.
        """
        if not self.may_steer(request):
            raise PermissionDenied
        operation: Any = self.get_queryset(request).filter(pk=pk).first()
        if operation is None:
            raise Http404
        posted = request.method == "POST"
        to = (request.POST if posted else request.GET).get("to", "")
        if posted and to == "rate":
            return self._set_rate(request, pk)
        if to not in _STEER:
            raise Http404(to)
        form = ActForm(request.POST if posted else None)
        if not posted or not form.is_valid():
            return self._ask(request, operation, to, form)
        # A pause that began after the page was made is not what the operator saw.
        seen = {"turn": _turn_of(request)} if to == "resume" else {}
        done = _STEER[to](pk, reason=form.cleaned_data["reason"], by=who(request), **seen)
        return self._tell(request, pk, done)

    def _ask(
        self, request: HttpRequest, operation: Operation, to: str, form: ActForm
    ) -> HttpResponse:
        label, about = _ASKED[to]
        context = {
            **self.admin_site.each_context(request),
            "title": label,
            "opts": self.model._meta,
            "media": self.media,
            "form": form,
            "lines": [self.progress(operation), about],
            "label": label,
            "target": f"{operation.get_verb_display()}: {target_words(operation.act)}",
            "fields": [("to", to), ("turn", request.POST.get("turn", operation.turn))],
            "danger": to == "stop",
            "back": reverse("admin:reliable_tasks_operation_change", args=[operation.pk]),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/reliable_tasks/confirm.html", context)

    def _set_rate(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        text, reason = (request.POST.get(name, "").strip() for name in ("rate", "reason"))
        try:
            done = operations.set_rate(pk, _rate(text), reason=reason, by=who(request))
        except ValueError as error:
            self.message_user(request, str(error), messages.ERROR)
            return Redirect(reverse("admin:reliable_tasks_operation_change", args=[pk]))
        return self._tell(request, pk, done)

    def _tell(self, request: HttpRequest, pk: UUID, done: bool) -> HttpResponse:
        words = _("Left alone: the operation has ended, or has changed meanwhile.")
        words = _("Done.") if done else words
        self.message_user(request, words, messages.SUCCESS if done else messages.WARNING)
        return Redirect(reverse("admin:reliable_tasks_operation_change", args=[pk]))


def _turn_of(request: HttpRequest) -> int | None:
    text = request.POST.get("turn", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _rate(text: str) -> float | None:
    """Return a rate as it was typed; None for no limit."""
    try:
        rate = float(text) if text else None
        operations.check_rate(rate)
    except ValueError:
        words = _("The rate must be a number above zero, at most %(most)s; to rest, pause.")
        raise ValueError(words % {"most": f"{operations.FASTEST:,.0f}"}) from None
    return rate


@admin.register(Operation)
class OperationAdmin(OperationAdminMixin):
    """Operations, newest first."""
