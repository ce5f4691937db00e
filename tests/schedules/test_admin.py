"""Schedules in the admin: what is shown, and each act with its permission and confirmation."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from reliable_tasks import overview
from reliable_tasks.admin import ScheduleAdminMixin
from reliable_tasks.admin.schedules import take_over
from reliable_tasks.models import Entry, Occurrence, OperatorAct, SchedulePolicy
from reliable_tasks.schedules import operations

LIST = "admin:django_celery_beat_periodictask_changelist"
CHANGE = "admin:django_celery_beat_periodictask_change"
ACT = "admin:reliable_tasks_schedule_act"
OCCURRENCES = "admin:reliable_tasks_occurrence_changelist"
EVIL = "<script>alert(1)</script>"
PERMISSIONS = {
    "run": "run_schedule",
    "pause": "pause_schedule",
    "resume": "pause_schedule",
    "backfill": "backfill_schedule",
    "reset": "run_schedule",
}


@pytest.fixture
def browse(db, client):
    """Log a member of the staff in who has the permissions that are named."""

    def as_user(*permissions):
        user = User.objects.create_user("ann", is_staff=True)
        found = Permission.objects.filter(codename__in=permissions)
        assert found.count() == len(permissions)
        user.user_permissions.set(found)
        client.force_login(user)
        return client

    return as_user


def notes(response):
    return [str(note) for note in response.context["messages"]]


def act(client, schedule, name, **given):
    url = reverse(ACT, args=[schedule.pk, name])
    return client.post(url, {"confirmed": "yes", **given}, follow=True)


def really(response):
    """Return what the page of a plan says that it has shown."""
    return re.search(r'name="really" value="(\w+)"', response.content.decode())[1]


def choose(client, name, *schedules, **more):
    data = {"action": f"reliable_{name}", "_selected_action": [s.pk for s in schedules], **more}
    return client.post(reverse(LIST), {"index": 0, **data}, follow=True)


def page(client, schedule):
    return client.get(reverse(CHANGE, args=[schedule.pk]))


def minute(at):
    return f"{at:%Y-%m-%dT%H:%M}"


# ------------------------------------------------------------------------------------ what is shown
def test_page_shows_words_standing_and_runs(admin_client, make_schedule):
    """A schedule's page says when it is due, how it stands, and its next and last ten runs."""
    schedule = make_schedule(cron="30 2 * * *", zone="Europe/Berlin")
    operations.run_now(schedule, reason="try")
    text = page(admin_client, schedule).content.decode()
    assert "At 02:30 (Europe/Berlin)" in text
    runs = operations.next_runs(schedule, 10)
    for run in runs:
        assert f"{run.local:%Y-%m-%d %H:%M:%S %Z}" in text
        assert f"{run.due_at:%Y-%m-%d %H:%M:%S}" in text
    entry = Entry.objects.get()
    assert reverse("admin:reliable_tasks_entry_change", args=[entry.pk]) in text
    assert "run now" in text
    assert f"{reverse(OCCURRENCES)}?schedule__exact={schedule.pk}" in text


def test_page_shows_the_last_ten(admin_client, make_schedule):
    """The last ten runs are told in the schedule's own zone and in UTC, each with its entry."""
    schedule = make_schedule(cron="30 2 * * *", zone="Asia/Kolkata")
    now = overview.now()
    done = operations.backfill(schedule, now - timedelta(days=14), now)
    assert len(done.fired) == 14
    text = page(admin_client, schedule).content.decode()
    kolkata = ZoneInfo("Asia/Kolkata")
    rows = Occurrence.objects.order_by("due_at")
    for due, row in zip(done.fired, rows, strict=True):
        is_shown = due in done.fired[-10:]
        assert (f"{due.astimezone(kolkata):%Y-%m-%d %H:%M:%S %Z}" in text) == is_shown
        assert (f"<td>{due:%Y-%m-%d %H:%M:%S}</td>" in text) == is_shown
        link = reverse("admin:reliable_tasks_entry_change", args=[row.entry_id])
        assert (link in text) == is_shown


