"""Every act that the admin has: without its permission, its button and its token nothing changes.

The acts are found in the admin's own addresses and actions: a new one fails here until it is in the
table below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from reliable_tasks import operations, overview
from reliable_tasks.admin import operations as steering
from reliable_tasks.admin.schedule_acts import ACTS as SCHEDULE_ACTS
from reliable_tasks.admin.verbs import VERBS
from reliable_tasks.models import Entry, OperatorAct, Pause
from reliable_tasks.schedules import operations as schedules
from tests import entries
from tests.app.once_tasks import square
from tests.schedules import making
from tests.test_admin import LIST, died

pytestmark = pytest.mark.django_db

#: Pages that every admin has; they change nothing here, see ``test_nothing_is_edited_here``.
STOCK = re.compile(r".*_(changelist|add|change|delete|history|autocomplete)|[a-z]+")
STOCK_ACTIONS = {"delete_selected", "enable_tasks", "disable_tasks", "toggle_tasks"}
SCHEDULES = "admin:django_celery_beat_periodictask_changelist"


@dataclass
class Act:
    """One way to act.

    Attributes:
        permission: what it requires.
        address: where its form is sent.
        data: what the form sends.
        alone: whether it acts by itself; False if it only leads to the page of an act.
    """

    permission: str
    address: str
    data: dict[str, Any] = field(default_factory=dict)
    alone: bool = True


# ---------------------------------------------------------------------------- what acts there are
def acts_of_the_admin() -> Iterator[str]:
    """Yield the names of all acts, as the admin offers them."""
    for pattern in _patterns(admin.site.get_urls()):
        name = pattern.name or ""
        if name == "reliable_tasks_entry_act":
            yield from (f"{name} {verb}" for verb in VERBS)
        elif name == "reliable_tasks_schedule_act":
            yield from (f"{name} {act}" for act in SCHEDULE_ACTS)
        elif name == "reliable_tasks_operation_steer":
            yield from (f"{name} {to}" for to in (*steering._STEER, "rate"))
        elif "reliable" in name and not STOCK.fullmatch(name):
            yield name
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    for model, page in admin.site._registry.items():
        if model._meta.app_label in {"reliable_tasks", "django_celery_beat"}:
            for name in page.get_actions(request):
                if name not in STOCK_ACTIONS:
                    yield f"{model._meta.model_name} action {name}"


def _patterns(found: Any) -> Iterator[Any]:
    for pattern in found:
        if hasattr(pattern, "url_patterns"):
            yield from _patterns(pattern.url_patterns)
        else:
            yield pattern


# --------------------------------------------------------------------------------------- the table
def on_entry(name: str) -> Act:
    """Return the act of this name on an entry that it can be done to."""
    if name == "release":
        pk = UUID(square.delay(3).id)
    elif name == "cancel":
        pk = entries.enqueue(now=overview.now() - timedelta(minutes=1))
    else:
        pk = died()
    asked = {"reason": "Because.", "confirmed": "yes", "when": "now", "args": "[1, 2]"}
    address = reverse("admin:reliable_tasks_entry_act", args=[name])
    return Act(VERBS[name].permission, address, {"id": str(pk), "kwargs": "{}", **asked})


def on_selected(name: str) -> Act:
    """Return the list's action, which leads to the page of the act."""
    chosen = on_entry(name).data["id"]
    data = {"action": name, "_selected_action": [chosen], "index": 0, "confirmed": "yes"}
    return Act(VERBS[name].permission, reverse(LIST), {**data, "reason": "Because."}, alone=False)


def on_schedule(name: str) -> Act:
    """Return the act of this name on a schedule."""
    schedule = making.simple(f"of {name}", cron="0 * * * *")
    if name == "resume":
        schedules.pause(schedule, "Before.")
    if name == "reset":
        schedules.run_now(schedule, reason="Before.")
    now = overview.now()
    data = {"reason": "Because.", "confirmed": "yes"}
    if name == "backfill":
        span = {"start": now - timedelta(hours=3), "end": now - timedelta(minutes=1)}
        data |= {key: f"{at:%Y-%m-%dT%H:%M}" for key, at in span.items()}
    address = reverse("admin:reliable_tasks_schedule_act", args=[schedule.pk, name])
    return Act(SCHEDULE_ACTS[name].permission, address, data)


def on_selected_schedules(name: str) -> Act:
    """Return the action of the list of schedules; its form is sent to the list as well."""
    one = on_schedule(name)
    schedule = PeriodicTask.objects.get(name=f"of {name}")
    data = {"action": f"reliable_{name}", "_selected_action": [schedule.pk], "index": 0}
    return Act(one.permission, reverse(SCHEDULES), {**one.data, **data})


def on_operation(to: str) -> Act:
    """Return the rein of this name, of an operation."""
    died()
    begun = operations.begin(operations.Act.DISCARD, operations.Chosen(states=("dead",)))
    if to == "resume":
        operations.pause_operation(begun.operation)
    address = reverse("admin:reliable_tasks_operation_steer", args=[begun.operation])
    return Act("steer_operation", address, {"to": to, "reason": "Because.", "rate": "2"})


def on_pause(end: bool) -> Act:
    """Return the begin, or the end, of a pause."""
    if not end:
        data = {"kind": "queue", "name": "mail", "reason": "Because.", "counted": "queue mail"}
        return Act("pause_work", reverse("admin:reliable_tasks_pause_begin"), data)
    operations.pause("queue", "mail")
    address = reverse("admin:reliable_tasks_pause_end", args=[Pause.objects.get().pk])
    return Act("resume_work", address, {"reason": "Because."})


