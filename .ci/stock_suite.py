"""Run django-celery-beat's own test suite with our scheduler in place of its own.

Needs pip, and in this interpreter: the project, pytest 8, pytest-django, ephem. The suite is taken
from the sdist of the installed version, into a temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

# They look into the private heap of the stock scheduler, which ours does not use.
HEAP = "t/unit/test_schedulers.py::test_DatabaseScheduler::"
NOT_OURS = [
    f"{HEAP}test_heap_size_is_constant",
    f"{HEAP}test_heap_always_return_the_first_item",
    f"{HEAP}test_starttime_trigger",
    f"{HEAP}test_crontab_with_start_time_tick",
]
SETTINGS = """
from t.proj.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_results", "reliable_tasks"]
"""
CONFTEST = """
import django

django.setup()

from django.core.checks import registry
from django_celery_beat import schedulers

from reliable_tasks.schedules.scheduler import ReliableScheduler

schedulers.DatabaseScheduler = ReliableScheduler
# The suite's current Celery app is a trap that nobody may touch; our checks would.
registry.registry.registered_checks = {
    each
    for each in registry.registry.registered_checks
    if not each.__module__.startswith("reliable_tasks")
}
"""


def main() -> int:
    """Fetch the suite, put our scheduler in, run it."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = f"django-celery-beat=={version('django-celery-beat')}"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--no-binary", "django-celery-beat", "--dest", folder, wanted),
            ],
            check=True,
        )
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        (root,) = Path(folder).glob("django_celery_beat-*/")
        (root / "ours.py").write_text(SETTINGS)
        (root / "conftest.py").write_text(CONFTEST)
        arguments = ["-q", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider", "--ds", "ours"]
        for each in NOT_OURS:
            arguments += ["--deselect", each]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments, "t/unit"],
            cwd=root,
            env={
                **os.environ,
                "PYTHONPATH": str(root),
                "DJANGO_SETTINGS_MODULE": "ours",
                "CELERY_BROKER_URL": "memory://",
            },
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
