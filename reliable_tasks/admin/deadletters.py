"""Dead letters, grouped by what they died of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from .. import overview
from ..models import Attempt, DeadLetter, Entry
from ..overview import DeadGroup
from ..states import State
from .reading import ReadOnlyAdmin
from .verbs import VERBS

_GROUPS: Final = 50
# A crash leaves no traceback; so many attempts are looked at for one.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """A group as the page shows it.

    Attributes:
        group: the group.
        error: the last part of the error's class.
        newest: the one that died last.
        message: its error's message.
        trace: its last traceback.
        address: of the list of its entries.
        acts: each act that the reader may do, with the address of its page.
    """

    group: DeadGroup
    error: str
    newest: UUID | None
    message: str
    trace: str
    address: str
    acts: list[tuple[Any, str]]


class DeadLetterAdminMixin(ReadOnlyAdmin):
    """Dead letters, the largest group first."""

    groups_template: str = "admin/reliable_tasks/deadletter/groups.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may see entries may see dead letters."""
        return request.user.has_perm("reliable_tasks.view_entry")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Who may see entries may see dead letters."""
        return self.has_view_permission(request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the groups."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        task = request.GET.get("task", "").strip()
        queue = request.GET.get("queue", "").strip()
        if "\x00" in f"{task}{queue}":
            raise SuspiciousOperation("No task and no queue has such a name.")
        wanted = Q(**{name: value for name, value in (("task", task), ("queue", queue)) if value})
        found, whole = overview.dead_groups(_GROUPS + 1, wanted)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Dead letters"),
            "opts": self.model._meta,
            "media": self.media,
            "groups": self._shown(request, found[:_GROUPS], queue),
            "total": sum(group.count for group in found[:_GROUPS]),
            "more": len(found) > _GROUPS,
            "counted": "" if whole else f"{overview.GROUPED:,}",
            "task": task,
            "queue": queue,
            "entries": f"{reverse('admin:reliable_tasks_entry_changelist')}?state=dead",
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.groups_template, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Lead to the entry's own page."""
        return HttpResponseRedirect(reverse("admin:reliable_tasks_entry_change", args=[object_id]))

    def _shown(self, request: HttpRequest, groups: list[DeadGroup], queue: str) -> list[Shown]:
        newest = _newest(groups)
        traces = _traces(list(newest.values()))
        shown = []
        for group in groups:
            entry = newest.get((group.fingerprint, group.task, group.error_class))
            chosen = {
                "state": State.DEAD.value,
                "task": group.task,
                "fingerprint": group.fingerprint,
                "error": group.error_class,
                "queue": queue,
            }
            query = urlencode({name: value for name, value in chosen.items() if value})
            shown.append(
                Shown(
                    group,
                    group.error_class.rpartition(".")[2] or _("no error"),
                    entry.pk if entry else None,
                    entry.error_message[:500] if entry else "",
                    traces.get(entry.pk, "") if entry else "",
                    f"{reverse('admin:reliable_tasks_entry_changelist')}?{query}",
                    self._acts(request, query) if group.fingerprint else [],
                )
            )
        return shown

    def _acts(self, request: HttpRequest, query: str) -> list[tuple[Any, str]]:
        return [
            (verb, f"{reverse('admin:reliable_tasks_entry_act', args=[verb.name])}?{query}")
            for verb in (VERBS["requeue"], VERBS["discard"])
            if request.user.has_perm(f"reliable_tasks.{verb.permission}")
        ]


@admin.register(DeadLetter)
class DeadLetterAdmin(DeadLetterAdminMixin):
    """Dead letters, the largest group first."""


def _newest(groups: list[DeadGroup]) -> dict[tuple[str, str, str], Entry]:
    """Return the entry of each group that died last, in one query."""
    # SQLite compares times as text, with as many digits as they were written with.
    near = timedelta(milliseconds=1)
    when = Q(pk__in=[])
    for group in groups:
        if group.latest is not None:
            when |= Q(finished_at__range=(group.latest - near, group.latest + near))
    rows = overview.entries().filter(
        when,
        state=State.DEAD,
        finished_at__isnull=False,
        fingerprint__in=[group.fingerprint for group in groups],
    )
    needed = rows.only(
        "task", "fingerprint", "error_class", "error_message", "finished_at", "attempt"
    )
    found: dict[tuple[str, str, str], Entry] = {}
    for row in needed.order_by("finished_at", "pk"):
        found[row.fingerprint, row.task, row.error_class] = row
    return found


def _traces(entries: list[Entry]) -> dict[UUID, str]:
    """Return the last traceback of each entry, from its last few attempts, in one query."""
    alias = overview.entries().db
    last = Q(pk__in=[])
    for entry in entries:
        last |= Q(entry_id=entry.pk, number__gt=entry.attempt - _ATTEMPTS)
    rows = Attempt.objects.using(alias).filter(last).order_by("number")
    return {pk: text for pk, text in rows.values_list("entry_id", "traceback") if text}
