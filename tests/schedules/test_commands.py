"""`manage.py reliable_tasks schedules`: what the admin does, from the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reliable_tasks import overview
from reliable_tasks.models import Entry, Occurrence, OperatorAct, SchedulePolicy
from reliable_tasks.schedules import operations
from tests.commands import answer, reliable_tasks


@pytest.fixture(autouse=True)
def _database(db):
    """Every verb reads the ledger."""


def run(*arguments, **options):
    return reliable_tasks("schedules", *arguments, **options)


# --------------------------------------------------------------------------------------------- list
def test_list(make_schedule):
    """Schedules by name: when they are due in words, how they stand, what comes next."""
    make_schedule("nightly", cron="30 2 * * *", zone="Europe/Berlin")
    operations.pause(make_schedule("hourly"), "maintenance")
    make_schedule("off", enabled=False)
    ran = run("list")
    assert (ran.code, ran.err) == (0, "")
    head, *lines = ran.lines
    assert head.split() == ["NAME", "TASK", "WHEN", "STANDING", "LAST", "DUE", "NEXT"]
    assert [line.split()[0] for line in lines] == ["hourly", "nightly", "off"]
    assert "at 02:30 (Europe/Berlin)" in lines[1]
    assert ("paused" in lines[0], "enabled" in lines[1], "disabled" in lines[2]) == (True,) * 3
    assert " in " in lines[1]


def test_without_an_act_it_lists(make_schedule):
    """`schedules` alone is `schedules list`."""
    make_schedule()
    assert run().out == run("list").out


def test_list_filters(make_schedule):
    """Names and tasks may end with a star; standing narrows down; the limit says that it cut."""
    make_schedule("a.one")
    operations.pause(make_schedule("a.two"), "x")
    make_schedule("b", enabled=False, task="shop.other")
    names = [each["name"] for each in run("list", "a.*", "--json").json]
    assert names == ["a.one", "a.two"]
    assert [each["name"] for each in run("list", "--task", "shop.*", "--json").json] == ["b"]
    assert [each["name"] for each in run("list", "--standing", "paused", "--json").json] == [
        "a.two"
    ]
    assert [each["name"] for each in run("list", "--standing", "disabled", "--json").json] == ["b"]
    assert "These are the first 1; there are more." in run("list", "--limit", 1).err
    nothing = run("list", "zzz")
    assert (nothing.code, nothing.err) == (1, "No schedule matches.\n")


def test_list_json(make_schedule):
    """Programs get the same with times in ISO and UTC; Django's own options may stand behind."""
    make_schedule(cron="30 2 * * *")
    (found,) = run("list", "--json", "--no-color").json
    assert (found["name"], found["when"], found["standing"]) == (
        "hourly",
        "at 02:30 (UTC)",
        "enabled",
    )
    assert found["next_at"].endswith("02:30:00+00:00")
    assert found["last_due_at"] is None


def test_list_costs_the_same_for_many(make_schedule, django_assert_max_num_queries):
    """Forty schedules take as few queries as one."""
    for number in range(40):
        make_schedule(f"s{number}")
    with django_assert_max_num_queries(8):
        run("list")


# --------------------------------------------------------------------------------------------- show
def test_show(make_schedule):
    """One schedule: its definition, how it stands, its last and next runs in both zones."""
    schedule = make_schedule(cron="30 2 * * *", zone="Europe/Berlin", queue="slow")
    row = operations.run_now(schedule, reason="try")
    operations.pause(schedule, "maintenance")
    ran = run("show", "hourly", "--count", 3)
    assert ran.code == 0
    assert "at 02:30 (Europe/Berlin)" in ran.out
    assert "paused: maintenance" in ran.out
    assert "queue" in ran.out
    assert str(row.entry_id) in ran.out
    for each in operations.next_runs(schedule, 3):
        assert f"{each.local:%Y-%m-%d %H:%M:%S %Z}" in ran.out
        assert f"{each.due_at:%Y-%m-%d %H:%M:%S}" in ran.out
    assert ran.out.count("be skipped: paused") == 3


def test_show_json(make_schedule):
    """Programs get definition, troubles, last and next runs."""
    schedule = make_schedule(args="[1]")
    operations.run_now(schedule)
    found = run("show", "hourly", "--json").json
    assert found["definition"]["args"] == [1]
    assert "does not take these arguments" in found["troubles"][0]["text"]
    assert found["last"][0]["trigger"] == "run_now"
    assert len(found["next"]) == 10
    assert found["next"][0]["due_at"].endswith("+00:00")


def test_show_tells_of_a_message_that_is_owed(make_schedule):
    """A plain task's run whose message the broker has not taken yet says so."""
    operations.run_now(make_schedule(task="no.such"))
    assert "fired, not sent yet" in run("show", "hourly").out
    (owed,) = run("show", "hourly", "--json").json["last"]
    assert (owed["entry"], owed["sent"]) == (None, False)
    Occurrence.objects.update(send_at=None)
    assert "not sent yet" not in run("show", "hourly").out
    assert run("show", "hourly", "--json").json["last"][0]["sent"] is True


