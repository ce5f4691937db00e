"""The page of charts: right, readable without eyes and without scripts, bounded in what it asks."""

from __future__ import annotations

import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.urls import reverse

from reliable_tasks import ledger, overview
from reliable_tasks.admin import charts
from reliable_tasks.admin.charts import Chart, Series
from reliable_tasks.admin.glance import WINDOWS
from reliable_tasks.failure import Failure
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.states import Outcome, State
from tests import entries

PAGE = "admin:reliable_tasks_overview_changelist"
EVIL = "<script>alert(1)</script>"


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def chart(*series, labels=("12:00", "12:01", "12:02"), **more):
    given = {"name": "c", "title": "T", "summary": "S", "text": lambda value: f"{value:g}"}
    return Chart(labels=labels, series=series, **{**given, **more})


def drawn(svg):
    return ET.fromstring(svg)


# ------------------------------------------------------------------------------------------ charts
def test_columns_stand_on_each_other():
    """The heights of stacked columns are in proportion, and none leaves the chart."""
    red, green = Series("dead", "died", [1.0, 0.0, 2.0]), Series("failed", "f", [3.0, 0.0, 2.0])
    root = drawn(charts.columns(chart(red, green)))
    bars = [each for each in root.iter("rect") if each.get("class") != "rt-hit"]
    assert [each.get("class") for each in bars] == ["rt-dead", "rt-failed"] * 2
    first, second = bars[:2]
    assert float(second.get("height")) == pytest.approx(3 * float(first.get("height")), abs=0.2)
    bottom = float(second.get("y")) + float(second.get("height"))
    assert bottom == pytest.approx(float(first.get("y")), abs=0.2)
    assert min(float(each.get("y")) for each in bars) >= 0


def test_the_smallest_count_is_seen():
    """One failure beside a million successes is drawn all the same."""
    root = drawn(
        charts.columns(chart(Series("a", "a", [1e6]), Series("b", "b", [1.0]), labels="x"))
    )
    (small,) = [each for each in root.iter("rect") if each.get("class") == "rt-b"]
    assert float(small.get("height")) >= 1


def test_lines_break_where_nothing_was_measured():
    """A gap in the values is a gap in the line; a value alone is a dot; larger is higher."""
    line = Series("p50", "p50", [0.01, 0.1, None, 5.0])
    root = drawn(charts.lines(chart(line, labels=list("abcd"))))
    (drawn_line,) = root.iter("polyline")
    ys = [float(point.split(",")[1]) for point in drawn_line.get("points").split()]
    (dot,) = root.iter("circle")
    assert ys[0] > ys[1] > float(dot.get("cy"))


@pytest.mark.parametrize("values", [[], [0.0], [None, None], [1e-9, 1e9]])
def test_any_values_can_be_drawn(values):
    """Nothing, zeros, gaps and extremes make a chart too, as well-formed XML."""
    labels = [str(n) for n in range(len(values))]
    for draw in (charts.columns, charts.lines):
        drawn(draw(chart(Series("a", "a", values), labels=labels)))


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0, [0, 1]),
        (3, [0, 1, 2, 3]),
        (10, [0, 5, 10]),
        (970, [0, 500, 1000]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (1_400, [0, 500, 1000, 1500]),
    ],
)
def test_ticks_are_round(highest, ticks):
    """An axis has a few round values, from zero to at least the highest."""
    assert charts.round_ticks(highest) == pytest.approx(ticks)


def test_a_chart_is_told_in_words():
    """A chart has a title and a description, and each step says its numbers, estimates marked."""
    found = chart(
        Series("a", "done", [1.0, 2.0, None]), title=f"T{EVIL}", estimated=[False, True, False]
    )
    root = drawn(charts.columns(found))
    assert root.get("role") == "img"
    ids = root.get("aria-labelledby").split()
    told = {each.get("id"): each.text for each in root if each.get("id")}
    assert [told[name] for name in ids] == [f"T{EVIL}", "S"]
    tips = [group.find("title").text for group in root.iter("g")]
    assert tips == ["12:00\ndone: 1", "12:01\ndone: ≈ 2", "12:02\ndone: -"]
    assert [cells for _, cells in found.rows] == [["1"], ["≈ 2"], ["-"]]


