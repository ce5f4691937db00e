"""Schedules that cannot run are named beforehand: by `check`, by `doctor`, with what to do."""

from __future__ import annotations

import pytest
from django.core.checks import ERROR, WARNING
from django.urls import reverse

from reliable_tasks import ledger, overview
from reliable_tasks.checks import schedules as checks
from reliable_tasks.ledger import EMBEDDED_BEAT, WorkerReport
from reliable_tasks.management.diagnosis import OK, PROBLEM
from reliable_tasks.management.diagnosis import schedules as diagnosis
from reliable_tasks.models import BeatLease, ScheduleState
from reliable_tasks.schedules import declared, trouble
from reliable_tasks.schedules.trouble import Kind, troubles
from tests.app import argument_tasks  # noqa: F401 - its tasks are scheduled here
from tests.app.models import Item
from tests.checking import codes, use_app
from tests.schedules.making import ADD

DATABASES = ["default"]
TAKES_ITEM = "tests.app.argument_tasks.discard_item"


def report_worker(identity="w1#1", **versions):
    report = WorkerReport(identity, "w1", 1, "prefork", 1, ["celery"], versions)
    ledger.beat(report, draining=False, now=overview.now())


# -------------------------------------------------------------------------------- what is a trouble
def test_sound_schedule_has_no_trouble(make_schedule):
    """A schedule whose task takes its arguments has nothing to say."""
    assert troubles(make_schedule()) == []


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"task": "shop.gone"}, Kind.UNKNOWN_TASK, "There is no task 'shop.gone'."),
        ({"args": "[1, 2"}, Kind.NO_JSON, "The args are no JSON"),
        ({"args": '{"x": 1}'}, Kind.NO_JSON, "The args are JSON, but no list."),
        ({"kwargs": "[1]"}, Kind.NO_JSON, "The kwargs are JSON, but no object."),
        ({"headers": "x"}, Kind.NO_JSON, "The headers are no JSON"),
        ({"args": "[1]"}, Kind.WRONG_CALL, f"The task {ADD!r} does not take these arguments"),
        ({"kwargs": '{"z": 1}'}, Kind.WRONG_CALL, "does not take these arguments"),
    ],
)
def test_each_trouble_says_what_and_what_to_do(make_schedule, given, kind, text):
    """Each thing that would make every run fail is found by looking at the row."""
    (found,) = troubles(make_schedule(**given))
    assert found.kind == kind
    assert text in found.text
    assert found.remedy


def test_model_parameters_are_looked_up(make_schedule):
    """An argument that names a row is in order as long as the row is there."""
    item = Item.objects.create(name="x")
    schedule = make_schedule(task=TAKES_ITEM, args=f"[{item.pk}]")
    assert troubles(schedule) == []
    item.delete()
    (found,) = troubles(schedule)
    assert found.kind == Kind.MISSING_ROW
    assert "names what is not in testapp.Item" in found.text


def test_what_is_no_key_is_told(make_schedule):
    """An argument that can be no key of the model is a wrong call, in the task's own words."""
    (found,) = troubles(make_schedule(task=TAKES_ITEM, args='["three"]'))
    assert found.kind == Kind.WRONG_CALL
    assert "Pass a Item instance or its primary key" in found.text


def test_modules_that_cannot_be_imported_hide_no_other_trouble(make_schedule, monkeypatch):
    """Where the tasks cannot be known, no task is called unknown, and the rest is still told."""
    monkeypatch.setattr(trouble, "known_tasks", lambda: None)
    (found,) = troubles(make_schedule(task="shop.gone", args="["))
    assert found.kind == Kind.NO_JSON


# -------------------------------------------------------------------------------------- the checks
def test_check_names_schedules_alike_once(make_schedule):
    """Schedules with one trouble are one message; disabled ones are left out."""
    make_schedule("a", task="shop.gone")
    make_schedule("b", task="shop.gone")
    make_schedule("c", args="[")
    make_schedule("d", args="[1]")
    make_schedule("off", task="shop.gone_too", enabled=False)
    found = checks.check_rows(databases=DATABASES)
    assert codes(found) == ["W062", "W063", "W064"]
    assert found[0].obj == "schedule a, b"
    assert {message.level for message in found} == {WARNING}


def test_check_of_rows_asks_only_the_databases_it_is_given(
    make_schedule, django_assert_num_queries
):
    """Without a database, or with another one, no query is made."""
    make_schedule(task="shop.gone")
    with django_assert_num_queries(0):
        assert checks.check_rows() == []
        assert checks.check_rows(databases=["other"]) == []


def test_long_lists_are_cut(make_schedule, monkeypatch):
    """A thousand broken schedules are not a thousand messages."""
    monkeypatch.setattr(checks, "_MOST", 2)
    for number in range(4):
        make_schedule(f"s{number}", task=f"shop.gone{number}")
    assert codes(checks.check_rows(databases=DATABASES)) == ["W062", "W062"]