def test_page_tells_of_a_message_that_is_owed(admin_client, make_schedule):
    """A plain task's run whose message the broker has not taken yet says so, on page and list."""
    schedule = make_schedule(task="no.such")
    operations.run_now(schedule)
    words = "fired, its message not sent yet"
    assert words in page(admin_client, schedule).content.decode()
    assert words in admin_client.get(reverse(OCCURRENCES)).content.decode()
    Occurrence.objects.update(send_at=None)
    assert words not in page(admin_client, schedule).content.decode()


def test_page_names_what_is_wrong(admin_client, make_schedule):
    """Trouble with task or arguments is on the page, with what to do, escaped."""
    schedule = make_schedule(task=EVIL)
    text = page(admin_client, schedule).content.decode()
    assert "There is no task &#x27;&lt;script&gt;" in text
    assert EVIL not in text


def test_page_to_add_has_the_policy_and_no_runs(admin_client):
    """A new schedule gets its policy at once; there are no runs to show."""
    answer = admin_client.get(reverse("admin:django_celery_beat_periodictask_add"))
    text = answer.content.decode()
    assert answer.status_code == 200
    assert 'name="reliable_policy-0-catch_up"' in text
    assert "reliable-tasks-runs" not in text


def test_page_of_a_schedule_that_cannot_be_told(admin_client, make_schedule):
    """A row without any times still has a page that says so."""
    schedule = make_schedule()
    PeriodicTask.objects.update(interval=None)
    schedule.refresh_from_db()
    answer = page(admin_client, schedule)
    assert answer.status_code == 200
    assert "problem" in answer.content.decode()


def test_nothing_inline(admin_client, make_schedule):
    """No page of ours has an inline script, style or handler: a strict policy can be set."""
    import re

    schedule = make_schedule(cron="30 2 * * *")
    operations.run_now(schedule)
    answers = [page(admin_client, schedule), admin_client.get(reverse(OCCURRENCES))]
    answers += [admin_client.get(reverse(ACT, args=[schedule.pk, name])) for name in PERMISSIONS]
    for answer in answers:
        text = answer.content.decode()
        scripts = re.findall(r"<script(?![^>]*(?:\bsrc=|application/json))[^>]*>", text)
        assert scripts == []
        assert re.findall(r"<style|\son\w+=|\sstyle=", text) == []


def test_list_shows_how_each_stands(admin_client, make_schedule):
    """The list says for each whether it is enabled, paused or disabled, in words when, and next."""
    make_schedule("a")
    operations.pause(make_schedule("b"), "maintenance")
    make_schedule("c", enabled=False)
    text = admin_client.get(reverse(LIST)).content.decode()
    for word in ("enabled", "paused", "disabled"):
        assert f">{word}</span>" in text
    assert text.count("Every hour") == 3
    assert 'title="maintenance' in text
    assert text.count(" (paused)") == 1  # a next run that will be skipped


def test_list_costs_the_same_for_many(admin_client, make_schedule, django_assert_max_num_queries):
    """A page of forty schedules takes no more queries than one of two."""
    for number in range(40):
        make_schedule(f"s{number}", cron="*/5 * * * *")
    with django_assert_max_num_queries(14):
        admin_client.get(reverse(LIST))


def test_policy_is_edited_on_the_page(admin_client, make_schedule):
    """The policy is saved with its schedule, and beats are told."""
    schedule = make_schedule()
    before = PeriodicTasks.last_change()
    form = page(admin_client, schedule).context["adminform"].form
    data = {name: form.initial.get(name) or "" for name in form.fields}
    data |= {"interval": schedule.interval_id, "regtask": "", "headers": "{}", "enabled": "on"}
    data = {key: value for key, value in data.items() if value is not None}
    data |= {"start_time_0": "", "start_time_1": "", "expires_0": "", "expires_1": ""}
    prefix = "reliable_policy"
    data |= {f"{prefix}-TOTAL_FORMS": 1, f"{prefix}-INITIAL_FORMS": 0}
    given = {
        "catch_up": "all",
        "catch_up_limit": 3,
        "catch_up_window": "02:00:00",
        "misfire_grace": "00:01:00",
        "jitter": "00:00:30",
        "overlap": "skip",
        "pause_after_failures": "",
        "max_runs": "",
    }
    data |= {f"{prefix}-0-{key}": value for key, value in given.items()}
    data[f"{prefix}-0-schedule"] = schedule.pk
    answer = admin_client.post(reverse(CHANGE, args=[schedule.pk]), data, follow=True)
    assert "was changed successfully" in notes(answer)[0]
    policy = SchedulePolicy.objects.get()
    assert (policy.catch_up, policy.overlap, policy.catch_up_limit) == ("all", "skip", 3)
    assert policy.jitter == timedelta(seconds=30)
    assert PeriodicTasks.last_change() > before


