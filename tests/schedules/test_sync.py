"""The sync: code is followed, operators' edits are kept, nothing is deleted."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction
from django.db.models.signals import post_migrate
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from reliable_tasks.errors import ConfigurationError
from reliable_tasks.models import DeclaredSchedule, SchedulePolicy
from reliable_tasks.schedules import sync as module
from reliable_tasks.schedules.changes import Act
from reliable_tasks.schedules.declared import declarations
from reliable_tasks.schedules.definition import declared_values
from reliable_tasks.schedules.migrated import sync_after_migrate
from reliable_tasks.schedules.report import lines
from reliable_tasks.schedules.sync import sync

pytestmark = pytest.mark.django_db

STOCK = {"task": "shop.stock", "schedule": 3600}
REPORT = {
    "task": "shop.report",
    "schedule": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "args": ["all"],
    "queue": "slow",
    "catch_up": "all",
    "jitter": timedelta(seconds=90),
}


@pytest.fixture
def declare(settings):
    """Return a function that makes schedules the declared ones."""

    def declared(**schedules):
        settings.RELIABLE_TASKS = {"SCHEDULES": schedules}

    return declared


def acts(report):
    return {change.name: str(change.act) for change in report.changes}


def row(name):
    return PeriodicTask.objects.select_related("crontab", "interval").get(name=name)


def differences(found):
    return {each.field: (each.row, each.code) for each in found}


def test_new_ones_are_created(declare):
    """A declared schedule becomes a row with its policy, and beats are told."""
    declare(report=REPORT)
    assert acts(sync()) == {"report": "created"}
    found = row("report")
    assert str(found.crontab) == "30 2 * * * (m/h/dM/MY/d) Europe/Berlin"
    assert (json.loads(found.args), found.queue, found.enabled) == (["all"], "slow", True)
    assert (found.reliable_policy.catch_up, found.reliable_policy.jitter) == (
        "all",
        timedelta(seconds=90),
    )
    assert PeriodicTasks.last_change() is not None


def test_second_sync_changes_nothing(declare):
    """A sync of what is there writes nothing, not even the mark that makes beats read again."""
    declare(report=REPORT, stock=STOCK)
    sync()
    before = (PeriodicTasks.last_change(), row("report").date_changed)
    assert acts(sync()) == {"report": "unchanged", "stock": "unchanged"}
    assert (PeriodicTasks.last_change(), row("report").date_changed) == before


def test_changed_code_is_followed(declare):
    """What the code changes and nobody has edited is updated, whatever kind of value it is."""
    declare(stock=STOCK)
    sync()
    seen = PeriodicTasks.last_change()
    declare(stock={**STOCK, "schedule": "0 * * * *", "kwargs": {"deep": True}, "overlap": "skip"})
    (change,) = sync().changes
    assert differences(change.set) == {
        "when": (
            ["interval", {"microseconds": 3_600_000_000}],
            ["crontab", {"cron": "0 * * * *", "timezone": "UTC"}],
        ),
        "kwargs": ({}, {"deep": True}),
        "overlap": ("allow", "skip"),
    }
    found = row("stock")
    assert (found.interval, found.crontab.minute) == (None, "0")
    assert json.loads(found.kwargs) == {"deep": True}
    assert found.reliable_policy.overlap == "skip"
    assert PeriodicTasks.last_change() > seen


def test_operators_edits_are_kept(declare):
    """What an operator has edited stays and is told, also when the code changes it later."""
    declare(stock=STOCK)
    sync()
    PeriodicTask.objects.filter(name="stock").update(queue="mail", enabled=False)
    (change,) = sync().changes
    assert differences(change.kept) == {"queue": ("mail", None), "enabled": (False, True)}
    declare(stock={**STOCK, "queue": "slow", "priority": 3})
    (change,) = sync().changes
    assert differences(change.set) == {"priority": (None, 3)}
    assert differences(change.kept) == {"queue": ("mail", "slow"), "enabled": (False, True)}
    assert (row("stock").queue, row("stock").priority, row("stock").enabled) == ("mail", 3, False)


def test_edit_of_the_policy_is_kept(declare):
    """The policy's fields are compared like the row's."""
    declare(stock=STOCK)
    sync()
    policy = row("stock").reliable_policy
    policy.overlap = "skip"
    policy.save()
    declare(stock={**STOCK, "jitter": 5})
    (change,) = sync().changes
    assert differences(change.kept) == {"overlap": ("skip", "allow")}
    policy.refresh_from_db()
    assert (policy.overlap, policy.jitter) == ("skip", timedelta(seconds=5))


def test_overwrite_lets_the_code_win(declare):
    """A schedule that is named for it follows the code in everything; the others keep edits."""
    declare(stock=STOCK, report=REPORT)
    sync()
    PeriodicTask.objects.update(queue="mail")
    report = sync(overwrite=["stock"])
    assert acts(report) == {"stock": "updated", "report": "unchanged"}
    assert (row("stock").queue, row("report").queue) == (None, "mail")


def test_row_that_was_there_before_is_adopted(declare):
    """A row of that name that no code had declared keeps what differs, and follows from then on."""
    hour, _ = IntervalSchedule.objects.get_or_create(every=60, period="minutes")
    PeriodicTask.objects.create(name="stock", task="shop.old_stock", interval=hour)
    declare(stock=STOCK)
    (change,) = sync().changes
    assert (change.act, change.set) == (Act.UNCHANGED, ())
    assert differences(change.kept) == {"task": ("shop.old_stock", "shop.stock")}
    declare(stock={**STOCK, "queue": "slow"})
    sync()
    assert (row("stock").task, row("stock").queue) == ("shop.old_stock", "slow")


def test_same_interval_in_other_units_is_no_difference(declare):
    """Sixty minutes are an hour."""
    hour = IntervalSchedule.objects.create(every=60, period="minutes")
    PeriodicTask.objects.create(name="stock", task="shop.stock", interval=hour)
    declare(stock=STOCK)
    (change,) = sync().changes
    assert (change.act, change.kept) == (Act.UNCHANGED, ())


def test_blanks_in_a_row_are_no_difference(declare):
    """A row with blanks, which Celery reads all the same, is compared as it is read."""
    line = CrontabSchedule.objects.create(minute="0, 30", hour="2")
    PeriodicTask.objects.create(name="stock", task="shop.stock", crontab=line)
    declare(stock={**STOCK, "schedule": "0,30 2 * * *"})
    (change,) = sync().changes
    assert (change.act, change.kept) == (Act.UNCHANGED, ())


@pytest.mark.parametrize("hour", ["99", "1-", ""])
def test_row_that_makes_no_sense_keeps_no_other_from_being_synced(declare, hour):
    """A row whose times cannot be read is told as an edit, and the others are synced."""
    declare(nightly={**STOCK, "schedule": "0 4 * * *"}, stock=STOCK)
    sync()
    CrontabSchedule.objects.update(hour=hour)
    declare(nightly={**STOCK, "schedule": "0 5 * * *"}, stock={**STOCK, "queue": "slow"})
    report = sync()
    assert acts(report) == {"nightly": "unchanged", "stock": "updated"}
    assert "Schedule 'nightly': when stays never as it was edited" in "\n".join(lines(report))
    sync(overwrite=["nightly"])
    assert str(row("nightly").crontab).startswith("0 5 * * *")


def test_removed_ones_are_disabled(declare):
    """What is no longer declared is disabled once, keeps its row, and is enabled on return."""
    declare(stock=STOCK, report=REPORT)
    sync()
    PeriodicTask.objects.update(last_run_at=timezone.now())
    declare(report=REPORT)
    assert acts(sync()) == {"report": "unchanged", "stock": "disabled"}
    assert (row("stock").enabled, row("stock").last_run_at) == (False, None)
    assert acts(sync()) == {"report": "unchanged"}
    declare(stock=STOCK, report=REPORT)
    assert acts(sync())["stock"] == "updated"
    assert row("stock").enabled


def test_removed_one_that_an_operator_had_disabled_stays_so(declare):
    """A schedule that came back is enabled only if it was the sync that had disabled it."""
    declare(stock=STOCK)
    sync()
    PeriodicTask.objects.update(enabled=False)
    declare()
    sync()
    declare(stock=STOCK)
    sync()
    assert not row("stock").enabled


def test_what_nobody_declared_is_left_alone(declare):
    """Rows that people made themselves, and those of another project, are never disabled."""
    hour = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(name="own", task="shop.own", interval=hour)
    declare(stock=STOCK)
    sync()
    DeclaredSchedule.objects.update(definition={"values": {}, "project": "another"})
    declare()
    assert acts(sync()) == {}
    assert row("own").enabled
    assert row("stock").enabled


def test_app_that_was_renamed_goes_on(declare):
    """A schedule that was declared under another app's name is taken over, edits minded."""
    declare(stock=STOCK)
    sync()
    kept = DeclaredSchedule.objects.get()
    kept.definition["project"] = "old name"
    kept.save()
    declare(stock={**STOCK, "queue": "slow"})
    assert acts(sync()) == {"stock": "updated"}
    declare()
    assert acts(sync()) == {"stock": "disabled"}


