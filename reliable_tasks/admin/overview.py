"""The page of charts: how the ledger does, at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from .. import overview
from ..models import Overview
from .glance import WINDOWS, glance
from .reading import ReadOnlyAdmin

#: Seconds after which the page may load itself again.
REFRESH: Final = (10, 30, 60)
_FIRST: Final = "1h"


@admin.register(Overview)
class OverviewAdmin(ReadOnlyAdmin):
    """One page instead of a list; who may see entries may see it."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may see entries may see how they do."""
        return request.user.has_perm("reliable_tasks.view_entry")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show it in the index to those who may see it."""
        return self.has_view_permission(request)

    def get_urls(self) -> list[Any]:
        """Leave nothing but the page: an overview has no rows to open."""
        return [url for url in super().get_urls() if (url.name or "").endswith("_changelist")]

    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        """Show the charts.

        Raises:
            PermissionDenied: the user may not see entries.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("window", _FIRST)
        window = chosen if chosen in WINDOWS else _FIRST
        refresh = request.GET.get("refresh", "")
        every = int(refresh) if refresh in {str(seconds) for seconds in REFRESH} else 0
        context = {
            **self.admin_site.each_context(request),
            "title": _("Overview"),
            "opts": self.opts,
            "media": self.media,
            "window": window,
            "windows": [(name, words) for name, (words, *_steps) in WINDOWS.items()],
            "refresh": every,
            "refreshes": REFRESH,
            "sees_pauses": request.user.has_perm("reliable_tasks.view_pause"),
            "sees_workers": request.user.has_perm("reliable_tasks.view_workerprocess"),
            **glance(window, overview.now()),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/reliable_tasks/overview/page.html", context)

    class Media:
        css = {"all": ("reliable_tasks/overview.css",)}