# -------------------------------------------------------------------------------------- permissions
@pytest.mark.parametrize("name", PERMISSIONS)
def test_act_requires_its_permission(browse, make_schedule, name):
    """Who may edit schedules may not act on them; who has the act's permission may, no other."""
    schedule = make_schedule()
    client = browse("view_periodictask", "change_periodictask", "add_periodictask")
    assert client.get(reverse(ACT, args=[schedule.pk, name])).status_code == 403
    assert act(client, schedule, name, reason="x").status_code == 403
    choose(client, name, schedule, confirmed="yes", reason="x")
    assert not Occurrence.objects.exists()
    assert not operations.standing(schedule).paused
    user = User.objects.get(username="ann")
    user.user_permissions.add(Permission.objects.get(codename=PERMISSIONS[name]))
    assert client.get(reverse(ACT, args=[schedule.pk, name])).status_code == 200
    offered = {key for key in PERMISSIONS if PERMISSIONS[key] == PERMISSIONS[name]}
    actions = client.get(reverse(LIST)).context["action_form"].fields["action"].choices
    ours = {value.removeprefix("reliable_") for value, _ in actions if value.startswith("reliable")}
    assert ours == offered


def test_act_needs_sight_of_the_schedule(browse, make_schedule):
    """The permission to run alone does not open a schedule that one may not see."""
    schedule = make_schedule()
    client = browse("run_schedule")
    assert client.get(reverse(ACT, args=[schedule.pk, "run"])).status_code == 403


def test_who_may_only_look_cannot_switch(browse, make_schedule):
    """django-celery-beat's own actions ask for the permission to edit, and its run is gone."""
    schedule = make_schedule()
    client = browse("view_periodictask")
    for name in ("disable_tasks", "toggle_tasks", "run_tasks"):
        client.post(reverse(LIST), {"action": name, "_selected_action": [schedule.pk], "index": 0})
    schedule.refresh_from_db()
    assert schedule.enabled
    assert not Entry.objects.exists()


def test_stock_run_is_gone_for_all(admin_client, make_schedule):
    """Nobody runs a schedule past its occurrences; enable and disable stay for who may edit."""
    make_schedule()
    actions = admin_client.get(reverse(LIST)).context["action_form"].fields["action"].choices
    names = {value for value, _ in actions}
    assert "run_tasks" not in names
    assert {"enable_tasks", "disable_tasks", "toggle_tasks", "reliable_run"} <= names


def test_csrf_is_required(make_schedule, django_user_model):
    """A post without the token does nothing."""
    from django.test import Client

    schedule = make_schedule()
    client = Client(enforce_csrf_checks=True)
    client.force_login(django_user_model.objects.create_superuser("root"))
    assert act(client, schedule, "run").status_code == 403
    assert not Occurrence.objects.exists()


# --------------------------------------------------------------------------------------------- acts
def test_looking_at_the_confirmation_does_nothing(admin_client, make_schedule):
    """Neither a GET nor an unconfirmed choice in the list acts."""
    schedule = make_schedule()
    for name in PERMISSIONS:
        answer = admin_client.get(reverse(ACT, args=[schedule.pk, name]))
        assert answer.status_code == 200
        assert "hourly" in answer.content.decode()
        assert choose(admin_client, name, schedule).status_code == 200
    assert not Occurrence.objects.exists()
    assert not operations.standing(schedule).paused


