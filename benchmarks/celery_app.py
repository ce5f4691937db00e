"""The Celery application of both sides, wired the way Celery's Django guide says."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import environment, instruments

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if environment.PROFILE in os.environ:
    instruments.install(os.environ[environment.PROFILE])
