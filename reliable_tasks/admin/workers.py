"""Workers, as they last reported themselves."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import overview
from ..conf import current
from ..ledger.guard import moment_expression
from ..models import Entry, WorkerProcess
from ..overview import ALIVE, DRAINING, SILENT
from ..why.case import span
from .reading import OrderedList, ReadOnlyAdmin, exact_time, short_time

_STARTED: Final = exact_time("started_at", _("started"))
_BEAT: Final = exact_time("beat_at", _("last beat"))
_STANDING: Final = {ALIVE: _("alive"), DRAINING: _("draining"), SILENT: _("silent")}
#: Most running entries that are listed on a worker's page.
_RUNNING: Final = 200


class WorkerList(OrderedList):
    """The list, with what each of its workers runs, counted once for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's workers and the number of entries that they run."""
        super().get_results(request)
        workers: list[Any] = list(self.result_list)
        running = overview.running_now().filter(worker__in=[worker.pk for worker in workers])
        counts = Counter(dict(running.values_list("worker").annotate(count=Count("pk"))))
        for worker in workers:
            worker.running_count = counts[worker.pk]
        self.result_list = workers


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnlyAdmin):
    """Workers; the ledger forgets those that have been silent for a day."""

    list_display = (
        "identity",
        "standing",
        "runs",
        "consumes",
        "pool",
        "short_versions",
        short_time("started_at", _("started")),
        short_time("beat_at", _("last beat")),
    )
    ordering = ("identity",)
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("identity", "standing", "hostname", "pid", "pool", "concurrency")}),
        (_("Runs now"), {"fields": ("runs_now",)}),
        (_("Queues and versions"), {"fields": ("consumes", "waits_there", "all_versions")}),
        (_("Tasks that it knows"), {"classes": ("collapse",), "fields": ("knows",)}),
        (_("Times"), {"fields": (_STARTED, _BEAT)}),
    )
    readonly_fields = (_STARTED, _BEAT)

    class Media:
        css = {"all": ("reliable_tasks/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Let the database compare the last beat with its own clock."""
        lease = moment_expression(-current().LEASE_SECONDS)
        beats = ExpressionWrapper(Q(beat_at__gte=lease), output_field=BooleanField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(beats=beats)
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Count what all workers of the page run in one statement."""
        return WorkerList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what runs to those who may see entries."""
        whole = super().get_fieldsets(request, obj)
        if request.user.has_perm("reliable_tasks.view_entry"):
            return whole
        return [one for one in whole if "runs_now" not in one[1]["fields"]]

    @admin.display(description=_("standing"))
    def standing(self, worker: Any) -> SafeString:
        """Show whether it beats."""
        how = ALIVE if worker.beats else SILENT
        if how == ALIVE and worker.draining:
            how = DRAINING
        return format_html(
            '<span class="reliable-tasks-standing reliable-tasks-is-{}">{}</span>',
            how,
            _STANDING[how],
        )

    @admin.display(description=_("runs"))
    def runs(self, worker: Any) -> str:
        """Show how many entries it runs, of how many at once."""
        most = worker.concurrency
        return (
            str(worker.running_count)
            if most is None
            else f"{worker.running_count}\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}{most}"
        )

    @admin.display(description=_("queues"))
    def consumes(self, worker: WorkerProcess) -> str:
        """Show the queues that it consumes."""
        return ", ".join(map(str, worker.queues))

    @admin.display(description=_("versions"))
    def short_versions(self, worker: WorkerProcess) -> str:
        """Show the versions that it runs, on one line."""
        return " · ".join(f"{name} {version}" for name, version in worker.versions.items())

    @admin.display(description=_("fetched and not begun"))
    def waits_there(self, worker: WorkerProcess) -> str:
        """Show how many messages of each queue it has fetched and not begun."""
        counts = sorted((name, count) for name, count in worker.fetched.items() if count)
        return ", ".join(f"{name}: {count}" for name, count in counts) or "-"

    @admin.display(description=_("entries"))
    def runs_now(self, worker: WorkerProcess) -> SafeString | str:
        """Show the entries that it runs, the longest first, with links."""
        found = list(
            overview.running_now()
            .filter(worker=worker.pk)
            .order_by("started_at")
            .only("task", "started_at", "attempt", "cancel_requested_at")[: _RUNNING + 1]
        )
        if not found:
            return "-"
        at = overview.now()
        rows = format_html_join(
            "",
            '<li><a href="{}">{}</a> <span class="reliable-tasks-line">{}</span></li>',
            (
                (
                    reverse("admin:reliable_tasks_entry_change", args=[entry.pk]),
                    entry.task,
                    _how_long(entry, at),
                )
                for entry in found[:_RUNNING]
            ),
        )
        more = "" if len(found) <= _RUNNING else format_html("<li>…</li>")
        return format_html('<ul class="reliable-tasks-runs">{}{}</ul>', rows, more)

    @admin.display(description=_("tasks"))
    def knows(self, worker: WorkerProcess) -> SafeString | str:
        """Show the names of the reliable tasks that it knows."""
        if worker.tasks is None:
            return str(_("It does not say: it runs an older version."))
        names = ((name,) for name in worker.tasks)
        return format_html_join("", "{}<br>", names) or "-"

    @admin.display(description=_("versions"))
    def all_versions(self, worker: WorkerProcess) -> str:
        """Show the versions that it runs."""
        return self.short_versions(worker) or "-"


def _how_long(entry: Entry, at: datetime) -> str:
    """Return how long an attempt has been running, and whether it was asked to stop."""
    length = span(at - entry.started_at) if entry.started_at is not None else "-"
    words = _("attempt %(number)s, for %(span)s") % {"number": entry.attempt, "span": length}
    if entry.cancel_requested_at is not None:
        words = f"{words} · {_('asked to stop')}"
    return words
