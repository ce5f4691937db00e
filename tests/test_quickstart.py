"""The quickstart is run as it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pages import DOCS, Block, Project, blocks

PAGE = DOCS / "quickstart.md"
# Already there in the environment of the test, or for people's eyes.
_PREPARED = ("python -m venv", ". venv", "pip install")
_BY_HAND = ("createsuperuser", "runserver")
_WORKER = "celery -A proj worker"
_VARIES = re.compile(r"[\d.]+s|[0-9a-f-]{36}")
_INVOICES = "SELECT count(*) FROM shop_invoice"
_LOOK_AT_ADMIN = """python manage.py shell -c "
from django.contrib.auth.models import User
from django.test import Client
client = Client(SERVER_NAME='localhost')
client.force_login(User.objects.create_superuser('ada'))
for model in ('entry', 'workerprocess'):
    print(client.get(f'/admin/reliable_tasks/{model}/').status_code)
" """
_DEAD = "SELECT count(*) FROM reliable_tasks_entry WHERE state = 'dead'"


@pytest.fixture
def project(tmp_path: Path, flush_broker: Callable[[], None]) -> Iterator[Project]:
    """Give the test an empty directory to make a project in."""
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.mark.timeout(150)
def test_quickstart_works_as_written(project: Project):
    """Whoever types the quickstart's commands and files in order sees what the page says."""
    output = ""
    for block in blocks(PAGE):
        if block.language == "python":
            project.write(block)
            if block.appends:
                project.use_the_suites_broker()
        elif block.language == "text":
            assert_shown(block, output)
        elif block.text.startswith(_WORKER):
            project.start_worker(block.text.strip())
            project.wait_for(_INVOICES, 3)
        elif not any(word in block.text for word in _BY_HAND):
            output = run(project, block)
            if "delay(999)" in block.text:
                project.wait_for(_DEAD, 1)

    project.wait_for(_INVOICES, 4)
    assert project.query(_DEAD) == 0
    assert project.query("SELECT count(*) FROM reliable_tasks_entry") == 4
    assert project.shell(_LOOK_AT_ADMIN).split()[-2:] == ["200", "200"]


@pytest.mark.timeout(90)
def test_documented_test_passes_without_a_broker(project: Project):
    """A user's TestCase sees what its code enqueued, and runs it, and needs no broker for it."""
    run(project, blocks(PAGE, "sh")[0])
    for block in [*blocks(PAGE, "python"), *blocks(DOCS / "tasks.md", "python")]:
        if block.path:
            project.write(block)
    project.shell("python manage.py makemigrations shop")

    assert "Ran 2 tests" in project.shell("python manage.py test")


def test_quickstart_mentions_every_file_once():
    """Each file of the quickstart stands in one block: nothing has to be pieced together."""
    paths = [block.path for block in blocks(PAGE, "python")]
    assert all(paths)
    assert len(set(paths)) == len(paths)


def run(project: Project, block: Block) -> str:
    lines = [each for each in block.text.splitlines() if not each.startswith(_PREPARED)]
    return project.shell("\n".join(lines))


def assert_shown(block: Block, output: str) -> None:
    """Check that what a page shows is what its command printed, but for ids and lengths of time."""
    printed = [" ".join(words(line)) for line in output.splitlines()]
    for line in filter(None, map(words, block.text.splitlines())):
        shown = " ".join(line)
        assert any(each.endswith(shown) for each in printed), f"{shown!r} is not in\n{output}"


def words(line: str) -> list[str]:
    return ["#" if _VARIES.fullmatch(word) else word for word in line.split()]
