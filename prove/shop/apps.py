"""The Django app of the workload."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Orders and effects."""

    name = "prove.shop"
    label = "prove_shop"

    def ready(self) -> None:
        """Make the proof's Celery app the current one in every process."""
        from prove.celery_app import app

        app.set_default()
