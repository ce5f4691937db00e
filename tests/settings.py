"""Django settings of the test suite and of the processes that it starts."""

from __future__ import annotations

import json
import os
from typing import Any

from tests import services


def overrides(variable: str) -> dict[str, Any]:
    """Return the settings that a test hands to a child process as JSON in the environment."""
    loaded: dict[str, Any] = json.loads(os.environ.get(variable, "{}"))
    return loaded


SECRET_KEY = "tests"
DEBUG = False
ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {
    "default": services.database_settings(),
    # A database that the ledger is not on. Only tests that name it create it.
    "other": services.other_database_settings(),
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_celery_beat",
    "reliable_tasks",
    "tests.app",
    "example_project.shop",
]
MIDDLEWARE = [
    "tests.browser.policy.StrictPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

CELERY_BROKER_URL = services.redis_url()
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    **({"global_keyprefix": prefix} if (prefix := services.redis_key_prefix()) else {}),
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TIMEZONE = "UTC"
globals().update(overrides("RELIABLE_TASKS_TEST_CELERY"))

RELIABLE_TASKS = overrides("RELIABLE_TASKS_TEST_SETTINGS")
