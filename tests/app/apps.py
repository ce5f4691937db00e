"""Configuration of the test app."""

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """The test app."""

    name = "tests.app"
    label = "testapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make the suite's Celery app the current one in every process that loads Django."""
        from tests import celery_app  # noqa: F401
