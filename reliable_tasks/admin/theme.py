"""What the admin's classes are built on: Django's own, or django-unfold's where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin

if TYPE_CHECKING:
    from django.db.models import Model

    # Generic to the type checker only.
    ThemedAdmin = admin.ModelAdmin[Model]
    ThemedFilter = admin.SimpleListFilter
else:

    def _admin() -> Any:
        if apps.is_installed("unfold"):
            from unfold.admin import ModelAdmin

            return ModelAdmin
        return admin.ModelAdmin

    ThemedAdmin = _admin()
    ThemedFilter = admin.SimpleListFilter