def test_dry_run_writes_nothing(declare):
    """A dry run tells the same as the sync would and leaves no trace."""
    declare(stock=STOCK)
    assert acts(sync(dry_run=True)) == {"stock": "created"}
    assert not PeriodicTask.objects.exists()
    sync()
    declare(report=REPORT)
    assert acts(sync(dry_run=True)) == {"report": "created", "stock": "disabled"}
    assert row("stock").enabled
    assert not DeclaredSchedule.objects.get().definition.get("removed")


def test_wrong_declaration_stops_everything(declare):
    """One wrong declaration, and nothing is written: what is missing must not look removed."""
    declare(stock=STOCK)
    sync()
    declare(report={**REPORT, "overlap": "never"})
    with pytest.raises(ConfigurationError, match="'overlap'"):
        sync()
    assert row("stock").enabled
    assert PeriodicTask.objects.count() == 1


def test_edit_between_look_and_write_is_kept(declare):
    """An edit that comes between the sync's look and its write is not overwritten."""
    declare(stock=STOCK)
    sync()
    looked_at, policy = row("stock"), row("stock").reliable_policy
    PeriodicTask.objects.update(queue="mail")
    with pytest.raises(module._TouchedMeanwhileError):
        module._update(looked_at, policy, {"queue": "slow"})
    SchedulePolicy.objects.update(overlap="skip")
    with pytest.raises(module._TouchedMeanwhileError):
        module._update(row("stock"), policy, {"overlap": "cancel"})
    assert (row("stock").queue, row("stock").reliable_policy.overlap) == ("mail", "skip")


