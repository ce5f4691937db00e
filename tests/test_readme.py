"""The README's first screen is run as it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.pages import DOCS, Project, blocks

README = ROOT / "README.md"
_SCREEN = 40  # lines
_SQLITE = """
INSTALLED_APPS += ["shop"]
DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20}
"""


@pytest.fixture
def project(tmp_path: Path, flush_broker: Callable[[], None]) -> Iterator[Project]:
    """Give the test the quickstart's project with the README's settings and task in it."""
    made = Project(tmp_path)
    made.shell("django-admin startproject proj . && python manage.py startapp shop")
    task, settings = blocks(README, "python")
    own = {each.path: each for each in blocks(DOCS / "quickstart.md", "python")}
    for path in ("proj/celery.py", "proj/__init__.py", "shop/models.py"):
        made.write(own[path])
    made.write(task)
    file = tmp_path / "proj" / "settings.py"
    file.write_text(file.read_text() + settings.text + _SQLITE)
    made.use_the_suites_broker()
    yield made
    made.close()


@pytest.mark.timeout(120)
def test_the_first_screens_task_works(project: Project):
    """The README's task runs once for an order that commits, and not for one that rolls back."""
    project.shell("python manage.py makemigrations shop && python manage.py migrate")
    project.shell(
        """python manage.py shell -c "
from django.db import transaction
from shop.tasks import place_order
place_order('ada@example.com', 42)
try:
    with transaction.atomic():
        place_order('eve@example.com', 13)
        raise ValueError
except ValueError:
    pass
" """
    )
    project.start_worker("celery -A proj worker --loglevel INFO")
    project.wait_for("SELECT count(*) FROM reliable_tasks_entry WHERE state = 'succeeded'", 1)

    assert project.query("SELECT count(*) FROM reliable_tasks_entry") == 1
    assert project.query("SELECT count(*) FROM shop_order") == 1
    assert project.query("SELECT sum(amount) FROM shop_invoice") == 42


def test_the_first_screen_is_short():
    """A task of at most 20 lines and the two commands to try it stand on the first screen."""
    task = blocks(README, "python")[0].text.splitlines()
    screen = README.read_text().splitlines()[:_SCREEN]

    assert len(task) <= 20
    assert set(task) <= set(screen)
    assert any(line.startswith("make demo ") for line in screen)
    assert any(line.startswith("make test ") for line in screen)


def test_the_settings_are_five_lines():
    """To install the package takes five lines of settings."""
    settings = blocks(README, "python")[1].text.splitlines()
    assert len([line for line in settings if not line.startswith("#")]) == 5
