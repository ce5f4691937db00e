"""The Celery app of the proof's workers, wired as any Django project wires its own."""

import os
import time
from datetime import UTC, datetime

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prove.settings")

app = Celery("prove")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
if os.environ.get("PROVE_CLOCK_SHIFT"):
    print(f"clock is off by {time.time() - datetime.now(UTC).timestamp():.0f} s", flush=True)
