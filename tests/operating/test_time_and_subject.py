"""Lists of entries by a range of time and by what they are about, and acts on what these show."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urlencode
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reliable_tasks import overview
from reliable_tasks.admin import searching, window
from reliable_tasks.admin.labels import known_labels, label_of, labels_of
from reliable_tasks.admin.moments import moment_of, typed
from reliable_tasks.ids import new_id
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from tests.app.once_tasks import square

pytestmark = pytest.mark.django_db

LIST = "admin:reliable_tasks_entry_changelist"
NIGHT = datetime(2021, 3, 28, 2, 0, tzinfo=UTC)


def id_at(at):
    """Return an id as a process makes it at some time."""
    milliseconds = int(at.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | new_id().int & (2**80 - 1))


def at_night(minutes, **given):
    """Write an entry that was enqueued so many minutes after two in the night."""
    at = NIGHT + timedelta(minutes=minutes)
    return entries.enqueue(now=at, **{"id": id_at(at), **given})


def listed(client, address=None, **query):
    answer = client.get(address or reverse(LIST), query)
    assert answer.status_code == 200
    return [entry.pk for entry in answer.context["cl"].result_list]


def notes(client, **query):
    return [str(note) for note in client.get(reverse(LIST), query).context["messages"]]


def fields(client, **query):
    """Return the values of the filters' fields as the page shows them."""
    text = client.get(reverse(LIST), query).content.decode()
    found = re.findall(
        r'<input type="(?:text|datetime-local)" [^>]*?name="(\w+)" value="(.*?)"', text
    )
    return {name: unescape(value) for name, value in found}


# -- a range of time -------------------------------------------------------------------------------
def test_a_range_of_time_has_a_beginning_and_an_end(admin_client):
    """Listed is what was enqueued from the one moment on and before the other."""
    made = {minutes: at_night(minutes) for minutes in (0, 14, 20, 44, 50)}
    found = listed(admin_client, since="2021-03-28T02:14", until="2021-03-28T02:44")
    assert found == [made[20], made[14]]
    assert listed(admin_client, since="2021-03-28T02:44") == [made[50], made[44]]
    assert listed(admin_client, until="2021-03-28T02:14:00.001Z") == [made[14], made[0]]
    assert listed(admin_client, since="2021-03-28", until="2021-03-29") == list(made.values())[::-1]


def test_a_range_narrows_down_with_the_other_filters(admin_client):
    """A range of time and a queue, a state or a subject must all match."""
    wanted = at_night(5, queue="mail", subject_type="shop.order", subject_id="17")
    at_night(5)
    at_night(50, queue="mail", subject_type="shop.order", subject_id="17")
    until = "2021-03-28T02:30"
    assert listed(admin_client, until=until, queue="mail") == [wanted]
    assert listed(admin_client, until=until, state="pending", queue="mail") == [wanted]
    about = {"subject_type": "shop.order", "subject_id": "17"}
    assert listed(admin_client, until=until, **about) == [wanted]
    assert listed(admin_client, since=until, until=until) == []


def test_moments_are_in_the_readers_time_zone(admin_client):
    """What is typed is meant in the current time zone, which the page names, and shown in it."""
    wanted = at_night(20)
    at_night(80)
    with override_settings(TIME_ZONE="Asia/Shanghai"):
        query = {"since": "2021-03-28T10:14", "until": "2021-03-28T10:44"}
        assert listed(admin_client, **query) == [wanted]
        shown = fields(admin_client, since="2021-03-28T02:14:00+00:00", until=query["until"])
        assert (shown["since"], shown["until"]) == ("2021-03-28T10:14", "2021-03-28T10:44")
        assert "Time zone: Asia/Shanghai" in admin_client.get(reverse(LIST)).content.decode()


