"""Paused queues and tasks: nothing of them is claimed or published, and nothing is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from reliable_tasks import ledger, operations, overview
from reliable_tasks.models import Entry, OperatorAct, Pause
from reliable_tasks.oversight import Kind
from reliable_tasks.states import State
from reliable_tasks.sweeping import reconcile
from tests import entries
from tests.commands import reliable_tasks
from tests.entries import GRACE, LEASE, T0, WORKER, enqueue, later, row, sweep
from tests.statements import claiming

pytestmark = pytest.mark.django_db


def claim(entry_id, seconds=0.0):
    return ledger.claim(entry_id, WORKER, lease=LEASE, now=later(seconds))


@pytest.mark.parametrize(("kind", "name"), [("queue", "mail"), ("task", "tests.app.tasks.boom")])
def test_what_is_paused_is_not_claimed(kind, name):
    """Entries of a paused queue or task are not claimed; those of others are."""
    held = enqueue(queue="mail", task="tests.app.tasks.boom")
    free = enqueue()
    assert ledger.pause(Kind(kind), name, now=T0)
    assert claim(held) is None
    assert claim(free) is not None
    assert ledger.resume(Kind(kind), name, now=T0)
    assert claim(held) is not None


def test_names_of_queues_and_tasks_are_not_mixed_up():
    """A queue that has the name of a task is another thing."""
    entry = enqueue()
    ledger.pause(Kind.QUEUE, "tests.app.tasks.add", now=T0)
    ledger.pause(Kind.TASK, "celery", now=T0)
    assert claim(entry) is not None


def test_a_pause_ends_by_itself():
    """A pause with an end holds up to it and not longer, whether or not a sweeper has been by."""
    entry = enqueue()
    ledger.pause(Kind.QUEUE, "celery", ends_at=later(30), now=T0)
    assert claim(entry, 29.9) is None
    assert claim(entry, 30.1) is not None


def test_what_runs_goes_on():
    """A pause stops no attempt: it can finish, and be retried once the pause is over."""
    held = entries.running()
    ledger.pause(Kind.QUEUE, "celery", now=T0)
    ledger.succeed(held, now=later(1))
    assert entries.state(held) is State.SUCCEEDED


def test_an_eager_call_is_not_held_up():
    """An eager call runs now or never, so a pause does not concern it."""
    entry = enqueue()
    ledger.pause(Kind.QUEUE, "celery", now=T0)
    assert ledger.claim(entry, WORKER, lease=LEASE, ignore_due=True, now=T0) is not None


def test_the_sweeper_does_not_publish_what_is_paused():
    """What is paused is put off, however often it is swept, and published once resumed."""
    paused = enqueue(queue="mail", delay=1.0)
    free = enqueue(delay=1.0)
    ledger.pause(Kind.QUEUE, "mail", now=T0)
    assert [wakeup.entry for wakeup in sweep(now=later(2)).wakeups] == [str(free)]
    assert row(paused).wake_at > later(2)
    assert sweep(now=later(3)).wakeups == []
    ledger.resume(Kind.QUEUE, "mail", now=later(4))
    assert [wakeup.entry for wakeup in sweep(now=later(4)).wakeups] == [str(paused)]


def test_what_is_paused_is_looked_at_when_the_pause_ends():
    """An entry that is put off is looked at no later than at the end of its pause."""
    entry = enqueue(delay=1.0)
    ledger.pause(Kind.QUEUE, "celery", ends_at=later(3), now=T0)
    sweep(now=later(2))
    assert row(entry).wake_at == later(3)
    # The look takes the ended pause away and marks what it held; the next turn follows at once.
    assert sweep(now=later(3)).wakeups == []
    assert row(entry).wake_at <= later(3)
    assert [wakeup.entry for wakeup in sweep(now=later(3)).wakeups] == [str(entry)]


def test_what_is_paused_lacks_no_message():
    """Entries that are paused do not count as entries whose message was lost."""
    for _ in range(3):
        enqueue(task="tests.app.tasks.boom")
    enqueue()
    ledger.pause(Kind.TASK, "tests.app.tasks.boom", now=T0)
    held = ledger.paused(now=later(GRACE))
    given = {"grace": GRACE, "held": held, "now": later(GRACE)}
    assert ledger.missing_on("celery", 0, at_most=100, **given) == 1
    assert ledger.pull_forward("celery", count=100, **given) == 1
    ledger.pause(Kind.QUEUE, "celery", now=T0)
    everything = ledger.paused(now=later(GRACE))
    assert ledger.waiting_queues(grace=GRACE, held=everything, now=later(GRACE)) == []


def test_a_rescued_entry_waits_for_the_end_of_its_pause():
    """An attempt that is lost during a pause is rescued at once and runs after the pause."""
    held = entries.running()
    ledger.pause(Kind.QUEUE, "celery", now=T0)
    swept = sweep(now=later(LEASE))
    assert [taken.id for taken in swept.rescued] == [held.entry]
    assert swept.wakeups == []
    assert claim(held.entry, LEASE) is None
    ledger.resume(Kind.QUEUE, "celery", now=later(LEASE + 1))
    assert len(sweep(now=later(LEASE + 1)).wakeups) == 1


def test_expiry_and_cancel_go_on():
    """A pause keeps nothing from expiring or from being cancelled."""
    expires = enqueue(delay=1.0, expires_in=2.0)
    waits = enqueue()
    ledger.pause(Kind.QUEUE, "celery", now=T0)
    sweep(now=later(1.5))
    sweep(now=later(5))
    assert entries.state(expires) is State.CANCELLED
    assert ledger.cancel([waits], now=later(5)).cancelled == [waits]


def test_one_pause_of_one_thing():
    """A second pause of the same thing changes nothing; one whose time has come is no pause."""
    assert ledger.pause(Kind.QUEUE, "mail", reason="first", ends_at=later(10), now=T0)
    assert not ledger.pause(Kind.QUEUE, "mail", reason="second", now=later(5))
    assert Pause.objects.get().reason == "first"
    assert ledger.pause(Kind.QUEUE, "mail", reason="third", now=later(11))
    assert (Pause.objects.get().reason, Pause.objects.get().ends_at) == ("third", None)
    assert ledger.resume(Kind.QUEUE, "mail", now=later(12))
    assert not ledger.resume(Kind.QUEUE, "mail", now=later(12))


def test_the_sweeper_forgets_ended_pauses():
    """A pause whose end has come is taken away, and what it held is published at once."""
    entry = enqueue()
    ledger.pause(Kind.QUEUE, "celery", ends_at=later(10), now=T0)
    ledger.pause(Kind.QUEUE, "mail", now=T0)
    assert ledger.forget_ended(now=later(9)) == 0
    assert ledger.forget_ended(now=later(11)) == 1
    assert [pause.name for pause in Pause.objects.all()] == ["mail"]
    assert row(entry).wake_at <= later(11)


def test_a_pause_that_nobody_uses_costs_nothing(django_assert_num_queries):
    """The claim is one statement with and without pauses, and a turn with nothing due is too."""
    entry = enqueue()
    with django_assert_num_queries(len(claiming())):
        claim(entry)
    with django_assert_num_queries(1):
        ledger.seconds_until_wake(now=T0)


def test_acts_are_on_record():
    """Who paused and resumed what, why and until when, is on record; a useless try is not."""
    end = overview.now() + (later(600) - T0)
    assert operations.pause("queue", "mail", "The server is down.", by="ann", ends_at=end)
    assert not operations.pause("queue", "mail", "Again.", by="bob")
    assert operations.resume("queue", "mail", "It is up.", by="bob")
    assert not operations.resume("queue", "mail")
    kept = OperatorAct.objects.order_by("pk").values_list("act", "by", "reason", "target")
    assert list(kept) == [
        ("pause", "ann", "The server is down.", "queue mail"),
        ("resume", "bob", "It is up.", "queue mail"),
    ]
    assert OperatorAct.objects.get(act="pause").details == {"until": end.isoformat()}


@pytest.mark.parametrize(("kind", "name"), [("worker", "x"), ("queue", "")])
def test_only_queues_and_tasks_with_names_are_paused(kind, name):
    """What is neither a queue nor a task, or has no name, is refused."""
    with pytest.raises(ValueError, match=r"worker|empty"):
        operations.pause(kind, name)


def test_a_long_backlog_comes_back_by_the_count_of_messages(flush_broker):
    """What a resume does not pull forward by itself is found missing and published."""
    from reliable_tasks.link import Link
    from tests.celery_app import app

    entries.enqueue_alike(5, now=None, grace=60.0)
    Entry.objects.update(due_at=overview.now() - (later(60) - T0))
    ledger.pause(Kind.QUEUE, "celery")
    link = Link(app, redeclare=True)
    assert reconcile(link).pulled == 0
    Pause.objects.all().delete()
    assert reconcile(link).pulled == 5
    link.close()


def test_a_newer_pause_is_not_ended_in_the_place_of_an_older_one(admin_client):
    """Who resumes the pause that a page showed does not end one that began since, in its row."""
    operations.pause("queue", "mail", "The server is down.", by="ann")
    shown = Pause.objects.get()
    page = reverse("admin:reliable_tasks_pause_end", args=[shown.pk])
    since = admin_client.get(page).context["form"]["since"].value()
    assert f'value="{since}"' in admin_client.get(page).content.decode()
    Pause.objects.update(paused_at=shown.paused_at + timedelta(seconds=5))
    given = {"reason": "It is up.", "since": since}
    answer = admin_client.post(page, given, follow=True)
    (note,) = answer.context["messages"]
    assert "another pause than the one that was shown" in str(note)
    assert Pause.objects.exists()
    assert not operations.resume("queue", "mail", since=shown.paused_at)
    since = admin_client.get(page).context["form"]["since"].value()
    admin_client.post(page, {**given, "since": since})
    assert not Pause.objects.exists()


# ----------------------------------------------------------------------- counted before it is done
def backlog():
    """Write three entries of one queue that are due, one that is not, and one that runs."""
    for task in ("tests.app.tasks.add", "tests.app.tasks.add", "tests.app.tasks.boom"):
        enqueue(queue="mail", task=task, now=None)
    enqueue(queue="mail", now=None, delay=600.0)
    entries.running(queue="mail", now=None)
    enqueue(now=None)


def test_what_a_pause_concerns_is_counted():
    """What waits, of that what would begin, and what runs; another pause holds its own."""
    backlog()
    mail = operations.concerned("queue", "mail")
    assert (mail.waiting, mail.due, mail.running, mail.exact) == (4, 3, 1, True)
    add = operations.concerned("task", "tests.app.tasks.add")
    assert (add.waiting, add.due, add.running) == (4, 3, 1)
    operations.pause("task", "tests.app.tasks.boom")
    operations.pause("queue", "mail")
    assert operations.concerned("queue", "mail").due == 2
    assert operations.concerned("task", "tests.app.tasks.boom").due == 0


def test_a_long_backlog_is_counted_as_far_as_a_page_may(monkeypatch):
    """Beyond a number of live entries, the count says that there may be more."""
    backlog()
    monkeypatch.setattr(overview, "SAMPLE", 3)
    assert not operations.concerned("queue", "mail").exact


def test_the_page_of_a_pause_counts_before_it_pauses(admin_client):
    """A name that was typed is counted first; the second press of the button pauses that name."""
    backlog()
    page = reverse("admin:reliable_tasks_pause_begin")
    typed = {"kind": "queue", "name": "mail", "reason": "Deploy."}
    counted = admin_client.post(page, typed)
    text = counted.content.decode()
    assert "queue mail: 4 entries wait there now, and will not begin (due: 3)." in text
    assert "1 entry runs there, and goes on." in text
    assert not Pause.objects.exists()
    label = counted.context["form"]["counted"].value()
    other = admin_client.post(page, {**typed, "name": "celery", "counted": label})
    assert "queue celery: 1 entry waits there now" in other.content.decode()
    assert not Pause.objects.exists()
    admin_client.post(page, {**typed, "counted": label})
    assert (Pause.objects.get().name, OperatorAct.objects.get().reason) == ("mail", "Deploy.")


def test_a_link_with_a_name_leads_to_a_page_that_counts(admin_client):
    """Who comes from elsewhere sees at once what the pause would hold up."""
    backlog()
    page = reverse("admin:reliable_tasks_pause_begin")
    shown = admin_client.get(page, {"kind": "queue", "name": "mail"})
    assert "4 entries wait there now" in shown.content.decode()
    counted = shown.context["form"]["counted"].value()
    typed = {"kind": "queue", "name": "mail", "reason": "Deploy.", "counted": counted}
    admin_client.post(page, typed)
    assert Pause.objects.get().name == "mail"


def test_the_page_of_a_resume_counts_what_would_begin(admin_client):
    """The page says who paused and why, what waits, and what of it begins."""
    backlog()
    operations.pause("queue", "mail", "The server is down.", by="ann")
    page = reverse("admin:reliable_tasks_pause_end", args=[Pause.objects.get().pk])
    text = admin_client.get(page).content.decode()
    assert "Paused by ann: The server is down." in text
    assert "4 entries wait there now, of which 3 would begin." in text


def test_who_may_resume_gets_there_from_what_waits(admin_client, client):
    """The page of an entry that a pause holds leads those who may to the pause's own page."""
    entry = enqueue(queue="mail", now=None)
    operations.pause("queue", "mail")
    page = reverse("admin:reliable_tasks_entry_change", args=[entry])
    resume = reverse("admin:reliable_tasks_pause_end", args=[Pause.objects.get().pk])
    assert f'href="{resume}"' in admin_client.get(page).content.decode()
    ann = User.objects.create_user("ann", is_staff=True)
    ann.user_permissions.set(Permission.objects.filter(codename="view_entry"))
    client.force_login(ann)
    text = client.get(page).content.decode()
    assert "manage.py reliable_tasks resume queue mail" in text
    assert f'href="{resume}"' not in text


def test_the_command_counts_too():
    """The command says how many wait and run on, and of a resume how many are due."""
    backlog()
    assert reliable_tasks("pause", "queue", "mail").out == (
        "Paused queue mail: 4 wait there, 1 run on.\n"
    )
    found = reliable_tasks("resume", "queue", "mail", "--json").json
    assert found == {"done": True, "waiting": 4, "due": 3, "running": 1, "exact": True}