def test_run_now(admin_client, make_schedule):
    """Confirmed, each fires once; who did it and why is on the occurrence and in the log."""
    one, two = make_schedule("one"), make_schedule("two", enabled=False)
    answer = choose(admin_client, "run", one, two, confirmed="yes", reason="try")
    assert Entry.objects.count() == 2
    assert [note.partition(" was run")[0] for note in notes(answer)] == ["“one”", "“two”"]
    for row in Occurrence.objects.all():
        assert (row.trigger, row.outcome) == ("run_now", "fired")
        assert "try" in row.reason
        assert "admin in the admin" in row.reason
    assert LogEntry.objects.filter(change_message__contains="Run now. try").count() == 2
    kept = OperatorAct.objects.values_list("act", "by", "reason", "target", "done")
    by = "admin in the admin"
    assert set(kept) == {("run schedule", by, "try", f"schedule {n}", 1) for n in ("one", "two")}


@pytest.mark.parametrize("name", PERMISSIONS)
def test_each_act_needs_a_reason(admin_client, make_schedule, name):
    """Without a reason no act on a schedule is done, and its page says what is missing."""
    schedule = make_schedule()
    given = {"start": "2026-03-01T00:30", "end": "2026-03-01T03:00"}
    answer = act(admin_client, schedule, name, **(given if name == "backfill" else {}))
    assert "This field is required." in answer.content.decode()
    assert not OperatorAct.objects.exists()
    assert not Occurrence.objects.exists()


def test_run_that_is_refused_is_told(admin_client, make_schedule):
    """A task that refuses its arguments is an error on the page, and no success in the log."""
    schedule = make_schedule(kwargs='{"x": 3}')
    (note,) = notes(act(admin_client, schedule, "run", reason="try"))
    assert note.startswith("“hourly” did not run:")
    assert not LogEntry.objects.exists()


def test_pause_and_resume(admin_client, make_schedule):
    """A pause has a reason and may have an end; resume ends it, once."""
    schedule = make_schedule()
    until = (overview.now() + timedelta(days=2)).replace(second=0, microsecond=0)
    answer = act(admin_client, schedule, "pause", reason="maintenance", until=minute(until))
    assert notes(answer) == ["“hourly” is paused."]
    standing = operations.standing(schedule)
    assert (standing.paused, standing.paused_until) == (True, until)
    assert "maintenance" in standing.pause_reason
    assert "maintenance" in page(admin_client, schedule).content.decode()
    assert notes(act(admin_client, schedule, "pause", reason="longer")) == [
        "“hourly” is paused already; that pause stays as it is."
    ]
    assert operations.standing(schedule) == standing
    assert notes(act(admin_client, schedule, "resume", reason="done")) == ["“hourly” goes on."]
    assert not operations.standing(schedule).paused
    assert notes(act(admin_client, schedule, "resume", reason="done")) == [
        "“hourly” was left alone: it is not paused, or has been paused anew."
    ]
    kept = OperatorAct.objects.order_by("pk").values_list("act", "by", "reason")
    assert list(kept) == [
        ("pause", "admin in the admin", "maintenance"),
        ("resume", "admin in the admin", "done"),
    ]


def test_resume_leaves_a_newer_pause_alone(admin_client, make_schedule):
    """A pause that began after the page was made is not what the operator saw."""
    schedule = make_schedule()
    operations.pause(schedule, "maintenance")
    shown = overview.now().isoformat()
    time.sleep(0.002)  # SQLite's clock counts in milliseconds
    operations.resume(schedule)
    operations.pause(schedule, "an incident", by="Ann")
    (note,) = notes(act(admin_client, schedule, "resume", reason="done", as_of=shown))
    assert "was left alone" in note
    assert operations.standing(schedule).paused
    later = overview.now().isoformat()
    act(admin_client, schedule, "resume", reason="done", as_of=later)
    assert not operations.standing(schedule).paused


