"""The account of the schedules says no whenever a due time or a run is not right."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from example_project import settings as shop_settings
from example_project.shop import routine, tasks
from example_project.shop.models import Reminder
from example_project.shop.routine import CHORES, Ran, close_shop, collect_routine, judge
from reliable_tasks.models import Entry, Occurrence
from reliable_tasks.schedules import operations
from reliable_tasks.schedules.sync import sync

ONE, TWO = UUID(int=1), UUID(int=2)
T0 = datetime(2031, 5, 6, 7, 0, tzinfo=UTC)
DUES = [T0, T0 + timedelta(minutes=1), T0 + timedelta(minutes=2)]
RIGHT = Ran(
    name="reminder",
    expected=frozenset(DUES),
    handled=Counter(DUES),
    fired=frozenset({ONE, TWO}),
    unexplained=0,
    ended=frozenset({ONE, TWO}),
    left=Counter({ONE: 1, TWO: 1}),
)


@pytest.fixture
def schedules(shop, settings):
    """Make the rows of the schedules that the shop declares."""
    settings.RELIABLE_TASKS = shop_settings.RELIABLE_TASKS
    sync(import_tasks=False)
    return {row.name: row for row in PeriodicTask.objects.all()}


def test_all_accounted_for_is_right():
    """Two due times fired and one was skipped with its reason: nothing to complain of."""
    (finding,) = judge([RIGHT])
    assert finding.right
    assert finding.detail == "2 fired, 1 not, each with its reason"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"handled": Counter(DUES[:2])}, "1 due times that nobody accounted for"),
        ({"handled": Counter([*DUES, DUES[0]])}, "1 due times handled twice"),
        ({"unexplained": 1}, "1 without a reason"),
        ({"left": Counter({ONE: 1})}, "1 runs that left nothing"),
        ({"left": Counter({ONE: 2, TWO: 1})}, "1 runs that left several"),
        ({"ended": frozenset({ONE})}, "1 not ended well"),
    ],
)
def test_each_fault_is_named(change, words):
    """A due time that is missing or doubled, or a run that is, is found and named."""
    (finding,) = judge([replace(RIGHT, **change)])
    assert not finding.right
    assert words in finding.detail


def test_nothing_handled_is_not_right():
    """An account of nothing proves nothing."""
    nothing = replace(RIGHT, expected=frozenset(), handled=Counter(), fired=frozenset())
    assert not judge([nothing])[0].right


def test_due_times_are_those_of_the_schedules(schedules):
    """What is counted by hand is what the schedules' cron lines say."""
    since = timezone.now()
    for chore in CHORES:
        runs = operations.next_runs(schedules[chore.name], 3, after=since)
        expected = chore.dues(since, since + 4 * chore.every)
        assert [run.due_at for run in runs] == list(expected)[:3]
        assert schedules[chore.name].task == chore.task


def test_the_shops_schedules_make_up_for_its_absence(schedules, django_capture_on_commit_callbacks):
    """After a night without a beat, what ran and what did not adds up, to the minute."""
    from reliable_tasks.schedules.beat import Beat
    from tests.celery_app import app

    since = timezone.now() - timedelta(hours=26)
    close_shop(since)
    with django_capture_on_commit_callbacks(execute=False):
        beat = Beat(app)
        for _ in range(3):
            beat.turn()
        beat.stop()
    for entry in Entry.objects.exclude(task="celery.backend_cleanup"):
        chore = next(each for each in CHORES if each.task == entry.task)
        figures = {"SalesReport": {"orders": 0, "payments": 0, "turnover": 0}}
        figures |= {"StockCheck": {"units_sold": 0}, "Reminder": {"unpaid": 0}}
        chore.leaves.objects.create(entry=entry.pk, **figures[chore.leaves.__name__])
    Entry.objects.update(state="succeeded")

    findings = judge(collect_routine(since))

    assert [finding.detail for finding in findings if not finding.right] == []
    fired = Occurrence.objects.filter(outcome="fired")
    assert fired.filter(schedule__name="nightly report").count() == 1
    assert fired.filter(schedule__name="stock check").count() == 1
    # The five that are made up for, and those of the last minute, which are in time.
    assert 5 < fired.filter(schedule__name="reminder").count() <= 8
    Reminder.objects.create(entry=Entry.objects.filter(task="shop.remind").first().pk, unpaid=0)
    assert not all(finding.right for finding in judge(collect_routine(since)))


def test_each_chore_leaves_one_row_with_its_entry(order, django_capture_on_commit_callbacks):
    """Each scheduled task writes one row, and names the entry that wrote it."""
    chores = [(tasks.report_sales, 0), (tasks.check_stock, 1), (tasks.remind, 2)]
    for task, number in chores:
        result = task.apply()
        row = CHORES[number].leaves.objects.get()
        assert str(row.entry) == result.id
    assert Reminder.objects.get().unpaid == 1
    assert routine.StockCheck.objects.get().units_sold == 1