def test_a_range_holds_an_hour_that_comes_twice_in_whole(admin_client):
    """In the night in which clocks go back, a range ends with the second of two equal times."""
    first = datetime(2021, 10, 31, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, for the first time
    made = []
    for minutes in (-31, 0, 59, 61):
        at = first + timedelta(minutes=minutes)
        made.append(entries.enqueue(now=at, id=id_at(at)))
    query = {"since": "2021-10-31T02:30", "until": "2021-10-31T02:30"}
    with override_settings(TIME_ZONE="Europe/Berlin"):
        assert listed(admin_client, **query) == [made[2], made[1]]


@pytest.mark.parametrize(
    ("text", "late", "wanted"),
    [
        ("2026-10-25T02:30", False, "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T02:30", True, "2026-10-25T01:30:00+00:00"),
        ("2026-07-01", False, "2026-06-30T22:00:00+00:00"),
        (" 2026-07-01T00:00:05.5Z ", True, "2026-07-01T00:00:05.500000+00:00"),
    ],
)
def test_a_moment_is_told_from_its_text(text, late, wanted):
    """An hour that comes twice is read so that a range holds both; an offset is heeded."""
    with timezone.override(ZoneInfo("Europe/Berlin")):
        assert moment_of(text, late=late).isoformat() == wanted


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-02-30T10:00", "0001-01-01T00:00+05:00", "9" * 400]
)
def test_what_is_no_moment_is_none(text):
    """Text that is no time, or one that no calendar has, is no error and no time."""
    assert moment_of(text) is None
    assert typed(text) == ""


@pytest.mark.parametrize("text", ["0001-01-01T00:00Z", "9999-12-31T23:59Z"])
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_first_and_the_last_day_are_no_error(admin_client, text, zone):
    """Moments that have no time in the reader's zone are no error."""
    with override_settings(TIME_ZONE=zone):
        assert listed(admin_client, since=text) == []
        assert listed(admin_client, until=text) == []


@pytest.mark.parametrize(
    "query",
    [
        {"since": "yesterday"},
        {"until": "2026-02-30"},
        {"since": "2021-03-28T03:00", "until": "2021-03-28T02:00"},
    ],
)
def test_a_wrong_range_shows_nothing_and_says_why(admin_client, query):
    """A range that cannot be understood never shows, nor offers to touch, more than was meant."""
    at_night(5)
    answer = admin_client.get(reverse(LIST), query)
    assert list(answer.context["cl"].result_list) == []
    assert re.search(r'errornote">“.*” is (no time|not later)', answer.content.decode())


@pytest.mark.parametrize("year", ["1600", "9998"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_no_year_is_an_error(admin_client, name, year):
    """Moments far away from any entry choose all or nothing."""
    entry = entries.enqueue(now=None)
    everything = (name == "since") == (year == "1600")
    assert listed(admin_client, **{name: f"{year}-01-01"}) == [entry] * everything


def test_a_period_takes_the_place_of_a_range(admin_client):
    """The links of the periods leave the typed moments out, and the fields leave the period out."""
    answer = admin_client.get(reverse(LIST), {"since": "2021-03-28", "queue": "mail"})
    text = unescape(answer.content.decode())
    assert "?queue=mail&period=1h" in text or "?period=1h&queue=mail" in text
    text = admin_client.get(reverse(LIST), {"period": "1h", "queue": "mail"}).content.decode()
    form = next(each for each in text.split("<form ") if 'name="since"' in each)
    form = form.partition("</form>")[0]
    assert 'name="queue" value="mail"' in form
    assert "period" not in form


def test_an_act_takes_what_the_range_shows(admin_client):
    """All that match a range and a subject are those that the list shows, and no others."""
    about = {"subject_type": "shop.order", "subject_id": "17"}
    wanted = at_night(20, **about)
    others = [at_night(50, **about), at_night(20)]
    query = {"since": "2021-03-28T02:10", "until": "2021-03-28T02:30", **about}
    answer = admin_client.get(reverse(LIST), {**query, "subject_type": "Order"})
    address = {verb.name: url for verb, url in answer.context["acts_on_all"]}["cancel"]
    shown = admin_client.get(address)
    assert shown.context["preview"].count == 1
    form = [*shown.context["fields"], ("confirmed", "yes"), ("reason", "Because.")]
    data = {name: [value for key, value in form if key == name] for name, _ in form}
    answer = admin_client.post(shown.context["action_url"], data)
    assert answer.status_code == 302
    assert "since=2021-03-28T02%3A10" in answer["Location"]
    assert entries.state(wanted) is State.CANCELLED
    assert {entries.state(pk) for pk in others} == {State.PENDING}


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"until": "soon", "state": "dead"}])
def test_no_act_goes_by_what_is_no_time(admin_client, query):
    """An act on a range that cannot be understood is refused, not done to everything."""
    address = reverse("admin:reliable_tasks_entry_act", args=["cancel"])
    at_night(5)
    answer = admin_client.get(address, query, follow=True)
    assert "is no time." in str(next(iter(answer.context["messages"])))