# -------------------------------------------------------------------------------------------- page
@pytest.fixture
def lively(db):
    """Give the test a ledger in which something of everything happened, with evil names."""
    for state in State:
        entries.in_state(state, now=ago(100))
    held = entries.running(now=ago(90), task=f"task{EVIL}", queue=f"queue{EVIL}")
    failure = Failure(f"app.Error{EVIL}", "no", "Traceback", "f" * 16)
    ledger.bury(held, failure, Outcome.TIMEOUT, reason="no", now=ago(80))
    held = entries.running(now=ago(90), task=f"task{EVIL}")
    ledger.succeed(held, now=ago(70))
    entries.enqueue(now=ago(60), queue=f"queue{EVIL}")
    ledger.beat(WorkerReport("w#1", "w", 1, "solo", 1, ["celery"], {}))


@pytest.mark.parametrize("window", WINDOWS)
def test_the_page_says_how_things_stand(lively, admin_client, window):
    """Throughput, failures, latencies, queues, outcomes and deaths are there, in each window."""
    answer = admin_client.get(reverse(PAGE), {"window": window})
    context = answer.context
    tiles = {tile["label"]: tile["value"] for tile in context["tiles"]}
    # What runs here was never renewed, but nobody has rescued it yet.
    wanted = {"Due and waiting": "3", "Due later": "0", "Running": "1", "Failed attempts": "3"}
    assert tiles.items() >= {**wanted, "Died": "2"}.items()
    assert [count for _, count in context["fleet"]] == [1, 0, 0]
    assert {row["label"]: row["count"] for row in context["outcomes"]} == {
        "succeeded": "2",
        "failed": "2",
        "timeout": "1",
    }
    assert [row["group"].count for row in context["groups"]] == [1, 1]
    assert {row["task"] for row in context["tasks"]} == {"tests.app.tasks.add", f"task{EVIL}"}
    text = answer.content.decode()
    assert text.count('<svg class="rt-chart"') == 4
    assert EVIL not in text


def test_an_empty_ledger_has_a_page(admin_client):
    """Where nothing ever happened, the page says so instead of failing."""
    text = admin_client.get(reverse(PAGE)).content.decode()
    for words in ("Nothing waits and nothing runs.", "Nothing died in this time."):
        assert words in text


def test_it_is_in_the_index_for_those_who_may_see_entries(client, db):
    """The admin's index links the page for whoever may view entries, and others are refused."""
    for permissions, code in (([], 403), (["view_entry"], 200)):
        user = User.objects.create_user(f"user{code}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        assert client.get(reverse(PAGE)).status_code == code
        linked = reverse(PAGE).encode() in client.get(reverse("admin:index")).content
        assert linked == (code == 200)


def test_it_asks_a_bounded_number_of_times(lively, admin_client, django_assert_num_queries):
    """The number of statements is the same for one entry and for many."""
    address = reverse(PAGE)
    admin_client.get(address)
    with django_assert_num_queries(12):
        admin_client.get(address)
    for _ in range(20):
        entries.in_state(State.DEAD, now=ago(5))
        entries.enqueue(now=ago(5), queue=f"q{_}")
    with django_assert_num_queries(12):
        admin_client.get(address)


def test_it_needs_no_script_and_no_inline_style(lively, admin_client):
    """The page's own content has no script, no style attribute, and no address of another host."""
    text = admin_client.get(reverse(PAGE), {"refresh": "30"}).content.decode()
    assert '<meta http-equiv="refresh" content="30">' in text
    own = text.partition('<div id="content-main"')[2].partition("<!-- END Content")[0]
    assert not re.search(r"<script|<style|\bstyle=|\bon\w+=|https?://", own)
    assert finders.find("reliable_tasks/overview.css")


@pytest.mark.parametrize(
    "query", [{"window": "../x"}, {"refresh": "0.1"}, {"window": "1h", "refresh": EVIL}]
)
def test_nonsense_in_the_address_is_ignored(admin_client, query):
    """What the address cannot mean falls back to an hour that is not loaded again."""
    context = admin_client.get(reverse(PAGE), query).context
    assert (context["window"], context["refresh"]) == ("1h", 0)
