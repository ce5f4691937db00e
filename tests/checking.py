"""What the tests of the system checks set up: a ledger's database, a Celery app, a project."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from celery import Celery, _state
from celery.app import builtins
from django.core.checks import CheckMessage
from django.db import ConnectionHandler

from tests.harness import ROOT, python

SQLITE = "django.db.backends.sqlite3"
GOOD_SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def codes(messages: Sequence[CheckMessage]) -> list[str]:
    """Return the messages' ids without the prefix, after a look at each of them."""
    for message in messages:
        assert message.msg, message
        assert message.hint, message
        assert message.obj, message
    return [str(message.id).removeprefix("reliable_tasks.") for message in messages]


def use_databases(monkeypatch: pytest.MonkeyPatch, **databases: dict[str, Any]) -> None:
    """Let the checks see other databases: SQLite files unless told otherwise."""
    filled = {
        alias: {"ENGINE": SQLITE, "NAME": f"{alias}.sqlite3", "OPTIONS": GOOD_SQLITE, **given}
        for alias, given in databases.items()
    }
    handler = ConnectionHandler(filled)
    for module in ("reading", "databases", "processes"):
        monkeypatch.setattr(f"reliable_tasks.checks.{module}.connections", handler)


def use_app(monkeypatch: pytest.MonkeyPatch, **conf: Any) -> Celery:
    """Make a Celery app with that configuration the one of this process, and return it.

    It has none of the suite's shared tasks.
    """
    builtin = {made for made in _state._on_app_finalizers if made.__module__ == builtins.__name__}
    monkeypatch.setattr(_state, "_on_app_finalizers", builtin)
    app = Celery("shop", set_as_current=False)
    app.conf.update({"broker_url": "redis://127.0.0.1:1/0", **conf})
    make_current(monkeypatch, app)
    return app


def make_current(
    monkeypatch: pytest.MonkeyPatch, app: Celery | None, *, default: Celery | None = None
) -> None:
    """Let Celery know that app only, in this thread and, unless another is given, in all."""
    monkeypatch.setattr(_state, "_apps", WeakSet([app] if app is not None else []))
    monkeypatch.setattr(_state, "default_app", default or app)
    monkeypatch.setattr(_state._tls, "current_app", app)


def declare(app: Celery, name: str, **options: Any) -> None:
    """Register a task with the app."""

    def body() -> None:
        """Do nothing."""

    # Not shared: the other apps of the process shall not get it.
    app.task(name=name, shared=False, **options)(body)


class Project:
    """A Django project in a directory of its own, as a newcomer writes it.

    Args:
        directory: where it is made.
        settings: lines that are added to its settings.
        tasks: a module of tasks that its URLs import.
    """

    def __init__(self, directory: Path, settings: str = "", tasks: str = "") -> None:
        self._directory = directory
        package = directory / "proj"
        package.mkdir()
        (package / "__init__.py").write_text("from proj.celery import app as celery_app\n")
        (package / "celery.py").write_text(_CELERY)
        (package / "settings.py").write_text(_SETTINGS + textwrap.dedent(settings))
        (package / "tasks.py").write_text(textwrap.dedent(tasks))
        (package / "urls.py").write_text("from proj import tasks\n\nurlpatterns = []\n")

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self._directory}:{ROOT}",
            "DJANGO_SETTINGS_MODULE": "proj.settings",
        }
        return subprocess.run(
            python("-m", "django", *arguments),
            cwd=self._directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


_CELERY = """\
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
# Nothing listens on port 1: a check that asked a server would say so.
_SETTINGS = """\
SECRET_KEY = "x" * 60
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_results",
    "django_celery_beat",
    "reliable_tasks",
]
ROOT_URLCONF = "proj.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "nobody",
        "HOST": "127.0.0.1",
        "PORT": 1,
    }
}
CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
"""
