"""The admin on django-unfold: the same pages, built on its classes, and the same acts.

Each part runs in a process of its own, because the theme is chosen when the admin is loaded.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.harness import ROOT, child_env, python

HEAD = """
import re
import django
from django.conf import settings
import tests.settings as base
given = {name: getattr(base, name) for name in dir(base) if name.isupper()}
given["INSTALLED_APPS"] = ["unfold", *given["INSTALLED_APPS"]]
memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
given["DATABASES"] = {"default": memory, "other": memory}
settings.configure(**given)
django.setup()
from datetime import timedelta
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.test.utils import setup_test_environment
from django.urls import reverse
from unfold.admin import ModelAdmin
from reliable_tasks import ledger, operations, overview
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Entry, Occurrence, Operation, OperatorAct, Pause
from reliable_tasks.operations import Act, Chosen
from reliable_tasks.states import State
from tests import entries

setup_test_environment()
call_command("migrate", verbosity=0)
client = Client()
client.force_login(User.objects.create_superuser("root"))
at = overview.now() - timedelta(minutes=1)


def url(name, *args):
    return reverse(f"admin:{name}", args=args)


def shown(address, **query):
    answer = client.get(address, query)
    assert answer.status_code == 200, (address, answer.status_code)
    text = answer.content.decode()
    assert "unfold/" in text, address  # the theme's own frame
    return text


def sent(address, **fields):
    fields = {"confirmed": "yes", "reason": "x", **fields}
    answer = client.post(address, fields, follow=True)
    assert answer.status_code == 200, (address, answer.status_code)
    assert answer.redirect_chain, re.findall("errorlist.*", answer.content.decode())
    return [str(note) for note in answer.context["messages"]]


def died(**given):
    held = entries.running(now=at, **given)
    entries.bury(held, now=at)
    return held.entry
"""
PAGES = """
assert isinstance(admin.site._registry[Entry], ModelAdmin)
dead = died()
ledger.beat(WorkerReport("celery@here#1", "celery@here", 1, "prefork", 2, ["celery"], {}))
operations.pause("queue", "mail", "It moves.", by="ann")
names = (
    *("entry", "deadletter", "operation", "operatoract", "pause", "workerprocess"),
    *("overview", "occurrence"),
)
for name in names:
    shown(url(f"reliable_tasks_{name}_changelist"))
charts = url("reliable_tasks_overview_changelist")
for window in ("1h", "6h", "24h", "7d"):
    shown(charts, window=window)
change = url("reliable_tasks_entry_change", dead)
shown(url("reliable_tasks_workerprocess_change", quote("celery@here#1")))
text = shown(charts)
assert "Queue mail is paused" in text
assert "<svg" in text
assert "Requeue…" in shown(change)
listed = url("reliable_tasks_entry_changelist")
text = shown(listed, since="2020-01-01T00:00", subject_type="shop.order", subject_id="17")
for field in ("since", "until", "subject_type", "subject_id", "task", "error"):
    assert f'name="{field}"' in text, field
assert 'value="2020-01-01T00:00"' in text
act = url("reliable_tasks_entry_act", "requeue")
shown(act, id=dead)
assert sent(act, id=dead, when="now") == ["Requeued 1 entry."]
assert entries.state(dead) is State.PENDING
"""
ACTS = """
# -- other arguments
dead = died(args="[1, 2]")
edit = url("reliable_tasks_entry_act", "edit")
text = shown(edit, id=dead)
assert "Positional arguments" in text
wrong = {"args": "[1, 2, 3]", "kwargs": "{}"}
answer = client.post(edit, {"id": dead, "confirmed": "yes", "reason": "x", **wrong})
assert "The task does not take these" in answer.content.decode()
assert entries.row(dead).args == [1, 2]
assert sent(edit, id=dead, args="[1, 20]", kwargs="{}") == ["Requeued 1 entry."]
assert (entries.state(dead), entries.row(dead).args) == (State.PENDING, [1, 20])

# -- pause and resume
begin = url("reliable_tasks_pause_begin")
text = shown(begin)
assert "Its name" in text
what = {"kind": "task", "name": "tests.app.tasks.add", "minutes": "5", "reason": "x"}
assert "1 entry waits there now" in client.post(begin, what).content.decode()
assert not Pause.objects.exists()
counted = "task tests.app.tasks.add"
assert sent(begin, **what, counted=counted) == ["Paused tests.app.tasks.add."]
pause = Pause.objects.get()
assert ledger.claim(dead, "w", lease=10) is None
assert "tests.app.tasks.add" in shown(url("reliable_tasks_pause_changelist"))
end = url("reliable_tasks_pause_end", pause.pk)
assert "Resume" in shown(end)
assert sent(end) == ["Resumed tests.app.tasks.add."]
assert not Pause.objects.exists()