def test_show_of_a_schedule_that_cannot_be_told(make_schedule):
    """A row that makes no sense is shown with its problem."""
    make_schedule(args="[1")
    make_schedule("nightly", cron="0 99 * * *")
    for name in ("hourly", "nightly"):
        ran = run("show", name)
        assert ran.code == 0
        assert "problem: " in ran.out
        assert "Next runs: none" in ran.out


def test_unknown_name_is_told_with_the_nearest(make_schedule):
    """A misspelt name changes nothing and shows the one that was meant."""
    make_schedule("nightly report")
    ran = run("show", "nightly reprot")
    assert ran.code == 2
    assert "There is no schedule 'nightly reprot'. Did you mean 'nightly report'?" in ran.err


# ---------------------------------------------------------------------------------------------- run
def test_run(make_schedule):
    """Each schedule that is named fires once; who did it and why is kept."""
    make_schedule("a"), make_schedule("b", enabled=False), make_schedule("c")
    ran = run("run", "a", "b", "--yes", "--reason", "try")
    assert ran.code == 0
    assert Entry.objects.count() == 2
    assert [line.split(":")[0] for line in ran.lines] == ["Ran 'a'", "Ran 'b'"]
    for row in Occurrence.objects.all():
        assert row.trigger == "run_now"
        assert "try" in row.reason
        assert "manage.py" in row.reason


def test_run_that_is_refused(make_schedule):
    """A refused call is told, with exit code 1."""
    make_schedule(kwargs='{"x": 3}')
    ran = run("run", "hourly", "--yes")
    assert ran.code == 1
    assert "'hourly' did not run:" in ran.err


