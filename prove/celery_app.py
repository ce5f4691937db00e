"""The Celery app of the proof's workers, wired as any Django project wires its own."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prove.settings")

app = Celery("prove")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