def test_runs_are_counted_from_zero(admin_client, make_schedule):
    """The count of runs begins anew, once, with a reason; the page tells how many are left."""
    schedule = make_schedule()
    SchedulePolicy.objects.create(schedule=schedule, max_runs=5)
    operations.run_now(schedule)
    assert "4 runs left." in page(admin_client, schedule).content.decode()
    told = notes(act(admin_client, schedule, "reset", reason="a new season"))
    assert told == ["“hourly” counts its runs from zero."]
    assert "5 runs left." in page(admin_client, schedule).content.decode()
    told = notes(act(admin_client, schedule, "reset", reason="a new season"))
    assert told == ["“hourly” had no runs to count."]
    kept = OperatorAct.objects.filter(act="reset runs").values_list("by", "reason", "target")
    assert list(kept) == [("admin in the admin", "a new season", "schedule hourly")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "This field is required."),
        ({"reason": "x", "until": "2001-01-01T00:00"}, "This time has passed."),
        ({"reason": "x", "until": "soon"}, "Enter a valid date/time."),
    ],
)
def test_pause_asks_again(admin_client, make_schedule, given, message):
    """Without a reason, or with an end that has passed, nothing is paused and the form says why."""
    schedule = make_schedule()
    answer = act(admin_client, schedule, "pause", **given)
    assert message in answer.content.decode()
    assert not operations.standing(schedule).paused


def test_backfill_shows_first_and_fires_then(admin_client, make_schedule):
    """A range is shown before it is fired; what has fired already stays as it is."""
    schedule = make_schedule(cron="0 * * * *", zone="Europe/Berlin")
    given = {"start": "2026-03-01T00:30", "end": "2026-03-01T03:00", "reason": "holes"}
    answer = act(admin_client, schedule, "backfill", **given)
    text = answer.content.decode()
    first = admin_client.get(reverse(ACT, args=[schedule.pk, "backfill"])).content.decode()
    assert 'value="Show what would be fired"' in first
    assert 'value="Backfill a range"' in text
    assert "3 due times" in text
    assert "2026-03-01 02:00:00 CET · 2026-03-01 01:00:00 UTC" in text
    assert not Occurrence.objects.exists()
    shown = really(answer)
    # Another range than the one that was shown is shown first, too.
    other = act(
        admin_client, schedule, "backfill", really=shown, **given | {"end": "2026-03-01T02:00"}
    )
    assert "2 due times" in other.content.decode()
    assert not Occurrence.objects.exists()
    answer = act(admin_client, schedule, "backfill", really=shown, **given)
    assert notes(answer) == ["“hourly”: 3 due times were fired."]
    assert set(Occurrence.objects.values_list("trigger", "outcome")) == {("backfill", "fired")}
    assert set(Occurrence.objects.values_list("due_at", flat=True)) == {
        datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (1, 2, 3)
    }
    again = act(admin_client, schedule, "backfill", **given)
    again = act(admin_client, schedule, "backfill", really=really(again), **given)
    assert notes(again) == ["“hourly”: 0 due times were fired."]
    assert Entry.objects.count() == 3


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-03-02T00:00", "2026-03-01T00:00", "The range ends before it begins."),
        ("2026-03-02T00:00", "2999-03-01T00:00", "This time is still to come."),
        ("", "2026-03-01T00:00", "This field is required."),
    ],
)
def test_backfill_asks_again(admin_client, make_schedule, start, end, message):
    """A range that is empty, open or not over is refused with the reason."""
    schedule = make_schedule()
    answer = act(admin_client, schedule, "backfill", start=start, end=end)
    assert message in answer.content.decode()
    assert not Occurrence.objects.exists()


def test_act_on_many_is_bounded(admin_client, make_schedule, monkeypatch):
    """An act from the list takes a bounded number, and says so."""
    monkeypatch.setattr("reliable_tasks.admin.schedule_acting.ACT_LIMIT", 1)
    one, two = make_schedule("one"), make_schedule("two")
    answer = choose(admin_client, "pause", one, two)
    assert "Only the first 1 of them" in notes(answer)[0]
    assert [row[0].name for row in answer.context["rows"]] == ["one"]


def test_a_schedule_that_left_the_list_meanwhile_is_told(admin_client, make_schedule):
    """What was selected, and is disabled or deleted before the page comes back, is not silent."""
    one, two = make_schedule("one"), make_schedule("two")
    PeriodicTask.objects.filter(pk=two.pk).delete()
    given = {"confirmed": "yes", "reason": "maintenance"}
    answer = choose(admin_client, "pause", one, two, **given)
    assert notes(answer) == [
        "1 selected schedule was left alone: it is not in this list any more.",
        "“one” is paused.",
    ]
    PeriodicTask.objects.filter(pk=one.pk).delete()
    assert len(notes(choose(admin_client, "pause", one, **given))) == 1


