"""Django settings of every process that the benchmark starts.

Both sides read this one module. On the plain side reliable_tasks is not installed at all, so that
none of its signal handlers or worker steps can slow down (or speed up) plain Celery.
"""

from __future__ import annotations

import json
import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from benchmarks import environment

_database = {
    key: str(value)
    for key, value in conninfo_to_dict(environment.required(environment.DATABASE_URL)).items()
}

SECRET_KEY = "only for the benchmark"
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "benchmarks"]
if environment.is_ledger_side():
    INSTALLED_APPS += ["django_celery_results", "django_celery_beat", "reliable_tasks"]

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.pop("dbname", "postgres"),
        "USER": _database.pop("user", ""),
        "PASSWORD": _database.pop("password", ""),
        "HOST": _database.pop("host", ""),
        "PORT": _database.pop("port", ""),
        "OPTIONS": _database,
    }
}

RELIABLE_TASKS = json.loads(os.environ.get(environment.SETTINGS, "{}"))

CELERY_BROKER_URL = environment.required(environment.REDIS_URL)
CELERY_TASK_DEFAULT_QUEUE = environment.QUEUE
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

if os.environ.get(environment.KEEP_CONNECTION):
    # Celery's Django fixup closes the database connection around every task unless this is set.
    CELERY_DB_REUSE_MAX = 1_000_000
