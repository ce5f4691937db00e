"""What goes with a schedule that is deleted, as the page of the admin that asks tells it.

Django reads and lists every row that goes along, and wants the permission to delete each. A
schedule of every minute has tens of thousands of occurrences, which nobody may delete by
themselves. So they are counted, and go with what may be deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import NestedObjects, quote
from django.db import router
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.text import capfirst

from ..models import Occurrence

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object


class _Collector(NestedObjects):
    """Collects what goes along, and leaves occurrences unread."""

    def can_fast_delete(self, objs: Any, from_field: Any = None) -> bool:
        return objs is Occurrence

    def counts(self) -> dict[Any, int]:
        """Return how many rows of each kind go along."""
        kinds: dict[Any, Any] = self.model_objs
        found = {model._meta.verbose_name_plural: len(rows) for model, rows in kinds.items()}
        if occurrences := sum(rows.count() for rows in self.fast_deletes):
            found[Occurrence._meta.verbose_name_plural] = occurrences
        return found


class DeletingMixin(_ModelAdmin):
    """Tells what goes with schedules that are deleted."""

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, int], set[Any], list[Any]]:
        """Return what Django's own does, but for occurrences."""
        collector = _Collector(using=router.db_for_write(self.model), origin=objs)
        collector.collect(objs)
        lacking: set[Any] = set()

        def line(row: Model) -> str:
            if not _may_delete(self.admin_site, request, row):
                lacking.add(row._meta.verbose_name)
            return _line(self.admin_site, row)

        listed, kept = collector.nested(line), [line(row) for row in collector.protected]
        return listed, collector.counts(), lacking, kept


def _may_delete(site: admin.AdminSite, request: HttpRequest, row: Model) -> bool:
    page = site._registry.get(type(row))
    return page is None or page.has_delete_permission(request, row)


def _line(site: admin.AdminSite, row: Model) -> str:
    meta, kind = row._meta, capfirst(row._meta.verbose_name)
    if type(row) in site._registry:
        name = f"{site.name}:{meta.app_label}_{meta.model_name}_change"
        try:
            url = reverse(name, args=[quote(row.pk)])
        except NoReverseMatch:  # its admin has no such page
            return f"{kind}: {row}"
        return format_html('{}: <a href="{}">{}</a>', kind, url, row)
    return f"{kind}: {row}"