def table() -> dict[str, Callable[[], Act]]:
    """Return for each act what makes it possible."""
    found: dict[str, Callable[[], Act]] = {
        "reliable_tasks_pause_begin": lambda: on_pause(end=False),
        "reliable_tasks_pause_end": lambda: on_pause(end=True),
    }
    for verb in ("requeue", "edit", "cancel", "discard", "release"):
        found[f"reliable_tasks_entry_act {verb}"] = lambda name=verb: on_entry(name)
    for verb in ("requeue", "cancel", "discard", "release"):
        found[f"entry action {verb}"] = lambda name=verb: on_selected(name)
    for name in ("run", "pause", "resume", "backfill", "reset"):
        found[f"reliable_tasks_schedule_act {name}"] = lambda name=name: on_schedule(name)
        found[f"periodictask action reliable_{name}"] = lambda name=name: on_selected_schedules(
            name
        )
    for to in ("pause", "resume", "stop", "rate"):
        found[f"reliable_tasks_operation_steer {to}"] = lambda to=to: on_operation(to)
    return found


TABLE = table()


@pytest.fixture(params=sorted(TABLE))
def act(request, db):
    """Give the test each act, on something that it can be done to."""
    return TABLE[request.param]()


def everything() -> dict[str, list[Any]]:
    """Return all rows of the ledger, of the schedules, and of the admin's log."""
    models = [*apps.get_app_config("reliable_tasks").get_models(), PeriodicTask, LogEntry]
    return {
        model.__name__: list(model._default_manager.order_by("pk").values()) for model in models
    }


def staff(*permissions: Permission) -> User:
    """Return a member of the staff who has some permissions."""
    user = User.objects.create_user("ann", is_staff=True)
    user.user_permissions.set(permissions)
    return user


def of_acts() -> list[Permission]:
    """Return the permissions of this package that are no stock ones: those of acts."""
    ours = Permission.objects.filter(content_type__app_label="reliable_tasks")
    stock = ("view_", "add_", "change_", "delete_")
    return [each for each in ours if not each.codename.startswith(stock)]


def all_but_acts() -> list[Permission]:
    """Return the permissions to see and edit whatever there is."""
    return [each for each in Permission.objects.all() if each not in of_acts()]


def done(client: Client, act: Act) -> Any:
    """Send the form of an act; once more where its page first shows what it would do."""
    answer = client.post(act.address, act.data)
    shown = re.search(r'name="really" value="(\w+)"', answer.content.decode())
    return client.post(act.address, {**act.data, "really": shown[1]}) if shown else answer


# --------------------------------------------------------------------------------------- the tests
def test_every_act_is_in_the_table():
    """Each address and action of the admin that may change something is tested here."""
    assert sorted(acts_of_the_admin()) == sorted(TABLE)


def test_every_permission_is_that_of_an_act(db):
    """No permission of this package is one that no act asks for."""
    asked = {make().permission for name, make in TABLE.items() if " action " not in name}
    assert {each.codename for each in of_acts()} == asked


def test_with_its_permission_it_is_done_and_on_record(act, client):
    """Who has the one permission, and may see what it is about, does it; one record says so."""
    mine = Permission.objects.get(codename=act.permission)
    sight = Permission.objects.filter(codename__startswith="view_")
    client.force_login(staff(mine, *sight))
    before, recorded = everything(), OperatorAct.objects.count()
    answer = done(client, act)
    if not act.alone:
        assert (answer.status_code, everything()) == (200, before)
        return
    assert answer.status_code == 302
    assert OperatorAct.objects.count() == recorded + 1
    changed = {name for name, rows in everything().items() if rows != before[name]}
    assert changed > {"OperatorAct"}


@pytest.mark.parametrize("who", ["nobody", "may look and edit", "may do every other act"])
def test_without_its_permission_nothing_changes(act, client, who):
    """Neither staff without permissions, nor who may see all, nor who may do all else can do it."""
    others = [each for each in of_acts() if each.codename != act.permission]
    given = {
        "nobody": [],
        "may look and edit": all_but_acts(),
        "may do every other act": [*all_but_acts(), *others],
    }
    client.force_login(staff(*given[who]))
    before = everything()
    answer = client.post(act.address, act.data)
    assert everything() == before
    if "action" not in act.data:
        assert answer.status_code == 403
    elif answer.status_code == 200:  # Django answers an action that it does not offer with the list
        assert "form" not in answer.context


def test_a_get_changes_nothing(act, admin_client):
    """An address that somebody was made to open does nothing, whatever it says."""
    before = everything()
    assert admin_client.get(act.address, act.data).status_code < 500
    assert everything() == before


def test_without_the_token_nothing_changes(act, admin_user):
    """A form that another site sends is refused."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    before = everything()
    assert client.post(act.address, act.data).status_code == 403
    assert everything() == before


def test_the_record_is_no_way_to_an_entry(client):
    """Who may act and may not see entries is refused: an act tells what it is done to."""
    act = on_entry("requeue")
    client.force_login(staff(*of_acts()))
    assert client.post(act.address, act.data).status_code == 403
    assert Entry.objects.get(pk=act.data["id"]).state == "dead"
