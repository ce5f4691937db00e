"""The admin on django-unfold: the same pages, built on its classes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.harness import ROOT, child_env, python

SCRIPT = """
import django
from django.conf import settings
import tests.settings as base
given = {name: getattr(base, name) for name in dir(base) if name.isupper()}
given["INSTALLED_APPS"] = ["unfold", *given["INSTALLED_APPS"]]
memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
given["DATABASES"] = {"default": memory, "other": memory}
settings.configure(**given)
django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from unfold.admin import ModelAdmin
from reliable_tasks.models import Entry
from reliable_tasks.states import State
from tests import entries
from reliable_tasks import ledger, operations, overview
from reliable_tasks.ledger import WorkerReport
from django.contrib.admin.utils import quote
from datetime import timedelta

call_command("migrate", verbosity=0)
assert isinstance(admin.site._registry[Entry], ModelAdmin)
client = Client()
client.force_login(User.objects.create_superuser("root"))
at = overview.now() - timedelta(minutes=1)
held = entries.running(now=at)
entries.bury(held, now=at)
change = reverse("admin:reliable_tasks_entry_change", args=[held.entry])
ledger.beat(WorkerReport("celery@here#1", "celery@here", 1, "prefork", 2, ["celery"], {}))
operations.pause("queue", "mail", "It moves.", by="ann")
names = (
    *("entry", "deadletter", "operation", "operatoract", "pause", "workerprocess"),
    *("overview", "occurrence"),
)
pages = [reverse(f"admin:reliable_tasks_{name}_changelist") for name in names]
act = reverse("admin:reliable_tasks_entry_act", args=["requeue"])
worker = reverse("admin:reliable_tasks_workerprocess_change", args=[quote("celery@here#1")])
done = reverse("admin:reliable_tasks_operatoract_changelist")
overview_page = reverse("admin:reliable_tasks_overview_changelist")
windows = [f"{overview_page}?window={window}" for window in ("1h", "6h", "24h", "7d")]
for page in (*pages, *windows, change, worker, done, f"{act}?id={held.entry}"):
    assert client.get(page).status_code == 200, page
text = client.get(overview_page).content.decode()
assert "Queue mail is paused" in text
assert "<svg" in text
assert "unfold/" in text  # the theme's own frame
assert b"Requeue\\xe2\\x80\\xa6" in client.get(change).content
sent = {"id": str(held.entry), "confirmed": "yes", "reason": "x", "when": "now"}
assert client.post(act, sent).status_code == 302
assert entries.state(held) is State.PENDING
"""


@pytest.mark.skipif(
    importlib.util.find_spec("unfold") is None, reason="django-unfold is not installed"
)
def test_the_pages_and_acts_work_on_unfold(db):
    """With django-unfold each page is built on its classes, opens, and acts."""
    done = subprocess.run(
        python("-W", "ignore", "-c", SCRIPT),
        cwd=ROOT,
        env=child_env(PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)])),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