def test_act_on_many_asks_as_often_as_on_few(admin_client, make_schedule):
    """The page of an act takes as many statements for ten schedules as for two."""

    def asked(rows):
        with CaptureQueriesContext(connection) as captured:
            assert choose(admin_client, "pause", *rows).status_code == 200
        return len(captured.captured_queries)

    rows = [make_schedule(f"s{number}") for number in range(10)]
    asked(rows[:2])
    assert asked(rows) == asked(rows[:2])


def test_unknown_act_or_schedule(admin_client, make_schedule):
    """An address that means nothing is not found."""
    schedule = make_schedule()
    assert admin_client.get(reverse(ACT, args=[schedule.pk, "explode"])).status_code == 404
    assert admin_client.get(reverse(ACT, args=[schedule.pk + 1, "run"])).status_code == 404


@pytest.mark.parametrize("name", PERMISSIONS)
def test_act_on_a_schedule_that_cannot_be_told(admin_client, make_schedule, name):
    """A row that makes no sense is told as such by every act, and the others are still done."""
    broken, sound = make_schedule("broken"), make_schedule("sound")
    PeriodicTask.objects.filter(pk=broken.pk).update(interval=None)
    given = {"start": "2026-03-01T00:30", "end": "2026-03-01T03:00", "reason": "x"}
    answer = choose(admin_client, name, broken, sound, confirmed="yes", **given)
    if name == "backfill":
        assert "It has no crontab, interval" in answer.content.decode()
    else:
        first, second = notes(answer)
        assert first.startswith("“broken”")
        assert second.startswith("“sound”")


# -------------------------------------------------------------------------------------- occurrences
def test_occurrences_are_listed_and_linked(admin_client, make_schedule):
    """Each due time is a line with its schedule, its own zone, what became of it, and its entry."""
    schedule = make_schedule(cron="30 2 * * *", zone="Europe/Berlin")
    other = make_schedule("other")
    row = operations.run_now(schedule)
    operations.run_now(other)
    text = admin_client.get(f"{reverse(OCCURRENCES)}?schedule__exact={schedule.pk}")
    text = text.content.decode()
    assert reverse(CHANGE, args=[schedule.pk]) in text
    assert reverse(CHANGE, args=[other.pk]) not in text
    assert reverse("admin:reliable_tasks_entry_change", args=[row.entry_id]) in text
    found = admin_client.get(f"{reverse(OCCURRENCES)}?q=oth").content.decode()
    assert reverse(CHANGE, args=[other.pk]) in found
    assert reverse(CHANGE, args=[schedule.pk]) not in found