def test_run_asks(make_schedule, monkeypatch):
    """Without a yes nothing runs; a dry run only shows."""
    make_schedule("a"), make_schedule("b")
    answer(monkeypatch, "n")
    ran = run("run", "--all")
    assert (ran.code, "Run 2 schedules now ('a', 'b')? [y/N]" in ran.err) == (1, True)
    ran = run("run", "--all", "--dry-run")
    assert ran.out == "a\nb\n2 schedules would be run; nothing was changed.\n"
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "Which schedules?"),
        (("run", "a", "--all"), "not both"),
        (("pause", "a", "--reason", "x", "--until", "soon"), "is no time"),
        (("pause", "a", "--reason", "x", "--until", "2026-02-30"), "2026-02-30"),
        (("pause", "a"), "--reason"),
        (("pause", "a", "--reason", "x", "--until", "2001-01-01"), "ended already"),
        (("backfill", "a", "--from", "2026-03-02", "--to", "2026-03-01"), "is empty"),
        (("backfill", "a", "--from", "2026-03-02", "--to", "2999-03-01"), "in the future"),
    ],
)
def test_command_line_that_cannot_be_meant(make_schedule, arguments, message):
    """A wrong command line changes nothing, ends with 2 and says what is wrong."""
    schedule = make_schedule("a")
    ran = run(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert not Occurrence.objects.exists()
    assert not operations.standing(schedule).paused


# ------------------------------------------------------------------------------------ pause, resume
def test_pause_and_resume(make_schedule):
    """A pause has a reason and an end; a second one replaces them; resume ends it."""
    schedule = make_schedule()
    ran = run("pause", "hourly", "--reason", "maintenance", "--for", "2h")
    standing = operations.standing(schedule)
    assert (ran.code, standing.paused) == (0, True)
    assert "maintenance" in standing.pause_reason
    away = standing.paused_until - overview.now()
    assert timedelta(minutes=119) < away <= timedelta(hours=2)
    again = run("pause", "hourly", "--reason", "longer", "--json")
    assert again.json == {"dry_run": False, "paused": ["hourly"], "new": []}
    assert run("resume", "hourly").out == "Resumed 'hourly'.\n"
    assert not operations.standing(schedule).paused
    nothing = run("resume", "hourly")
    assert (nothing.code, nothing.err) == (1, "Nothing to do: none of them is paused.\n")


def test_pause_until_is_in_the_schedules_zone(make_schedule):
    """A time without an offset is meant in the schedule's own time zone."""
    schedule = make_schedule(cron="30 2 * * *", zone="Europe/Berlin")
    run("pause", "hourly", "--reason", "x", "--until", "2999-07-01T12:00")
    until = operations.standing(schedule).paused_until
    assert until == datetime(2999, 7, 1, 10, tzinfo=UTC)


def test_pause_of_many_asks(make_schedule, monkeypatch):
    """More than one is asked about; --task chooses by task."""
    make_schedule("a"), make_schedule("b")
    answer(monkeypatch, "y")
    ran = run("pause", "--task", "tests.app.*", "--reason", "x")
    assert ran.code == 0
    assert ran.lines[-1] == "Paused 2 schedules."
    again = run("pause", "--task", "tests.app.*", "--reason", "y")
    assert again.code == 1
    assert again.lines[-3:] == [
        "'a' is paused already; that pause stays as it is.",
        "'b' is paused already; that pause stays as it is.",
        "Paused 0 schedules.",
    ]


# ----------------------------------------------------------------------------------------- backfill
RANGE = ("--from", "2026-03-29T00:00", "--to", "2026-03-29T05:00")


def test_backfill(make_schedule):
    """The due times of a range, in the schedule's zone, fire once and not again."""
    make_schedule(cron="0 * * * *", zone="Europe/Berlin")
    shown = run("backfill", "hourly", *RANGE, "--dry-run")
    assert "2026-03-29 03:00:00 CEST  2026-03-29 01:00:00 UTC" in shown.out
    assert not Occurrence.objects.exists()
    ran = run("backfill", "hourly", *RANGE, "--yes", "--reason", "holes")
    assert ran.lines[-1] == "5 due times fired."
    assert Entry.objects.count() == 5
    again = run("backfill", "hourly", *RANGE, "--yes", "--json")
    assert again.code == 1
    assert (again.json["fired"], len(again.json["already"])) == ([], 5)
    assert Entry.objects.count() == 5


def test_backfill_is_bounded(make_schedule):
    """The limit takes the oldest and says that there are more."""
    make_schedule(cron="0 * * * *")
    ran = run("backfill", "hourly", *RANGE, "--limit", 2, "--yes")
    assert ran.lines[-1] == "2 due times fired."
    assert "more than the limit" in ran.err


# --------------------------------------------------------------------------------------------- sync
def test_sync(settings):
    """What code declares becomes rows; a dry run only tells; names are checked."""
    settings.RELIABLE_TASKS = {"SCHEDULES": {"stock": {"task": "shop.stock", "schedule": 3600}}}
    shown = run("sync", "--dry-run")
    assert shown.out == "Schedule 'stock' would be created.\n"
    assert run("list").code == 1
    ran = run("sync", "--json")
    assert ran.json["schedules"][0]["act"] == "created"
    assert run("sync").err == "1 schedule needs no change.\n"
    wrong = run("sync", "--overwrite", "stok")
    assert (wrong.code, "Did you mean 'stock'?" in wrong.err) == (2, True)


def test_sync_tells_a_wrong_declaration(settings):
    """A wrong declaration ends the command with the key that is wrong."""
    settings.RELIABLE_TASKS = {"SCHEDULES": {"stock": {"task": "shop.stock", "schedul": 3600}}}
    ran = run("sync")
    assert ran.code == 1
    assert "Did you mean 'schedule'?" in ran.err


def test_sync_tells_a_module_that_does_not_import(settings, monkeypatch):
    """Where a task's module cannot be imported nothing is synced: its schedules are not removed."""
    from celery import current_app

    def broken():
        raise ImportError("No module named 'shop.missing'")

    monkeypatch.setattr(current_app.loader, "import_default_modules", broken)
    ran = run("sync")
    assert ran.code == 1
    assert "No module named 'shop.missing'" in ran.err


def test_sensitive_arguments_are_not_shown(make_schedule):
    """What a task declares to be sensitive is masked, in text and in JSON."""
    from tests.app.argument_tasks import use_token

    make_schedule(task=use_token.name, args='[1, "s3cret"]', kwargs='{"key": "0ther"}')
    for ran in (run("show", "hourly"), run("show", "hourly", "--json")):
        assert "s3cret" not in ran.out
        assert "0ther" not in ran.out
        assert "***" in ran.out


# -------------------------------------------------------------------------------------------- reset
def test_reset(make_schedule):
    """Runs are counted from zero again, on record; who asks first is told which."""
    schedule, other = make_schedule("one"), make_schedule("two")
    SchedulePolicy.objects.create(schedule=schedule, max_runs=3)
    operations.run_now(schedule)
    ran = run("reset", "one", "two", "--dry-run")
    assert "2 schedules would be reset" in ran.out
    assert operations.standing(schedule).remaining == 2
    ran = run("reset", "one", "two", "--reason", "a new season", "--yes")
    assert (ran.code, ran.lines) == (0, ["'one' counts its runs from zero."])
    assert operations.standing(schedule).remaining == 3
    kept = OperatorAct.objects.get(act="reset runs")
    assert (kept.reason, kept.target) == ("a new season", "schedule one")
    again = run("reset", "one")
    assert again.code == 1
    assert "Nothing to do" in again.err
    assert run("reset", other.name, "--json").json == {"dry_run": False, "reset": []}