# -- an operation and its reins
for _ in range(3):
    died()
begun = operations.begin(Act.REQUEUE, Chosen(states=("dead",)), "It is back.", by="ann", rate=1.0)
page = url("reliable_tasks_operation_change", begun.operation)
steer = url("reliable_tasks_operation_steer", begun.operation)
text = shown(page)
assert "Stop for good" in text
assert 'id="reliable-tasks-rate"' in text
assert sent(steer, to="rate", rate="2.5") == ["Done."]
assert Operation.objects.get().rate == 2.5
for to, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
    assert "Reason" in shown(steer, to=to)
    assert sent(steer, to=to) == ["Done."]
    assert Operation.objects.get().state == state, to
assert "Stop for good" not in shown(page)
assert [act.reason for act in OperatorAct.objects.order_by("pk")][-1] == "x"
for act in OperatorAct.objects.all():
    shown(url("reliable_tasks_operatoract_change", act.pk))
"""
SCHEDULES = r"""
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from reliable_tasks.admin import ScheduleAdminMixin
from reliable_tasks.models import SchedulePolicy
from reliable_tasks.schedules import operations as schedules

if THEMED:  # as unfold's documentation has it for django-celery-beat
    from django_celery_beat.admin import PeriodicTaskAdmin
    from reliable_tasks.admin.schedules import take_over
    admin.site.unregister(PeriodicTask)
    admin.site.register(PeriodicTask, type("Themed", (PeriodicTaskAdmin, ModelAdmin), {}))
    take_over(admin.site)
    assert isinstance(admin.site._registry[PeriodicTask], ModelAdmin)
assert isinstance(admin.site._registry[PeriodicTask], ScheduleAdminMixin)
line = CrontabSchedule.objects.create(minute="30", hour="2", timezone="Europe/Berlin")
schedule = PeriodicTask.objects.create(
    name="nightly report", task="tests.app.tasks.add", args="[1, 2]", crontab=line
)
page = url("django_celery_beat_periodictask_change", schedule.pk)
assert "nightly report" in shown(url("django_celery_beat_periodictask_changelist"))
text = shown(page)
for words in ("At 02:30 (Europe/Berlin)", "Run now", "Pause", "reliable_policy-0-overlap"):
    assert words in text, words


def act(name):
    return url("reliable_tasks_schedule_act", schedule.pk, name)


assert "Reason" in shown(act("run"))
assert "was run" in sent(act("run"))[0]
assert Occurrence.objects.filter(outcome="fired").count() == 1
shown(act("pause"))
assert "is paused" in sent(act("pause"))[0]
assert schedules.standing(schedule).paused
assert "paused" in shown(page)
shown(act("resume"))
assert "goes on" in sent(act("resume"))[0]
assert not schedules.standing(schedule).paused
span = {"start": "2026-03-28T00:00", "end": "2026-03-30T00:00"}
shown(act("backfill"))
answer = client.post(act("backfill"), {"confirmed": "yes", "reason": "x", **span})
assert "2026-03-29 03:00:00 CEST" in answer.content.decode()
assert Occurrence.objects.filter(trigger="backfill").count() == 0
told = re.search(r'name="really" value="(\w+)"', answer.content.decode())[1]
sent(act("backfill"), really=told, **span)
assert Occurrence.objects.filter(trigger="backfill", outcome="fired").count() == 2
assert "2026-03-29" in shown(url("reliable_tasks_occurrence_changelist"))
assert "reliable_tasks/schedules.css" in shown(page)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("unfold") is None, reason="django-unfold is not installed"
)
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "script",
    [PAGES, ACTS, f"THEMED = False\n{SCHEDULES}", f"THEMED = True\n{SCHEDULES}"],
    ids=["pages", "acts", "schedules", "schedules on its classes"],
)
def test_the_pages_and_acts_work_on_unfold(redis_url, script):
    """With django-unfold each page is built on its classes, opens in its frame, and acts."""
    done = subprocess.run(
        python("-W", "ignore", "-c", HEAD + script),
        cwd=ROOT,
        env=child_env(PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)])),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-3000:]