def test_occurrences_are_read_only(admin_client, make_schedule):
    """Nobody adds, edits or deletes an occurrence."""
    operations.run_now(make_schedule())
    pk = Occurrence.objects.get().pk
    assert admin_client.get(reverse("admin:reliable_tasks_occurrence_add")).status_code == 403
    url = reverse("admin:reliable_tasks_occurrence_delete", args=[pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 403
    change = admin_client.get(reverse("admin:reliable_tasks_occurrence_change", args=[pk]))
    assert change.status_code == 200
    assert b'name="_save"' not in change.content


def test_occurrences_cost_the_same_for_many(
    admin_client, make_schedule, django_assert_max_num_queries
):
    """A page of occurrences takes a fixed number of queries."""
    for number in range(30):
        operations.run_now(make_schedule(f"s{number}"))
    with django_assert_max_num_queries(8):
        admin_client.get(reverse(OCCURRENCES))


# ------------------------------------------------------------------------------ the project's admin
@pytest.mark.parametrize("at_once", [True, False])
def test_schedules_that_have_run_are_deleted(browse, make_schedule, at_once):
    """Who may delete schedules deletes them with their occurrences, which are counted first."""
    client = browse("view_periodictask", "delete_periodictask")
    schedule, other = make_schedule(), make_schedule("other")
    operations.backfill(schedule, overview.now() - timedelta(days=2), overview.now())
    operations.run_now(other)
    count = Occurrence.objects.filter(schedule=schedule).count()
    url = reverse("admin:django_celery_beat_periodictask_delete", args=[schedule.pk])
    given = {"post": "yes"}
    if at_once:
        url = reverse(LIST)
        given |= {"action": "delete_selected", "_selected_action": schedule.pk, "index": 0}
    asks = {key: value for key, value in given.items() if key != "post"}
    with CaptureQueriesContext(connection) as queries:
        asked = client.post(url, asks) if at_once else client.get(url)
    text = asked.content.decode()
    assert count > 40
    assert f"Occurrences: {count}" in text
    assert text.count("fired") == 0
    assert len(queries) < 40
    client.post(url, given)
    assert list(PeriodicTask.objects.values_list("name", flat=True)) == ["other"]
    assert Occurrence.objects.get().schedule_id == other.pk
    assert Entry.objects.count() == count + 1


def test_what_is_deleted_with_a_schedule_asks_its_permission(browse, make_schedule):
    """Whoever may not delete schedules deletes none, nor what they are due by."""
    client = browse("view_periodictask", "delete_crontabschedule", "view_crontabschedule")
    schedule = make_schedule(cron="0 4 * * *")
    operations.run_now(schedule)
    for name, pk in (("periodictask", schedule.pk), ("crontabschedule", schedule.crontab_id)):
        url = reverse(f"admin:django_celery_beat_{name}_delete", args=[pk])
        assert client.post(url, {"post": "yes"}).status_code == 403
    assert PeriodicTask.objects.exists()


@pytest.mark.parametrize("page", ["delete", "changelist"])
def test_a_crontab_is_deleted_with_its_schedules(admin_client, make_schedule, page):
    """A crontab whose schedules have run is deleted in the admin, and they with it."""
    schedule = make_schedule(cron="0 4 * * *")
    operations.run_now(schedule)
    number = schedule.crontab_id
    args, given = ([number], {}) if page == "delete" else ([], {"index": 0})
    if page == "changelist":
        given |= {"action": "delete_selected", "_selected_action": number}
    url = reverse(f"admin:django_celery_beat_crontabschedule_{page}", args=args)
    assert admin_client.post(url, {"post": "yes", **given}).status_code == 302
    assert not PeriodicTask.objects.exists()
    assert not Occurrence.objects.exists()


def test_an_occurrence_is_not_deleted_by_itself(admin_client, make_schedule):
    """There is no way to delete what became of a due time, but with its schedule."""
    operations.run_now(make_schedule())
    row = Occurrence.objects.get()
    url = reverse("admin:reliable_tasks_occurrence_delete", args=[row.pk])
    assert admin_client.post(url, {"post": "yes"}).status_code == 403
    assert Occurrence.objects.exists()


def test_list_knows_the_short_name_of_the_scheduler(admin_client, make_schedule, settings):
    """The list is shown with the setting that the documentation and the checks advise."""
    make_schedule()
    settings.CELERY_BEAT_SCHEDULER = "reliable"
    assert admin_client.get(reverse(LIST)).status_code == 200


def test_projects_own_admin_is_built_upon():
    """Whatever a project has registered stays, with ours added, once."""

    class Own(PeriodicTaskAdmin):
        list_display = ("name", "task")
        change_form_template = "own/form.html"

    site = admin.AdminSite("other")
    site.register(PeriodicTask, Own)
    take_over(site)
    found = site.get_model_admin(PeriodicTask)
    assert isinstance(found, Own)
    assert isinstance(found, ScheduleAdminMixin)
    assert tuple(found.get_list_display(None))[:2] == ("name", "task")
    take_over(site)
    assert site.get_model_admin(PeriodicTask) is found


def test_site_without_schedules_gets_them():
    """A site on which nobody registered schedules gets django-celery-beat's admin with ours."""
    site = admin.AdminSite("other")
    take_over(site)
    assert isinstance(site.get_model_admin(PeriodicTask), PeriodicTaskAdmin)
