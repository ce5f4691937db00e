"""`manage.py reliable_tasks operations`, and acts that the command line leaves to the workers."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from reliable_tasks import overview
from reliable_tasks.ids import new_id
from reliable_tasks.models import Entry, Operation, OperatorAct
from reliable_tasks.operations import background
from reliable_tasks.states import State
from tests import entries
from tests.commands import reliable_tasks

pytestmark = pytest.mark.django_db


def died(count, **given):
    at = overview.now() - timedelta(minutes=1)
    ids = []
    for _ in range(count):
        held = entries.running(now=at, **given)
        entries.bury(held, now=at)
        ids.append(held.entry)
    return ids


def begun(*more):
    ran = reliable_tasks("requeue", "--all", "--background", "--yes", "--json", *more)
    assert ran.code == 0
    return Operation.objects.get(pk=ran.json["operation"])


def states(ids):
    return set(Entry.objects.filter(pk__in=ids).values_list("state", flat=True))


def test_an_act_is_left_to_the_workers():
    """A background requeue changes nothing at once; the workers do it, with reason and record."""
    ids, other = died(3, queue="mail"), died(1)
    ran = reliable_tasks(
        *("requeue", "--queue", "mail", "--background", "--rate", "50", "--spread", "60"),
        *("--reason", "The server is back.", "--yes"),
    )
    operation = Operation.objects.get()
    assert f"3 of them: operation {operation.pk}" in ran.out
    assert (operation.rate, operation.params, operation.total) == (50.0, {"spread": 60.0}, 3)
    assert states(ids) == {"dead"}
    background.go_on(operation.pk, 1)
    assert (states(ids), states(other)) == ({"pending"}, {"dead"})
    act = OperatorAct.objects.get()
    assert (act.act, act.reason) == ("requeue", "The server is back.")
    assert "with manage.py" in act.by


@pytest.mark.parametrize(
    ("verb", "state", "filters"),
    [
        ("discard", State.DEAD, ("--error", "GatewayDown", "--newer", "1h")),
        ("discard", State.DEAD, ("--task", "tests.app.*", "--older", "30s")),
        ("discard", State.DEAD, ("--worker", entries.WORKER, "--fingerprint", "0123456789ABCDEF")),
        ("cancel", State.PENDING, ("--all",)),
        ("requeue", State.CANCELLED, ("--state", "cancelled")),
    ],
)
def test_the_workers_take_what_the_command_line_chose(verb, state, filters):
    """Whatever chooses entries for an act at once chooses the same for one in the background."""
    if state is State.DEAD:
        chosen, others = died(2), [entries.in_state(State.DEAD), *died(1, task="other.task")]
        Entry.objects.filter(pk__in=others).update(
            error_class="", fingerprint="", worker="", enqueued_at=overview.now()
        )
        Entry.objects.filter(pk=others[0]).update(enqueued_at=overview.now() - timedelta(hours=2))
        Entry.objects.filter(pk=others[0]).update(task="other.task")
    else:
        chosen, others = [entries.in_state(state)], [entries.in_state(State.SUCCEEDED)]
        moved = overview.now() - timedelta(hours=1)
        Entry.objects.update(enqueued_at=moved)
        Entry.objects.filter(finished_at__isnull=False).update(finished_at=moved)
    counted = reliable_tasks(verb, *filters, "--dry-run", "--json").json
    assert {UUID(pk) for pk in next(iter(v for k, v in counted.items() if k != "dry_run"))} == set(
        chosen
    )
    before = states(others)
    ran = reliable_tasks(verb, *filters, "--background", "--yes", "--json")
    assert ran.json["total"] == len(chosen)
    background.go_on(UUID(ran.json["operation"]), 1)
    assert states(chosen).isdisjoint({state.value})
    assert states(others) == before


def test_ids_can_be_left_to_the_workers():
    """Entries that are named are those that the operation takes."""
    one, other = died(2)
    ran = reliable_tasks("discard", one, "--background", "--yes", "--json")
    background.go_on(UUID(ran.json["operation"]), 1)
    assert [entries.state(one), entries.state(other)] == ["cancelled", "dead"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--all", "--rate", "5"), "needs --background"),
        (("--all", "--background", "--rate", "0"), "no number of entries a second"),
        (("--all", "--background", "--limit", "2"), "takes all that match"),
        (("--queue", "celery", "--queue", "b", "--background"), "one --queue"),
        (("--all", "--background", "--in", "9", "--spread", "9"), "spread from now on"),
        (("--all", "--background", "--task-name", "tests.app.tasks.boom"), "another task"),
    ],
)
def test_what_an_operation_cannot_do_is_refused(given, words):
    """What only the command itself can do is refused with --background, and nothing begins."""
    died(1)
    ran = reliable_tasks("requeue", *given, "--yes")
    assert ran.code == 2
    assert words in ran.err
    assert not Operation.objects.exists()


def test_nothing_begins_without_an_answer():
    """Without an answer nothing is begun; a dry run begins nothing either."""
    died(1)
    assert reliable_tasks("requeue", "--all", "--background").code == 2
    assert reliable_tasks("requeue", "--all", "--background", "--dry-run").code == 0
    assert not Operation.objects.exists()


def test_list_and_show():
    """Operations are listed newest first with their progress; one is shown with all its facts."""
    assert "There are no operations." in reliable_tasks("operations").err
    died(3)
    first = begun("--reason", "Again.")
    background.go_on(first.pk, 1)
    died(1)
    second = begun()
    rows = reliable_tasks("operations", "--json").json
    assert [(row["id"], row["state"], row["done"]) for row in rows] == [
        (str(second.pk), "running", 0),
        (str(first.pk), "done", 3),
    ]
    going = reliable_tasks("operations", "list", "--going", "--json").json
    assert [row["id"] for row in going] == [str(second.pk)]
    shown = reliable_tasks("operations", "show", first.pk).out
    assert "3 done, of 3" in shown
    assert "Again." in shown
    assert str(first.pk) in reliable_tasks("operations").out
    assert "there are more" in reliable_tasks("operations", "--limit", "1").err


def test_pause_resume_rate_and_stop():
    """The reins do what those of the admin do, each with its reason on record."""
    died(3)
    operation = begun()
    steer = lambda *words: reliable_tasks("operations", *words, "--reason", "Load.")  # noqa: E731
    assert steer("pause", operation.pk).code == 0
    background.go_on(operation.pk, 1)
    operation.refresh_from_db()
    assert (operation.state, operation.done) == ("paused", 0)
    assert steer("rate", operation.pk, "2").code == 0
    assert Operation.objects.get().rate == 2.0
    assert steer("rate", operation.pk, "none").code == 0
    assert Operation.objects.get().rate is None
    assert steer("resume", operation.pk).code == 0
    assert steer("stop", operation.pk).code == 0
    assert Operation.objects.get().state == "stopped"
    assert steer("resume", operation.pk).code == 1
    kept = OperatorAct.objects.filter(act="steer operation").order_by("pk")
    assert list(kept.values_list("target", "reason")) == [
        (f"pause operation {operation.pk}", "Load."),
        (f"rate of operation {operation.pk}: 2 entries a second", "Load."),
        (f"rate of operation {operation.pk}: no limit", "Load."),
        (f"resume operation {operation.pk}", "Load."),
        (f"stop operation {operation.pk}", "Load."),
    ]


def test_an_operation_that_nothing_carries_is_told():
    """When the entry that carries an operation has ended, show says so and resume goes on."""
    died(2)
    operation = begun()
    assert "Nothing carries it" not in reliable_tasks("operations", "show", operation.pk).out
    assert reliable_tasks("cancel", operation.entry_id, "--yes").code == 0
    assert "Nothing carries it" in reliable_tasks("operations", "show", operation.pk).out
    assert reliable_tasks("operations", "show", operation.pk, "--json").json["stalled"] is True
    reliable_tasks("operations", "resume", operation.pk)
    operation.refresh_from_db()
    background.go_on(operation.pk, operation.turn)
    operation.refresh_from_db()
    assert (operation.state, operation.done) == ("done", 2)


@pytest.mark.parametrize(
    "given",
    [
        ("pause",),
        ("show", new_id()),
        ("list", new_id()),
        ("rate", new_id(), "fast"),
        ("rate", new_id(), "inf"),
        ("rate",),
    ],
)
def test_what_cannot_be_meant(given):
    """A command line without its operation, or with one that does not exist, is refused."""
    assert reliable_tasks("operations", *given).code == 2