def test_embedded_beat_is_named(db):
    """A living worker with -B is named; one without is not."""
    report_worker(celery="5")
    assert checks.check_rows(databases=DATABASES) == []
    report_worker("w2#1", celery="5", **{EMBEDDED_BEAT: "yes"})
    found = checks.check_rows(databases=DATABASES)
    assert codes(found) == ["W060"]
    assert "w2#1" in found[0].msg


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("django_celery_beat.schedulers:DatabaseScheduler", ["W061"]),
        ("django", ["W061"]),
        ("reliable", []),
        ("celery.beat:PersistentScheduler", []),  # the default, which -S on the command line beats
    ],
)
def test_stock_scheduler_beside_declared_schedules(monkeypatch, settings, scheduler, expected):
    """The stock scheduler in the settings is a warning as soon as code declares schedules."""
    use_app(monkeypatch, beat_scheduler=scheduler)
    monkeypatch.setattr(declared, "_decorated", [])
    assert codes(checks.check_scheduler()) == []
    settings.RELIABLE_TASKS = {"SCHEDULES": {"a": {"task": "shop.a", "schedule": 60}}}
    assert codes(checks.check_scheduler()) == expected


def test_wrong_declaration_is_an_error(settings):
    """The message names the place, the key and the fix."""
    settings.RELIABLE_TASKS = {"SCHEDULES": {"a": {"task": "shop.a", "schedle": 60}}}
    (found,) = checks.check_declarations()
    assert codes([found]) == ["E055"]
    assert found.level == ERROR
    assert found.obj == "RELIABLE_TASKS['SCHEDULES']['a']"
    assert "Did you mean 'schedule'?" in found.msg


# -------------------------------------------------------------------------------------- the doctor
def levels(findings):
    return [(each.check, each.level) for each in findings]


def test_doctor_misses_a_beat(make_schedule):
    """Enabled schedules that no beat sees to are a problem; with a beat, or none enabled, none."""
    assert levels(diagnosis.beats()) == [("beat", OK)]
    schedule = make_schedule()
    (found,) = diagnosis.beats()
    assert (found.level, "-S reliable" in found.remedy) == (PROBLEM, True)
    at = overview.now()
    BeatLease.objects.create(
        name="beat", holder="beat@here", acquired_at=at, renewed_at=at, until=at
    )
    (found,) = diagnosis.beats()
    assert (found.level, found.summary) == (OK, "beat@here sees to 1 schedules")
    schedule.enabled = False
    schedule.save()
    assert levels(diagnosis.beats()) == [("beat", OK)]


def test_doctor_names_an_embedded_beat(db):
    """A beat inside a worker is a warning with the command that replaces it."""
    report_worker(**{EMBEDDED_BEAT: "yes"})
    assert levels(diagnosis.beats()) == [("beat", OK), ("beat", "warning")]


@pytest.mark.parametrize(
    ("given", "check", "text"),
    [
        ({"task": "shop.gone"}, "W062", "There is no task"),
        ({"args": "[1, 2"}, "W063", "The args are no JSON"),
        ({"args": "[1]"}, "W064", "does not take these arguments"),
        ({"task": TAKES_ITEM, "args": "[999]"}, "W065", "names what is not in testapp.Item"),
    ],
)
def test_each_trouble_is_told_everywhere(make_schedule, admin_client, given, check, text):
    """What is wrong with a schedule is named by `check`, by `doctor` and on its page."""
    schedule = make_schedule(**given)
    (found,) = checks.check_rows(databases=DATABASES)
    assert (codes([found]), text in found.msg) == ([check], True)
    assert text in next(diagnosis.schedules()).summary
    url = reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk])
    assert text in admin_client.get(url).content.decode()


def test_an_embedded_beat_is_told_everywhere(make_schedule, admin_client):
    """A beat inside a worker is named by `check`, by `doctor`, above the list and on each page."""
    schedule = make_schedule()
    addresses = [
        reverse("admin:django_celery_beat_periodictask_changelist"),
        reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk]),
    ]
    for address in addresses:
        assert "(-B)" not in admin_client.get(address).content.decode()
    report_worker("w2#1", **{EMBEDDED_BEAT: "yes"})
    assert codes(checks.check_rows(databases=DATABASES)) == ["W060"]
    assert any("w2#1 (-B)" in each.summary for each in diagnosis.beats())
    for address in addresses:
        text = admin_client.get(address).content.decode()
        assert "A beat runs inside a worker (-B): w2#1." in text


def test_doctor_tells_troubles_and_problems(make_schedule):
    """Schedules that cannot run, and those whose times cannot be told, are problems."""
    assert levels(diagnosis.schedules()) == [("schedules", OK)]
    make_schedule("a", task="shop.gone")
    broken = make_schedule("b")
    ScheduleState.objects.create(
        schedule=broken, handled_until=overview.now(), problem="It has no times."
    )
    first, second = diagnosis.schedules()
    assert (first.level, second.level) == (PROBLEM, PROBLEM)
    assert "schedule 'a': There is no task 'shop.gone'." in first.summary
    assert "It has no times." in second.summary