# -- windows ---------------------------------------------------------------------------------------
@pytest.fixture
def small(monkeypatch):
    """Make windows so small that a test fills them."""
    monkeypatch.setattr(window, "WINDOW", 4)
    monkeypatch.setattr(window, "ENDED_WINDOW", 4)


def test_a_range_in_the_past_is_found_behind_any_number_of_newer(admin_client, small):
    """A window begins where the range ends, however many entries came later."""
    wanted = [at_night(minutes, queue="mail") for minutes in (0, 1, 2)]
    for _ in range(9):
        entries.enqueue(now=None)
    query = {"since": "2021-03-28T02:00", "until": "2021-03-28T02:30"}
    assert listed(admin_client, **query) == wanted[::-1]
    assert notes(admin_client, **query) == []


def test_a_range_goes_on_from_window_to_window(admin_client, small):
    """Links lead through all of a range, and end with it."""
    for minutes in (-500, 500):
        at_night(minutes)
    wanted = [at_night(minutes, queue=f"q{minutes % 2}") for minutes in range(11)]
    query = {"since": "2021-03-28T02:00", "until": "2021-03-28T02:30", "queue": "q0"}
    found, address, windows = [], f"{reverse(LIST)}?{urlencode(query)}", 0
    while address:
        windows += 1
        answer = admin_client.get(address)
        found += [entry.pk for entry in answer.context["cl"].result_list]
        links = [re.search(r'href="([^"]+)"', str(note)) for note in answer.context["messages"]]
        address = reverse(LIST) + unescape(links[0][1]) if links else ""
    assert found == wanted[::-2]
    assert windows == 3


def test_clocks_may_disagree(admin_client):
    """An id whose process's clock was off by minutes does not hide its entry."""
    at = NIGHT + timedelta(minutes=20)
    pair = [entries.enqueue(now=at, id=id_at(at + timedelta(minutes=off))) for off in (-9.5, 9.5)]
    found = listed(admin_client, since="2021-03-28T02:20", until="2021-03-28T02:21")
    assert found == pair[::-1]


def test_ids_that_tell_no_time_are_listed_apart(admin_client, small):
    """Steps of a canvas have ids of Celery's; a range says so and links those of its time."""
    wanted = at_night(5)
    step = at_night(6, id=UUID(int=uuid4().int | 0xF << 124))
    at_night(90, id=UUID(int=uuid4().int | 0xF << 124))
    query = {"since": "2021-03-28T02:00", "until": "2021-03-28T02:30"}
    answer = admin_client.get(reverse(LIST), query)
    assert [row.pk for row in answer.context["cl"].result_list] == [wanted]
    (note,) = map(str, answer.context["messages"])
    assert note.startswith("Steps of a canvas")
    address = reverse(LIST) + unescape(re.search(r'href="([^"]+)"', note)[1])
    answer = admin_client.get(address)
    assert [row.pk for row in answer.context["cl"].result_list] == [step]
    assert list(answer.context["messages"]) == []


def test_many_ids_that_tell_no_time_do_not_bury_the_newest(admin_client):
    """The steps of canvases would fill the first pages for ever; so they are listed apart."""
    newest = [entries.enqueue(now=None) for _ in range(2)]

    def steps(count):
        return [
            entries.enqueue(now=None, id=UUID(int=uuid4().int | 0xF << 124)) for _ in range(count)
        ]

    few = steps(20)
    for query in ({}, {"task": "tests.app.tasks.add"}):
        assert set(listed(admin_client, **query)) == {*newest, *few}
        assert notes(admin_client, **query) == []
    every = {*few, *steps(1)}
    for query in ({}, {"task": "tests.app.tasks.add"}):
        answer = admin_client.get(reverse(LIST), query)
        assert [row.pk for row in answer.context["cl"].result_list] == newest[::-1]
        (note,) = map(str, answer.context["messages"])
        address = reverse(LIST) + unescape(re.search(r'href="([^"]+)"', note)[1])
        answer = admin_client.get(address)
        assert {row.pk for row in answer.context["cl"].result_list} == every
        assert list(answer.context["messages"]) == []


