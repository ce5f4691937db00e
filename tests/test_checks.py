"""The system checks as a whole: what is registered, what is documented, and what stays quiet."""

from __future__ import annotations

import re

import pytest
from django.core.checks import Tags, registry

from reliable_tasks import checks
from reliable_tasks.checks import catalogue, project
from tests.checking import Project, codes, use_app, use_databases
from tests.harness import ROOT

PAGE = (ROOT / "docs" / "checks.md").read_text()


def test_each_id_is_used_once():
    """No two rules share an id, and those of a level stand in the order of their numbers."""
    for level in "EWI":
        numbers = [int(rule.code[1:]) for rule in catalogue.RULES if rule.code[0] == level]
        assert numbers == sorted(set(numbers))


def test_page_lists_every_check():
    """The reference has a row and a section for each rule, and for nothing else."""
    expected = [(rule.id, str(rule.when), rule.title) for rule in catalogue.RULES]
    rows = re.findall(r"^\| \[`(\S+)`\]\(#\S+\) \| (\S+) \| (.+) \|$", PAGE, re.MULTILINE)
    sections = re.findall(r"^### (reliable_tasks\.\w+)$", PAGE, re.MULTILINE)
    assert rows == expected
    assert sections == [id_ for id_, _, _ in expected]


def test_every_check_is_registered():
    """Django knows each check once: under our tag, and for deployment or a database where it is."""
    checks.register_checks()
    ours = {
        check
        for check in registry.registry.get_checks(include_deployment_checks=True)
        if checks.TAG in check.tags
    }
    always = {check for check in registry.registry.get_checks() if checks.TAG in check.tags}
    assert ours == {*checks._ALWAYS, *checks._DEPLOY, *checks._DATABASE}
    assert ours - always == set(checks._DEPLOY)
    assert {check for check in ours if Tags.database in check.tags} == set(checks._DATABASE)


def test_first_steps_are_quiet(tmp_path):
    """A project with a broker URL and the defaults gets no message, and no server is asked."""
    done = Project(tmp_path).manage("check")
    assert (done.returncode, done.stderr) == (0, "")


def test_deployment_is_advised(tmp_path):
    """For the same project `check --deploy` recommends the two settings that production needs."""
    done = Project(tmp_path).manage("check", "--deploy", "--tag", checks.TAG)
    assert re.findall(r"\(reliable_tasks\.(\w+)\)", done.stderr) == ["W018", "W019"]


def test_tasks_that_views_call_are_looked_at(tmp_path):
    """A task that the URLs import is checked, in whatever order Django runs its checks."""
    tasks = """
        from celery import shared_task
        from reliable_tasks import ReliableTask

        @shared_task(base=ReliableTask, acks_late=True)
        def ship():
            pass
        """
    done = Project(tmp_path, tasks=tasks).manage("check", "--tag", checks.TAG)
    assert "proj.tasks.ship: (reliable_tasks.W015)" in done.stderr


def test_wrong_setting_stops_commands(tmp_path):
    """A misspelt setting ends every command with a message that names the right one."""
    done = Project(tmp_path, 'RELIABLE_TASKS = {"LEASE_SECOND": 30}').manage("check")
    assert done.returncode != 0
    assert "(reliable_tasks.E001)" in done.stderr
    assert "Did you mean 'LEASE_SECONDS'?" in done.stderr


def test_tables_are_missed_until_they_are_migrated(tmp_path):
    """`check --database` asks for `migrate`, which itself is not nagged and settles the matter."""
    shop = Project(
        tmp_path,
        """
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
        SILENCED_SYSTEM_CHECKS = [f"reliable_tasks.W00{number}" for number in (2, 3, 4)]
        """,
    )
    before = shop.manage("check", "--database", "default")
    migrate = shop.manage("migrate", "--verbosity", "0")
    after = shop.manage("check", "--database", "default")
    assert "(reliable_tasks.W001)" in before.stderr
    assert (before.returncode, migrate.returncode, migrate.stderr) == (0, 0, "")
    assert (after.returncode, after.stderr) == (0, "")


@pytest.mark.timeout(240)  # five processes, one after the other
def test_example_is_clean(tmp_path, monkeypatch):
    """The example project passes every check, those for deployment and of the database too."""
    monkeypatch.setenv("SHOP_VAR", str(tmp_path / "var"))
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    shop = Project(tmp_path)
    with_settings = ("--settings", "example_project.settings")
    for command in (
        ("check",),
        ("check", "--deploy", "--tag", checks.TAG),
        ("migrate", "--verbosity", "0"),
        ("check", "--database", "default"),
    ):
        done = shop.manage(*command, *with_settings)
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.django_db
def test_all_checks_includes_deployment(monkeypatch):
    """`all_checks` runs what is always run and what is for deployment, and asks no database."""
    use_app(monkeypatch, result_backend="django-db", task_always_eager=True, worker_pool="solo")
    use_databases(monkeypatch, default={"NAME": "/no/such/directory/db.sqlite3"})
    assert codes(checks.all_checks()) == ["W018", "W019"]
    assert codes(checks.all_checks(["default"])) == ["W018", "W019", "E010"]


def test_all_checks_leaves_out_what_is_silenced(monkeypatch, settings):
    """`all_checks` respects SILENCED_SYSTEM_CHECKS, as `manage.py check` does."""
    use_app(monkeypatch, result_backend="django-db", worker_pool="solo")
    use_databases(monkeypatch, default={})
    settings.SILENCED_SYSTEM_CHECKS = ["reliable_tasks.W018"]
    assert codes(checks.all_checks()) == ["W019"]


def test_wrong_setting_is_one_finding(monkeypatch, settings):
    """With wrong settings no other check fails for their sake."""
    use_app(monkeypatch, result_backend="django-db", worker_pool="gevent")
    use_databases(monkeypatch, default={}, other={"ATOMIC_REQUESTS": True})
    settings.RELIABLE_TASKS = {"MAX_RETRIES": "many"}
    assert codes(checks.all_checks())[0] == "E001"
    assert codes(project.check_settings()) == ["E001"]


def test_right_settings_pass():
    """Settings that can be read are not reported."""
    assert project.check_settings() == []


def test_naive_times_are_refused(settings):
    """Without USE_TZ the ledger's times would not be the database's: an error."""
    assert project.check_time_zones() == []
    settings.USE_TZ = False
    assert codes(project.check_time_zones()) == ["E002"]


@pytest.mark.parametrize(
    ("removed", "conf", "expected"),
    [
        ((), {}, []),
        (("django_celery_results",), {}, ["W006"]),
        (("django_celery_results",), {"result_backend": "redis://127.0.0.1:1/1"}, []),
        (("django_celery_results",), {"result_backend": "django-db"}, ["E008"]),
        (("django_celery_results",), {"result_backend": "django-cache"}, ["E008"]),
        (("django_celery_beat",), {}, ["E056"]),
        (("django_celery_beat", "django_celery_results"), {}, ["W006", "E056"]),
    ],
)
def test_companion_apps_are_missed(monkeypatch, settings, removed, conf, expected):
    """A missing companion app is a warning, and an error where something refers to it."""
    use_app(monkeypatch, **conf)
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name not in removed]
    assert codes(project.check_companions()) == expected
