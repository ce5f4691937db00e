"""The overview and the workers as people use them, under a strict policy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reliable_tasks import ledger, operations, overview
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.states import State
from tests import entries

OVERVIEW = "/admin/reliable_tasks/overview/"
WORKERS = "/admin/reliable_tasks/workerprocess/"
ALIVE, SILENT = "celery@web1#aaaa1111", "celery@batch1#bbbb2222"
SIGHT = ("view_entry", "view_workerprocess", "view_pause")


def ago(**length):
    return overview.now() - timedelta(**length)


def beat(identity, at, **more):
    report = WorkerReport(
        identity, identity.partition("#")[0], 7, "prefork", 4, ["celery"], {"celery": "5.6.0"}
    )
    ledger.beat(report, now=at, **more)


@pytest.fixture
def lively(transactional_db):
    """Write a ledger in which something succeeded, died, runs, and waits; return what runs."""
    at = ago(minutes=3)
    for _ in range(4):
        ledger.succeed(entries.running(now=at), now=at + timedelta(seconds=1))
    for _ in range(2):
        entries.bury(entries.running(now=at), now=at)
    entries.enqueue(now=at, queue="mail")
    # The workers of this test do not renew any lease: it is long enough for the test.
    now = overview.now()
    beat(ALIVE, now + timedelta(minutes=5))
    beat(SILENT, ago(minutes=9))
    held = entries.enqueue(now=at)
    assert ledger.claim(held, ALIVE, lease=15) is not None
    return held


def tile(page, label):
    """Return what a tile of the overview says."""
    found = page.locator(".rt-tile").filter(has=page.get_by_text(label, exact=True))
    return found.locator("dd").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_at_a_glance(open_browser, staff, lively, scheme):
    """The tiles, the tables and the charts say what the ledger has."""
    page = open_browser(staff(*SIGHT), color_scheme=scheme)
    page.goto(OVERVIEW)
    assert tile(page, "Running") == "1"
    assert tile(page, "Died") == "2"
    assert tile(page, "Due and waiting").startswith("1")
    assert "1 alive" in tile(page, "Workers")
    assert "1 silent" in tile(page, "Workers")
    assert page.get_by_role("img").count() >= 4
    dying = page.get_by_role("region", name="What died of what").get_by_role("row")
    assert dying.nth(1).inner_text().split()[:3] == ["GatewayDown", "tests.app.tasks.add", "2"]


def test_from_the_overview_to_what_died(open_browser, staff, lively):
    """A cause of deaths leads to its entries; the other windows are a click away."""
    page = open_browser(staff(*SIGHT))
    page.goto(OVERVIEW)
    page.get_by_role("link", name="24 hours").click()
    assert page.get_by_role("link", name="24 hours").get_attribute("aria-current") == "true"
    assert tile(page, "Died") == "2"
    page.get_by_role("link", name="GatewayDown").click()
    page.wait_for_url("**/reliable_tasks/entry/**")
    assert page.locator("#result_list tbody tr").count() == 2


def test_the_numbers_of_a_chart_are_a_table(open_browser, staff, lively):
    """Who cannot see a chart opens the same numbers as a table, by keyboard."""
    page = open_browser(staff(*SIGHT))
    page.goto(OVERVIEW)
    figure = page.locator("figure").filter(has_text="Failed attempts and deaths, a minute")
    assert not figure.locator("table").is_visible()
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    figure.locator("table").wait_for()
    heads = figure.locator("thead th").all_inner_texts()
    assert [text.lower() for text in heads] == ["from", "died", "failed attempts"]
    died = figure.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert sum(float(text) for text in died) == 2


def test_a_pause_is_the_first_that_one_sees(open_browser, staff, lively):
    """What is paused stands on top, by whom, why and until when, and at its queue."""
    operations.pause(
        *("queue", "mail", "The provider moves."),
        by="ben with manage.py",
        ends_at=overview.now() + timedelta(hours=1),
    )
    page = open_browser(staff(*SIGHT))
    page.goto(OVERVIEW)
    notice = page.locator(".rt-notice")
    for words in ("Queue mail is paused", "until", "ben with manage.py", "The provider moves."):
        assert words in notice.inner_text()
    queues = page.get_by_role("region", name="What waits, by queue")
    assert "paused" in queues.get_by_role("row").filter(has_text="mail").inner_text()
    notice.get_by_role("link", name="Pauses").click()
    page.wait_for_url("**/reliable_tasks/pause/")


def test_it_loads_again_by_itself(open_browser, staff, lively):
    """Asked to load again, the page does, without a script."""
    page = open_browser(staff(*SIGHT), java_script_enabled=False)
    page.goto(OVERVIEW)
    page.get_by_role("link", name="every 10 s").click()
    assert page.locator('meta[http-equiv="refresh"]').get_attribute("content") == "10"
    page.get_by_role("link", name="never").click()
    assert page.locator('meta[http-equiv="refresh"]').count() == 0


def test_the_overview_on_a_telephone(open_browser, staff, lively):
    """On a narrow screen the page does not scroll sideways as a whole."""
    page = open_browser(staff(*SIGHT), viewport={"width": 390, "height": 800})
    page.goto(OVERVIEW)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0


def test_from_the_overview_to_what_a_worker_runs(open_browser, staff, lively):
    """The overview leads to the workers, a worker to what it runs, and that to the entry."""
    page = open_browser(staff(*SIGHT))
    page.goto(OVERVIEW)
    page.locator("#content").get_by_role("link", name="Workers").click()
    page.wait_for_url(f"**{WORKERS}")
    rows = page.locator("#result_list tbody tr")
    silent, alive = rows.filter(has_text=SILENT), rows.filter(has_text=ALIVE)
    assert "silent" in silent.inner_text()
    assert "alive" in alive.inner_text()
    assert "1 / 4" in " ".join(alive.inner_text().split())
    page.get_by_role("link", name=ALIVE).click()
    page.locator("#content").get_by_role("link", name="tests.app.tasks.add").click()
    page.wait_for_url(f"**/{lively}/change/**")
    assert entries.state(lively) is State.RUNNING


def test_whoever_may_not_see_workers_gets_no_link(open_browser, staff, lively):
    """Staff that sees entries only gets the numbers of the workers and no way to their page."""
    page = open_browser(staff("view_entry"))
    page.goto(OVERVIEW)
    assert "1 alive" in tile(page, "Workers")
    assert page.locator("#content").get_by_role("link", name="Workers").count() == 0
