"""Workers, as they last reported themselves."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..conf import current
from ..ledger.guard import moment_expression
from ..models import WorkerProcess
from .reading import ReadOnlyAdmin, exact_time, json_block, short_time

_STARTED: Final = exact_time("started_at", _("started"))
_BEAT: Final = exact_time("beat_at", _("last beat"))


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnlyAdmin):
    """Workers; the ledger forgets those that have been silent for a day."""

    list_display = (
        "identity",
        "standing",
        "consumes",
        "pool",
        "concurrency",
        short_time("started_at", _("started")),
        short_time("beat_at", _("last beat")),
    )
    ordering = ("identity",)
    sortable_by = ()
    fieldsets = (
        (None, {"fields": ("identity", "standing", "hostname", "pid", "pool", "concurrency")}),
        (_("Queues and versions"), {"fields": ("consumes", "all_versions")}),
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

    @admin.display(description=_("standing"))
    def standing(self, worker: Any) -> Any:
        """Show whether it beats."""
        if not worker.beats:
            return _("silent")
        return _("draining") if worker.draining else _("alive")

    @admin.display(description=_("queues"))
    def consumes(self, worker: WorkerProcess) -> str:
        """Show the queues that it consumes."""
        return ", ".join(map(str, worker.queues))

    @admin.display(description=_("versions"))
    def all_versions(self, worker: WorkerProcess) -> SafeString | str:
        """Show the versions that it runs."""
        return json_block(worker.versions)