def test_ids_that_tell_no_time_hide_nothing_from_a_search(admin_client, monkeypatch):
    """A search by an argument's value looks at the newest of both kinds of ids."""
    monkeypatch.setattr(searching, "LOOKED_AT", 3)
    wanted = entries.enqueue(now=None, kwargs='{"x": 17}')
    for _ in range(25):
        entries.enqueue(now=None, id=UUID(int=uuid4().int | 0xF << 124))
    assert listed(admin_client, q="x=17") == [wanted]


def test_the_link_to_older_ones_keeps_the_period(admin_client, small):
    """What was narrowed down to an hour stays narrowed down from window to window."""
    for number in range(12):
        entries.enqueue(now=None, queue=f"q{number % 2}")
    (note,) = notes(admin_client, period="1h", queue="q0")
    assert "period=1h" in note
    assert "queue=q0" in note


def test_another_filter_begins_at_the_newest_again(admin_client, small):
    """Pages go on within an older window; filters and the search leave it."""
    made = [entries.enqueue(now=None, queue="mail") for _ in range(9)]
    page = admin_client.get(reverse(LIST), {"before": str(made[6]), "task": "tests.app.tasks.add"})
    shown = page.context["cl"]
    assert f"before={made[6]}" in shown.get_query_string({"p": 2})
    assert "before" not in shown.get_query_string({"queue": "mail"})
    assert "before" not in shown.get_query_string(remove=["task"])
    text = page.content.decode()
    assert 'name="before"' not in text  # the search form repeats the filters
    links = [link for link in re.findall(r'href="(\?[^"]*)"', text) if "before=" in link]
    assert len(links) <= 1  # to the window before this one


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
def test_what_ended_is_looked_at_back_to_the_beginning_of_a_range(admin_client, small, state):
    """Of one state, what ended before the range began is not looked at."""
    now = overview.now()
    for minutes in (50, 49, 48, 47, 46):
        entries.in_state(state, now=now - timedelta(minutes=minutes))
    wanted = [entries.in_state(state, now=now - timedelta(minutes=m)) for m in (3, 2)]
    query = {"state": state.value, "since": (now - timedelta(minutes=5)).isoformat()}
    assert listed(admin_client, **query) == wanted[::-1]
    assert notes(admin_client, **query) == []


# -- what they are about ---------------------------------------------------------------------------
ORDER = {"subject_type": "shop.order", "subject_id": "17"}


@pytest.mark.parametrize(
    "query",
    [
        ORDER,
        {"subject_type": "Order", "subject_id": "17"},
        {"subject_type": " shop.Order ", "subject_id": "17 "},
        {"subject_id": "17", "queue": "mail"},
        {"subject_type": "order", "queue": "mail"},
        *({"q": text} for text in ("order:17", "order 17", "shop.Order 17", "shop.order:17")),
        *({"q": text} for text in (" Order #17 ", "order: 17", "shop.ORDER  17")),
        {"q": "order 17", "state": "pending"},
    ],
    ids=str,
)
def test_entries_are_found_by_what_they_are_about(admin_client, query):
    """A filter and a search find the entries of one row, by its model's name in any form."""
    wanted = entries.enqueue(queue="mail", **ORDER)
    entries.enqueue(subject_type="shop.order", subject_id="170")
    entries.enqueue(subject_type="shop.product", subject_id="17")
    entries.enqueue()
    assert listed(admin_client, **query) == [wanted]


