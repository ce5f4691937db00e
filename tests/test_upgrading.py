"""A project leaves as the page on upgrading says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pages import DOCS, Project, blocks

PAGE = DOCS / "upgrading.md"
_TABLES = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'reliable_tasks_%'"
_PERMISSIONS = "SELECT count(*) FROM auth_permission WHERE codename = 'requeue_entry'"


@pytest.fixture
def project(tmp_path: Path, flush_broker: Callable[[], None]) -> Iterator[Project]:
    """Give the test the quickstart's project, migrated."""
    made = Project(tmp_path)
    made.shell("django-admin startproject proj . && python manage.py startapp shop")
    for block in blocks(DOCS / "quickstart.md", "python"):
        made.write(block)
    made.use_the_suites_broker()
    made.shell("python manage.py migrate --verbosity 0")
    yield made
    made.close()


@pytest.mark.timeout(120)
def test_an_uninstall_leaves_nothing_behind(project: Project):
    """The page's commands, in their order, delete tables and permissions; the project goes on."""
    uninstall = PAGE.read_text().partition("## Uninstall")[2]
    undo, clean = re.findall(r"`(python manage\.py [^`]+)`", uninstall)
    assert project.query(_TABLES) > 0

    project.shell(undo)
    assert project.query(_TABLES) == 0

    settings = project.directory / "proj" / "settings.py"
    settings.write_text(f'{settings.read_text()}\nINSTALLED_APPS.remove("reliable_tasks")\n')
    (project.directory / "shop" / "tasks.py").unlink()
    (project.directory / "shop" / "orders.py").unlink()
    assert project.query(_PERMISSIONS) == 1
    project.shell(f"{clean} --no-input && python manage.py check && python manage.py migrate")
    assert project.query(_PERMISSIONS) == 0


@pytest.mark.timeout(120)
def test_migrations_go_back_and_forth(project: Project):
    """Whoever has undone the migrations can apply them again."""
    project.shell("python manage.py migrate reliable_tasks zero --verbosity 0")
    project.shell("python manage.py migrate --verbosity 0")
    project.shell("python manage.py reliable_tasks status")
    assert project.query("SELECT count(*) FROM reliable_tasks_entry") == 0
