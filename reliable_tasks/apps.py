"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReliableTasksConfig(AppConfig):
    """Connects the checks and the worker's boot step. Nothing else happens at start-up."""

    name = "reliable_tasks"
    label = "reliable_tasks"
    verbose_name = _("Reliable tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks and what every worker starts by itself."""
        from . import checks, worker

        checks.register_checks()
        worker.install()