@pytest.mark.parametrize(
    "error", [IntegrityError, ValidationError("taken"), module._TouchedMeanwhileError]
)
def test_sync_looks_again_when_somebody_was_faster(declare, monkeypatch, error):
    """Whoever made or edited the row meanwhile, the sync looks at it again and goes on."""
    declare(stock=STOCK)
    settle = module._settle

    def beaten_once(*given):
        monkeypatch.setattr(module, "_settle", settle)
        raise error

    monkeypatch.setattr(module, "_settle", beaten_once)
    assert acts(sync()) == {"stock": "created"}
    assert PeriodicTask.objects.count() == 1


def test_row_made_meanwhile_is_not_made_twice(declare):
    """The name is unique: a second row of it cannot be made."""
    declare(stock=STOCK)
    (declared,) = declarations()
    sync()
    with pytest.raises((IntegrityError, ValidationError)), transaction.atomic():
        module._create(declared, declared_values(declared))
    assert PeriodicTask.objects.count() == 1


def test_report_in_lines(declare):
    """What was done reads as sentences, with both sides of each difference."""
    declare(stock=STOCK, report=REPORT)
    sync()
    PeriodicTask.objects.filter(name="stock").update(queue="mail")
    declare(stock={**STOCK, "schedule": "0 * * * *", "queue": "slow"})
    assert list(lines(sync(dry_run=True))) == [
        "Schedule 'stock' would be updated: when from every 1 hours to 0 * * * * UTC.",
        'Schedule \'stock\': queue stays "mail" as it was edited; the code says "slow".',
        "Schedule 'report' would be disabled: no code declares it any more.",
    ]


# ------------------------------------------------------------------------------------ with migrate
def test_migrate_syncs(declare):
    """`migrate` writes the declared schedules and says so."""
    declare(stock=STOCK)
    out = io.StringIO()
    call_command("migrate", "reliable_tasks", stdout=out, verbosity=1)
    assert "Schedule 'stock' created." in out.getvalue()
    assert row("stock").enabled


def test_migrate_survives_a_wrong_declaration(declare, capsys):
    """A declaration that is wrong is told after the migration, which is done by then."""
    declare(stock={**STOCK, "overlap": "never"})
    config = apps.get_app_config("reliable_tasks")
    post_migrate.send(config, app_config=config, using="default", verbosity=1, plan=[])
    assert "were not synced: ConfigurationError" in capsys.readouterr().err
    assert not PeriodicTask.objects.exists()


@pytest.mark.parametrize("given", [{}, {"using": "other", "plan": []}])
def test_flush_and_other_databases_sync_nothing(declare, given):
    """Neither a flush nor the migration of another database has anything to do with schedules."""
    declare(stock=STOCK)
    sync_after_migrate(**{"using": "default", **given})
    assert not PeriodicTask.objects.exists()


def test_no_tables_no_sync(declare, monkeypatch):
    """Going back to before there were schedules does not fail for their tables."""
    gone = SimpleNamespace(table_names=lambda cursor: [])
    monkeypatch.setattr(connections["default"], "introspection", gone)
    declare(stock=STOCK)
    sync_after_migrate(using="default", plan=[])
    monkeypatch.undo()
    assert not PeriodicTask.objects.exists()