@pytest.mark.parametrize(
    "query",
    [
        {"subject_type": "nothing", "subject_id": "17"},
        {"q": "nothing:17"},
        {"q": "order:18"},
        {"q": "order:1' OR 1=1"},
        {"q": "order:" + "9" * 2_000},
    ],
    ids=lambda query: str(query)[:40],
)
def test_what_nothing_is_about_finds_nothing(admin_client, query):
    """A model that is not there, or a key that no entry has, finds nothing."""
    entries.enqueue(**ORDER)
    assert listed(admin_client, **query) == []


def test_a_key_that_looks_like_a_row_is_found(admin_client):
    """A dedup key of that text is found where no entry is about such a row."""
    entry = entries.enqueue()
    Entry.objects.filter(pk=entry).update(key="order:99")
    assert listed(admin_client, q="order:99") == [entry]


def test_the_holder_of_a_key_is_found_however_old(admin_client, monkeypatch):
    """A search for a key that is held finds its holder, and those of the newest that had it."""
    monkeypatch.setattr(window, "WINDOW", 4)
    monkeypatch.setattr(searching, "LOOKED_AT", 4)
    old, holder = entries.enqueue(), UUID(square.apply_async((7,), countdown=600).id)
    text = entries.row(holder).key
    for _ in range(9):
        entries.enqueue()
    new = entries.enqueue()
    Entry.objects.filter(pk__in=(old, new)).update(key=text)
    assert listed(admin_client, q=text) == [new, holder]
    assert notes(admin_client, q=text) == []


def test_entries_of_a_row_are_found_however_old(admin_client, small):
    """The index of what entries are about reaches behind any window of the newest."""
    old = entries.in_state(State.DEAD)
    Entry.objects.filter(pk=old).update(**ORDER)
    for _ in range(9):
        entries.in_state(State.DEAD)
    for query in (ORDER, {**ORDER, "state": "dead"}, {"q": "order:17", "queue": "celery"}):
        assert listed(admin_client, **query) == [old]
        assert notes(admin_client, **query) == []


def test_many_entries_of_one_row_have_windows_of_their_own(admin_client, small):
    """Also what is about one row is looked at so many at a time."""
    made = [entries.enqueue(queue=f"q{n % 2}", **ORDER) for n in range(6)]
    query = {**ORDER, "queue": "q0"}
    assert listed(admin_client, **query) == [made[4], made[2]]
    (note,) = notes(admin_client, **query)
    address = reverse(LIST) + unescape(re.search(r'href="([^"]+)"', note)[1])
    assert listed(admin_client, address) == [made[0]]


def test_a_search_by_row_asks_the_index_only(admin_client):
    """A search for a row compares no other column, which would read a window."""
    entries.enqueue(**ORDER)
    with CaptureQueriesContext(connection) as captured:
        listed(admin_client, q="order:17")
    sent = [each["sql"] for each in captured.captured_queries if "'17'" in each["sql"]]
    assert sent
    assert not [sql for sql in sent if '"key"' in sql.partition("WHERE")[2] or "LIKE" in sql]


def test_names_of_models():
    """A model's name alone stands for its label, where it is the only one of that name."""
    assert labels_of("Order") == ["shop.order"]
    assert label_of("ORDER") == "shop.order"
    assert label_of("Shop.Order") == "shop.order"
    assert label_of("nothing") == "nothing"
    assert {"shop.order", "testapp.item"} <= set(known_labels())


def test_an_entrys_page_leads_to_all_about_the_same_row(admin_client):
    """Beside what it is about, a link lists all entries that are about it."""
    mine = [entries.enqueue(**ORDER) for _ in range(2)]
    entries.enqueue()
    text = admin_client.get(
        reverse("admin:reliable_tasks_entry_change", args=[mine[0]])
    ).content.decode()
    address = unescape(re.search(r'href="([^"]+)">all entries about it<', text)[1])
    assert listed(admin_client, address) == mine[::-1]


def test_the_fields_show_what_the_list_is_narrowed_down_to(admin_client):
    """A filter's fields hold what was typed, and a link clears it; others stay as they are."""
    query = {**ORDER, "queue": "mail"}
    shown = fields(admin_client, **query)
    assert (shown["subject_type"], shown["subject_id"]) == ("shop.order", "17")
    text = admin_client.get(reverse(LIST), query).content.decode()
    assert '<a href="?queue=mail">Clear</a>' in text
