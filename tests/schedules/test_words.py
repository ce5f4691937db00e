"""A cron line in words is what Celery does with it."""

from __future__ import annotations

from datetime import UTC, datetime

import celery
import pytest
from celery.schedules import crontab
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from reliable_tasks.schedules.words import cron_in_words, describe


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0 * * * *", "every hour, on the hour"),
        ("5 * * * *", "every hour, at 5 past"),
        ("0 */2 * * *", "every 2 hours, on the hour"),
        ("30 2 * * *", "at 02:30"),
        ("0 8,12,20 * * *", "at 08:00, 12:00 and 20:00"),
        ("0 9-17 * * 1-5", "every hour from 09:00 to 17:00, Monday to Friday"),
        ("*/15 9-17 * * mon-fri", "every 15 minutes from 09:00 to 17:45, Monday to Friday"),
        ("* 9-17 * * *", "every minute from 09:00 to 17:59"),
        ("* 1,5 * * *", "every minute in hours 1 and 5"),
        ("5,10 9-12 * * *", "at minutes 5 and 10 of hours 9\N{EN DASH}12"),
        ("1-7 * * * *", "at minutes 1\N{EN DASH}7 of every hour"),
        ("30 1,2,3,5,8,13,21 * * *", "at 01:30, 02:30, 03:30, 05:30, 08:30, 13:30 and 21:30"),
        ("0 0 1 1 *", "at 00:00, on day 1 of the month, in January"),
        ("0 0 1-7 6-8 *", "at 00:00, on days 1\N{EN DASH}7 of the month, from June to August"),
        ("0 10 * * 6,0", "at 10:00, Saturday and Sunday"),
    ],
)
def test_cron_line_in_words(line, words):
    """Each common shape of a cron line has the words that a person would use."""
    assert cron_in_words(*line.split()) == words


def test_day_of_month_and_day_of_week_both_count():
    """A line with both kinds of day says that both must fit, as Celery has it (cron does not)."""
    assert cron_in_words("0", "9", "13", "*", "5") == (
        "at 09:00, on day 13 of the month if that is a Friday"
    )
    friday_13th = crontab("0", "9", "5", "13", "*")
    assert (friday_13th.day_of_month, friday_13th.day_of_week) == ({13}, {5})


NEVER = pytest.param(
    "0 0 31 2 *",
    marks=pytest.mark.skipif(celery.VERSION < (5, 7), reason="Celery takes it, and is never due"),
)


@pytest.mark.parametrize("line", ["x * * * *", "0 25 * * *", NEVER])
def test_line_that_means_nothing_says_so(line):
    """A line that Celery cannot read, or that no day fits, is shown and not guessed at."""
    assert cron_in_words(*line.split()) == f"never: {line!r} is no cron line"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"crontab": CrontabSchedule(minute="30", hour="2", timezone="Europe/Berlin")},
            "at 02:30 (Europe/Berlin)",
        ),
        ({"interval": IntervalSchedule(every=1, period="hours")}, "every hour"),
        ({"interval": IntervalSchedule(every=90, period="seconds")}, "every 90 seconds"),
        (
            {"solar": SolarSchedule(event="sunrise", latitude="52.5", longitude="13.4")},
            "daily at sunrise, 52.5, 13.4",
        ),
        (
            {"clocked": ClockedSchedule(clocked_time=datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC))},
            "once, at 2031-05-06 07:08:09 UTC",
        ),
        ({}, "never: it has no times"),
    ],
)
def test_every_kind_of_schedule_has_words(columns, words):
    """Cron lines name their time zone; intervals, the sun and the clock have words of their own."""
    assert describe(PeriodicTask(name="s", **columns)) == words
