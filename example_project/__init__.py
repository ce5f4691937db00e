"""A small shop that shows what `reliable_tasks` does, and a demo that tries to break it."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
