"""What an operator does to schedules, in a real browser and under a strict policy."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from reliable_tasks import overview
from reliable_tasks.models import Occurrence, SchedulePolicy
from reliable_tasks.schedules import operations

LIST = "/admin/django_celery_beat/periodictask/"
ACTS = ("run_schedule", "pause_schedule", "backfill_schedule")
SIGHT = (
    *("view_periodictask", "change_periodictask", "view_occurrence", "view_entry"),
    "view_operatoract",
)


@pytest.fixture
def nightly(transactional_db):
    """Return a schedule with two runs behind it."""
    line = CrontabSchedule.objects.create(minute="30", hour="2", timezone="Europe/Berlin")
    schedule = PeriodicTask.objects.create(
        name="nightly report", task="tests.app.tasks.add", args="[1, 2]", crontab=line
    )
    operations.run_now(schedule, reason="a first try")
    operations.run_now(schedule, reason="a second")
    return schedule


@pytest.fixture
def operator(open_browser, staff):
    """Return a function that opens a browser as somebody who may act on schedules."""

    def opened(**options):
        return open_browser(staff(*ACTS, *SIGHT), **options)

    return opened


def shoot(page, name):
    """Keep a picture of the page where the environment asks for pictures."""
    if directory := os.environ.get("RELIABLE_TASKS_SCREENSHOTS"):
        page.screenshot(path=str(Path(directory) / f"{name}.png"), full_page=True)


def change_page(schedule):
    return reverse("admin:django_celery_beat_periodictask_change", args=[schedule.pk])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_a_schedule(operator, nightly, scheme):
    """The page shows words, next and last runs; a run leads to its entry; nothing is inline."""
    page = operator(color_scheme=scheme)
    page.goto(LIST)
    shoot(page, f"schedules-{scheme}")
    page.get_by_role("link", name="nightly report").click()
    page.get_by_text("At 02:30 (Europe/Berlin)").first.wait_for()
    tables = page.locator("table.reliable-tasks-runs")
    assert tables.nth(0).locator("tbody tr").count() == 10
    assert tables.nth(1).locator("tbody tr").count() == 2
    shoot(page, f"schedule-{scheme}")
    tables.nth(1).get_by_role("link").first.click()
    page.wait_for_url(re.compile("/reliable_tasks/entry/"))


def test_run_now(operator, nightly):
    """Run now asks, takes a reason, and the run is on the page."""
    page = operator()
    page.goto(change_page(nightly))
    page.get_by_role("link", name="Run now").click()
    assert Occurrence.objects.count() == 2
    page.get_by_label("Reason").fill("figures were wrong")
    shoot(page, "run-now")
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("was run:").wait_for()
    page.get_by_text("figures were wrong").first.wait_for()
    assert Occurrence.objects.count() == 3


def test_cancel_does_nothing(operator, nightly):
    """The way back from a confirmation leads to the schedule and changes nothing."""
    page = operator()
    page.goto(change_page(nightly))
    page.get_by_role("link", name="Run now").click()
    page.locator("form").get_by_role("link", name="Change nothing").click()
    page.wait_for_url(re.compile(change_page(nightly)))
    assert Occurrence.objects.count() == 2


def test_pause_with_an_end_and_resume(operator, nightly):
    """A pause needs a reason, takes an end from the browser's own picker, and can be ended."""
    page = operator()
    page.goto(change_page(nightly))
    page.get_by_role("link", name="Pause").click()
    until = overview.now() + timedelta(days=3)
    page.get_by_label("Reason").fill("the database moves")
    page.get_by_label("Until").fill(f"{until:%Y-%m-%dT%H:%M}")
    shoot(page, "pause")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("is paused.").wait_for()
    standing = operations.standing(nightly)
    assert standing.paused_until == until.replace(second=0, microsecond=0)
    page.get_by_text("the database moves").first.wait_for()
    page.get_by_text("will be skipped: paused").first.wait_for()
    shoot(page, "paused")
    page.get_by_role("link", name="Resume").click()
    page.get_by_label("Reason").fill("it has moved")
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("goes on.").wait_for()
    assert not operations.standing(nightly).paused
    page.goto("/admin/reliable_tasks/operatoract/")
    for act, reason in (("pause", "the database moves"), ("resume", "it has moved")):
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=act, exact=True))
        row.get_by_text("schedule nightly report").wait_for()
        row.get_by_text(reason).wait_for()


def test_backfill_from_the_list(operator, nightly):
    """Chosen in the list, a range is shown first and fired then; twice confirmed, once fired."""
    page = operator()
    page.goto(LIST)
    page.get_by_role("row").filter(has_text="nightly report").get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("reliable_backfill")
    page.get_by_role("button", name=re.compile("Go|Run")).first.click()
    page.get_by_label("From").fill("2026-03-28T00:00")
    page.get_by_label("To:").fill("2026-03-30T00:00")
    page.get_by_label("Reason").fill("beat was down")
    page.get_by_role("button", name="Show what would be fired").click()
    page.get_by_text("2026-03-29 03:00:00 CEST").wait_for()
    shoot(page, "backfill")
    assert Occurrence.objects.count() == 2
    page.get_by_role("button", name="Backfill a range").click()
    page.get_by_text("2 due times were fired").wait_for()
    assert Occurrence.objects.filter(trigger="backfill", outcome="fired").count() == 2


def test_policy_is_edited(operator, nightly):
    """The policy is on the schedule's page and saved with it."""
    page = operator()
    page.goto(change_page(nightly))
    page.locator("#id_reliable_policy-0-overlap").select_option("skip")
    page.locator("#id_reliable_policy-0-jitter").fill("00:00:30")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("was changed successfully").wait_for()
    policy = SchedulePolicy.objects.get()
    assert (policy.overlap, policy.jitter) == ("skip", timedelta(seconds=30))


def test_crontab_is_told_as_it_is_chosen(operator, nightly):
    """Choosing another crontab says at once what it means, without an inline script."""
    other = CrontabSchedule.objects.create(minute="*/15", hour="*", timezone="UTC")
    page = operator()
    page.goto(change_page(nightly))
    page.locator("#id_crontab").select_option(str(other.pk))
    page.locator(".reliable-tasks-words", has_text="Every 15 minutes").wait_for()


def test_without_scripts(operator, nightly):
    """Where scripts are off, an act is done all the same."""
    page = operator(java_script_enabled=False)
    page.goto(change_page(nightly))
    page.get_by_role("link", name="Run now").click()
    page.get_by_label("Reason").fill("figures were wrong")
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("was run:").wait_for()
    assert Occurrence.objects.count() == 3


def test_occurrences(operator, nightly):
    """The list of occurrences leads to schedule and entry."""
    page = operator()
    page.goto("/admin/reliable_tasks/occurrence/")
    assert page.get_by_role("link", name="nightly report").count() == 2
    shoot(page, "occurrences")


def test_on_a_telephone(operator, nightly):
    """On a narrow screen the page does not scroll sideways as a whole."""
    page = operator(viewport={"width": 390, "height": 800})
    page.goto(change_page(nightly))
    shoot(page, "telephone")
    page.get_by_role("link", name="Pause").click()
    shoot(page, "telephone-pause")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
