"""What an installation gets."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib

import reliable_tasks
from tests.harness import ROOT, python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_version_has_one_source():
    """The version of the distribution is the one that the package states."""
    assert "version" in PROJECT["dynamic"]
    assert importlib.metadata.version("django-reliable-tasks") == reliable_tasks.__version__


def test_production_install_pulls_five_packages():
    """A production install asks for django, celery, its two Django companions and redis only."""
    names = [re.match(r"[a-z-]+", line)[0] for line in PROJECT["dependencies"]]
    # "packaging" is what kombu's Redis transport imports without asking for it.
    promised = ["django", "celery", "django-celery-beat", "django-celery-results", "redis"]
    assert names == [*promised, "packaging"]


def test_root_has_few_public_names():
    """The root offers at most a dozen names, all listed and all there."""
    assert len(reliable_tasks.__all__) <= 12
    assert list(reliable_tasks.__all__) == sorted(reliable_tasks.__all__)
    assert all(getattr(reliable_tasks, name) is not None for name in reliable_tasks.__all__)


def test_unknown_name_is_an_attribute_error():
    """A name that the root does not offer fails as on any module."""
    assert not hasattr(reliable_tasks, "no_such_name")


def test_root_imports_without_django_settings():
    """`import reliable_tasks` works in a settings file: it loads no model and no settings."""
    code = (
        "import sys, reliable_tasks\n"
        "loaded = {'reliable_tasks.models', 'django.db.models', 'celery'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(loaded)) or 0)"
    )
    done = subprocess.run(
        python("-c", code), cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_typing_marker_is_there():
    """Type checkers read the package's own annotations."""
    assert (ROOT / "reliable_tasks" / "py.typed").exists()
