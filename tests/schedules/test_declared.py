"""Schedules in code: what may be written, and what the message says when it may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab, schedule, solar
from django_celery_beat.clockedschedule import clocked
from django_celery_beat.tzcrontab import TzAwareCrontab

from reliable_tasks.errors import ConfigurationError
from reliable_tasks.schedules import declared, scheduled
from reliable_tasks.schedules.when import When, when_of
from tests.app.tasks import add

AT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def cron(line, zone):
    return When("crontab", {"cron": line, "timezone": zone})


def every(**length):
    return When("interval", {"microseconds": timedelta(**length) // timedelta(microseconds=1)})


@pytest.fixture
def decorated(monkeypatch):
    """Forget what the test decorates."""
    found = []
    monkeypatch.setattr(declared, "_decorated", found)
    return found


def read(**given):
    return declared.read("nightly", {"task": "shop.report", "schedule": 60, **given}, "HERE")


@pytest.mark.parametrize(
    ("given", "zone", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", cron("30 2 * * *", "Europe/Berlin")),
        ("*/5   9-17 * * mon-fri", None, cron("*/5 9-17 * * mon-fri", "UTC")),
        (crontab(minute=30, hour="2, 3"), None, cron("30 2,3 * * *", "UTC")),
        (crontab(minute=iter([30, 0]), hour=[2, 3]), None, cron("0,30 2,3 * * *", "UTC")),
        (
            TzAwareCrontab("0", "4", tz=ZoneInfo("Asia/Tokyo")),
            None,
            cron("0 4 * * *", "Asia/Tokyo"),
        ),
        (60, None, every(minutes=1)),
        (0.5, None, every(milliseconds=500)),
        (timedelta(hours=36), None, every(hours=36)),
        (schedule(timedelta(minutes=15)), None, every(minutes=15)),
        (
            solar("sunset", 52.5, 13.4),
            None,
            When("solar", {"event": "sunset", "latitude": "52.500000", "longitude": "13.400000"}),
        ),
        (clocked(AT), None, When("clocked", {"at": "2031-05-06T07:08:09+00:00"})),
    ],
)
def test_schedule_may_be_written_in_many_ways(given, zone, expected):
    """Cron lines, seconds, lengths of time and Celery's own objects all say when."""
    assert when_of(given, zone) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "30 2 * *"}, "has 4"),
        ({"schedule": "61 2 * * *"}, "is no cron line"),
        ({"schedule": "30 2 * * *", "timezone": "Mars/Olympus"}, "no time zone's name"),
        ({"schedule": 60, "timezone": "UTC"}, "an interval has no clock"),
        ({"schedule": 0}, "not greater than zero"),
        ({"schedule": True}, "must be a cron line"),
        ({"schedule": object()}, "must be a cron line"),
        ({"task": ""}, "'task' must be the name of a task"),
        ({"shedule": 60}, "there is no 'shedule'. Did you mean 'schedule'?"),
        ({"overlaps": "skip"}, "Did you mean 'overlap'?"),
        ({"overlap": "sometimes"}, "'overlap' is 'sometimes'"),
        ({"misfire_grace": 0}, "'misfire_grace' is 0"),
        ({"catch_up_limit": "many"}, "'catch_up_limit' is 'many'"),
        ({"args": "ab"}, "'args' must be list or tuple"),
        ({"args": [object()]}, "'args' must be JSON"),
        ({"priority": True}, "'priority' must be int"),
        ({"options": {"queu": "mail"}}, "Did you mean 'queue'?"),
        ({"start_time": datetime(2031, 1, 1)}, "has no time zone"),  # noqa: DTZ001
    ],
)
def test_what_is_wrong_is_named(given, message):
    """The error says where the declaration stands, which key is wrong, and what it may be."""
    with pytest.raises(ConfigurationError) as caught:
        read(**given)
    assert str(caught.value).startswith("HERE: ")
    assert message in str(caught.value)


def test_schedule_and_task_are_required():
    """Without a task or a time there is nothing to schedule."""
    with pytest.raises(ConfigurationError, match="'schedule' is missing"):
        declared.read("n", {"task": "shop.report"}, "HERE")
    with pytest.raises(ConfigurationError, match="'task' must be"):
        declared.read("n", {"schedule": 60}, "HERE")


def test_everything_else_is_filled_in():
    """What is left open has the defaults; lengths of time may be seconds; options may be nested."""
    found = read(options={"queue": "mail"}, jitter=90, kwargs={"a": [1]}, start_time=AT)
    assert found.row["queue"] == "mail"
    assert found.row["kwargs"] == {"a": [1]}
    assert found.row["start_time"] == AT.isoformat()
    assert (found.row["enabled"], found.row["one_off"]) == (True, False)
    assert found.policy == {"jitter": 90}


def test_clocked_schedule_is_one_off():
    """A clock strikes once, so the row says so without being told."""
    assert read(schedule=clocked(AT)).row["one_off"]


def test_decorator_and_settings_are_read_together(decorated, settings):
    """Both ways of declaring end up in one list, by name."""
    task = scheduled(60, name="often", args=[1])(add)
    same = scheduled("30 2 * * *", timezone="Europe/Berlin", overlap="skip")(task)

    settings.RELIABLE_TASKS = {"SCHEDULES": {"hourly": {"task": "shop.stock", "schedule": 3600}}}
    found = {each.name: each for each in declared.declarations()}
    assert list(found) == ["hourly", "often", add.name]
    assert found["often"].task == found[add.name].task == add.name
    assert found["often"].row["args"] == [1]
    assert found[add.name].when == cron("30 2 * * *", "Europe/Berlin")
    assert found[add.name].policy == {"overlap": "skip"}
    assert same is add


def test_name_is_declared_once(decorated, settings):
    """Two declarations of one name are refused, and both places are told."""
    scheduled(60, name="hourly")(add)
    settings.RELIABLE_TASKS = {"SCHEDULES": {"hourly": {"task": "shop.stock", "schedule": 3600}}}
    with pytest.raises(ConfigurationError, match=r"by RELIABLE_TASKS.*by @scheduled on tests\.app"):
        declared.declarations()


def test_decorator_in_the_wrong_place_is_refused():
    """@scheduled below @shared_task would see a plain function: it says so at import."""
    with pytest.raises(ConfigurationError, match="above @shared_task"):
        scheduled(60)(lambda: None)


def test_setting_must_be_a_mapping(settings):
    """A list of schedules is refused like any setting of the wrong type."""
    settings.RELIABLE_TASKS = {"SCHEDULES": [{"task": "shop.stock", "schedule": 3600}]}
    with pytest.raises(ConfigurationError, match="SCHEDULES"):
        declared.declarations()
