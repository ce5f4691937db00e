"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class ReliableTasksConfig(AppConfig):
    """Connects the checks, the worker's boot step and the sync of schedules with ``migrate``.

    Nothing else happens at start-up.
    """

    name = "reliable_tasks"
    label = "reliable_tasks"
    verbose_name = _("Reliable tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks, what every worker starts by itself, and what follows migrate."""
        from . import checks, worker
        from .schedules.migrated import sync_after_migrate

        checks.register_checks()
        worker.install()
        post_migrate.connect(
            sync_after_migrate, sender=self, dispatch_uid="reliable_tasks.schedules"
        )
