"""Django settings of every process of a proof; the world hands the rest over in the environment."""

from __future__ import annotations

import json
import os

from tests import services

SECRET_KEY = "only for the proof"
DEBUG = False
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": services.database_settings()}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_results",
    "django_celery_beat",
    "reliable_tasks",
    "prove.shop",
]

CELERY_BROKER_URL = os.environ.get("PROVE_BROKER", "redis://127.0.0.1:1/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_DEFAULT_QUEUE = "prove"
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
if CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2}
globals().update(json.loads(os.environ.get("PROVE_CELERY", "{}")))

RELIABLE_TASKS = json.loads(os.environ.get("PROVE_SETTINGS", "{}"))
