"""The shop's settings: everything runs on one machine, with nothing else to install.

What may be set from outside comes from the environment: ``DATABASE_URL``, ``CELERY_BROKER_URL`` or
``REDIS_URL``, and the names that begin with ``SHOP_``.
"""

import os
from pathlib import Path

from example_project.broker import DEFAULT_PORT
from example_project.database import from_url

BASE_DIR = Path(__file__).resolve().parent.parent
#: Where the shop keeps its files: database, sent e-mails, logs of the demo.
VAR = Path(os.environ.get("SHOP_VAR", BASE_DIR / "var"))
VAR.mkdir(parents=True, exist_ok=True)

# The shop listens on loopback only and is a demo: this key protects nothing. Never copy it.
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "demo-only-" + "not-a-secret-" * 4)
DEBUG = os.environ.get("SHOP_DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_celery_beat",
    "reliable_tasks",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

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

DATABASES = {"default": from_url(os.environ.get("DATABASE_URL", f"sqlite:///{VAR}/shop.sqlite3"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = VAR / "mail"
DEFAULT_FROM_EMAIL = "The Corner Shop <shop@example.com>"

#: Address of the payment gateway (``python -m example_project.gateway``).
SHOP_GATEWAY_URL = os.environ.get("SHOP_GATEWAY_URL", "http://127.0.0.1:8010")

CELERY_BROKER_URL = (
    os.environ.get("CELERY_BROKER_URL")
    or os.environ.get("REDIS_URL")
    or f"redis://127.0.0.1:{DEFAULT_PORT}/0"
)
# Without these two a broker that accepts and never answers blocks whoever talks to it.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object] = (
    {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}
    if CELERY_BROKER_URL.startswith("redis")
    else {}
)
if os.environ.get("SHOP_KEY_PREFIX"):
    # Sets the shop apart from what else is in a shared Redis.
    CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = os.environ["SHOP_KEY_PREFIX"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("SHOP_QUEUE", "shop")
CELERY_TASK_TIME_LIMIT = 60
CELERY_TASK_SOFT_TIME_LIMIT = 45
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = "django-db"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = TIME_ZONE
# In a project of your own, where the package is installed: "reliable".
CELERY_BEAT_SCHEDULER = "reliable_tasks.schedules.scheduler:ReliableScheduler"

# Nothing else has to be set: the defaults are what the demo is about.
RELIABLE_TASKS: dict[str, object] = {
    # `migrate` makes rows of these, which the admin may edit. They differ in what becomes of due
    # times at which no beat was up: the newest night counts, one stock check is enough, and of the
    # reminders the last five are made up for.
    "SCHEDULES": {
        "nightly report": {
            "task": "shop.report_sales",
            "schedule": "30 2 * * *",
            "catch_up": "latest",
        },
        "stock check": {
            "task": "shop.check_stock",
            "schedule": "0 * * * *",
            "catch_up": "latest",
            "overlap": "skip",
        },
        "reminder": {
            "task": "shop.remind",
            "schedule": "* * * * *",
            "catch_up": "all",
            "catch_up_limit": 5,
        },
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
