"""Why an entry that waits is not running: each cause is found and said in words."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from django.urls import reverse
from django.utils import translation

from reliable_tasks import ledger, operations, overview
from reliable_tasks.dedup import FOLLOWS
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Entry, Pause
from reliable_tasks.states import ENDED, State
from reliable_tasks.why import why_waiting
from tests import entries
from tests.commands import reliable_tasks
from tests.harness import ROOT
from tests.pages import DOCS, rows

PACKAGE = ROOT / "reliable_tasks"
ADD = "tests.app.tasks.add"


def ago(seconds):
    return overview.now() - timedelta(seconds=seconds)


def worker(name="celery@here#1", queues=("celery",), *, silent=0, draining=False, **more):
    report = WorkerReport(
        name, name.partition("#")[0], 1, "prefork", more.pop("concurrency", 2), queues, {}, **more
    )
    ledger.beat(report, draining=draining, now=ago(silent))
    return name


@pytest.fixture
def healthy(db, flush_broker):
    """Give the test a worker on the queue and a broker that answers."""
    worker(tasks=[ADD])


def reasons(entry_id, **options):
    found = why_waiting(entries.row(entry_id), **options)
    assert all(reason.text for reason in found)
    assert all("%" not in reason.text + reason.remedy for reason in found)
    return {reason.cause: reason for reason in found}


def test_another_entry_holds_its_key(healthy):
    """A duplicate in a canvas says whom it follows, as long as that one has not ended."""
    holder = entries.enqueue(now=ago(9))
    follower = entries.enqueue(now=ago(5), options=f'{{"{FOLLOWS}": "{holder}"}}')
    found = reasons(follower)["key_held"]
    assert found.blocks
    assert f"Entry {holder} holds its key" in found.text
    assert "It is pending" in found.text
    assert found.details == {"holder": holder, "state": "pending"}
    ledger.succeed(entries.claim(holder, now=ago(1)))
    assert "key_held" not in reasons(follower)


@pytest.mark.parametrize(("kind", "name"), [("queue", "celery"), ("task", ADD)])
def test_paused(healthy, kind, name):
    """A pause is told with who, why, its end and how to resume; resumed, it is told no more."""
    entry = entries.enqueue(now=ago(5))
    end = overview.now() + timedelta(minutes=30)
    operations.pause(kind, name, "The gateway is down.", by="ann", ends_at=end)
    found = reasons(entry)["paused"]
    assert found.blocks
    assert f"The {kind} “{name}” was paused" in found.text
    assert "by ann" in found.text
    assert "The gateway is down." in found.text
    assert "goes on in 30m" in found.text or "goes on in 29m" in found.text
    assert found.remedy == f"Resume it: manage.py reliable_tasks resume {kind} {name}"
    pause = Pause.objects.get().pk
    assert found.details == {"pause": pause, "kind": kind, "name": name, "until": end}
    operations.resume(kind, name)
    assert "paused" not in reasons(entry)


def test_paused_without_an_end(healthy):
    """A pause that nobody gave an end, a name or a reason says so."""
    entry = entries.enqueue(now=ago(5))
    operations.pause("queue", "other", "x")
    operations.pause("queue", "celery")
    found = reasons(entry)["paused"]
    assert "by somebody: no reason given" in found.text
    assert "goes on" not in found.text


def test_nothing_keeps_it(healthy):
    """An entry that just became due has a reason too: its message is on its way."""
    found = reasons(entries.enqueue(now=ago(1)))
    assert list(found) == ["next"]
    assert (
        "has been due for 1s and nothing keeps it. Its message is on its way" in found["next"].text
    )
    assert not found["next"].blocks


def test_an_older_entry_is_next_in_turn(healthy):
    """Once its message had time to arrive, with nothing ahead, an entry is next in turn."""
    entry_id = entries.enqueue(now=ago(7))
    assert "it is next in turn" in reasons(entry_id)["next"].text


@pytest.mark.parametrize("state", [State.RUNNING, *sorted(ENDED)])
def test_only_what_waits_has_reasons(healthy, state):
    """What runs or has ended is not waiting, so there is nothing to say."""
    assert why_waiting(entries.row(entries.in_state(state, now=ago(1)))) == []


def test_not_due(healthy):
    """A countdown is told with the time that is left and when it ends."""
    found = reasons(entries.enqueue(now=ago(1), delay=600.0))
    assert list(found) == ["not_due"]
    assert found["not_due"].text.startswith("It is not due yet. It may begin in 9m 5")
    assert f"{overview.now():%Y-%m-%d}" in found["not_due"].text or "00:0" in found["not_due"].text


def test_retried_after_a_delay(healthy):
    """Between attempts it is told which attempt failed, of what, and when the next may begin."""
    held = entries.running(now=ago(5))
    entries.reschedule(held, now=ago(4), delay=300.0)
    found = reasons(held.entry)
    assert list(found) == ["retry_delay"]
    assert "Attempt 1 came to failed (GatewayDown). The next one may begin in 4m" in (
        found["retry_delay"].text
    )


def test_expires(healthy):
    """An expiry ahead is mentioned, and does not count as what keeps the entry."""
    found = reasons(entries.enqueue(now=ago(1), expires_in=900.0))
    assert list(found) == ["next", "expires"]
    assert "it expires in 14m" in found["expires"].text


def test_expired(healthy):
    """An entry past its expiry will not run any more, whatever else is well."""
    found = reasons(entries.enqueue(now=ago(9), expires_in=5.0))
    assert found["expired"].blocks
    assert "It expired 4s ago" in found["expired"].text


def test_expires_before_it_is_due(healthy):
    """An expiry before the due time is called what it is: the entry can never run."""
    found = reasons(entries.enqueue(now=ago(1), delay=600.0, expires_in=60.0))
    assert "before it is due: it will be cancelled, not run" in found["expires_first"].text
    assert "not_due" in found


def test_asked_to_stop(healthy):
    """An entry that was asked to stop while it ran, and waits again, is about to be cancelled."""
    held = entries.running(now=ago(5))
    ledger.cancel([held.entry], now=ago(4))
    Entry.objects.filter(pk=held.entry).update(state=State.RETRYING)
    assert "It was asked to stop 4s ago" in reasons(held.entry)["cancelled"].text


# ----------------------------------------------------------------------------------------- workers
def test_no_worker_at_all(db, flush_broker):
    """Without any worker that is said, with the command that starts one."""
    found = reasons(entries.enqueue(now=ago(1)))
    assert found["no_worker"].text == "No worker is alive."
    assert found["no_worker"].remedy.endswith("worker -Q celery")


def test_workers_on_other_queues_only(healthy):
    """Workers that live and consume other queues are counted."""
    entry_id = entries.enqueue(now=ago(1), queue="mail")
    found = reasons(entry_id)
    assert found["no_worker"].text == (
        "No worker consumes queue “mail”; 1 is alive on other queues."
    )
    worker("mail@here#1", ["mail"])
    assert "no_worker" not in reasons(entry_id)


def test_only_draining_workers(healthy):
    """A worker that is stopping takes nothing new, and is named."""
    worker("mail@here#1", ["mail"], draining=True)
    found = reasons(entries.enqueue(now=ago(1), queue="mail"))
    assert "are stopping and take nothing new: mail@here#1." in found["no_worker"].text


def test_only_silent_workers(healthy):
    """A worker that has missed its lease does not count, and is named."""
    worker("mail@here#1", ["mail"], silent=60)
    found = reasons(entries.enqueue(now=ago(1), queue="mail"))
    assert "silent for longer than a lease: mail@here#1." in found["no_worker"].text


def test_no_worker_knows_the_task(healthy):
    """Workers say which tasks they know; that none of the queue's knows this one is told."""
    entry_id = entries.enqueue(now=ago(1), task="tests.renamed")
    found = reasons(entry_id)
    assert "No worker on queue “celery” knows the task “tests.renamed”" in (
        found["unknown_task"].text
    )
    worker("new@here#1", tasks=["tests.renamed"])
    assert "unknown_task" not in reasons(entry_id)


def test_a_worker_that_does_not_say_may_know_the_task(healthy):
    """A worker of an older version, which does not report its tasks, is not accused."""
    worker("old@here#1", tasks=None)
    assert "unknown_task" not in reasons(entries.enqueue(now=ago(1), task="tests.renamed"))


def test_a_real_worker_says_which_tasks_it_knows(healthy, worker, transactional_db):
    """The report of a real worker names the project's reliable tasks and no others."""
    from tests.harness import wait_until

    worker(pool="solo", concurrency=1)
    wait_until(lambda: [each for each in overview.workers() if each.identity != "celery@here#1"])
    (known,) = [each.tasks for each in overview.workers() if each.identity != "celery@here#1"]
    assert ADD in known
    assert not [name for name in known if name.startswith("celery.")]


def test_all_slots_are_taken(healthy):
    """Where every slot of the workers on the queue runs something, that is said, with how long."""
    entry_id = entries.enqueue(now=ago(1))
    entries.running(now=ago(2), worker="celery@here#1")
    assert "busy" not in reasons(entry_id)
    entries.running(now=ago(5), worker="celery@here#1")
    found = reasons(entry_id)
    assert "all 2 slots are taken, one of them for 5s" in found["busy"].text
    assert not found["busy"].blocks


# ------------------------------------------------------------------------- broker, sweeper, backlog
def test_broker_that_does_not_answer(healthy):
    """A broker that refuses is named with its error; asking it can be left out."""
    nowhere = Celery("nowhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    entry_id = entries.enqueue(now=ago(1))
    found = reasons(entry_id, app=nowhere)
    assert found["broker"].text.startswith("The broker does not answer, so no worker can be woken")
    assert "refused" in found["broker"].text
    assert "broker" not in reasons(entry_id, app=nowhere, ask_broker=False)


def test_nobody_sweeps(healthy):
    """An entry that the sweeper should have looked at long ago shows that none does."""
    found = reasons(entries.enqueue(now=ago(60)))
    assert "should have looked at it 55s ago and has not" in found["no_sweeper"].text


def test_published_in_vain(healthy):
    """Wake-ups that vanish again and again point to somebody else on the queue."""
    entry_id = entries.enqueue(now=ago(60))
    Entry.objects.filter(pk=entry_id).update(publishes=4)
    assert "published 4 times and never claimed" in reasons(entry_id)["in_vain"].text


def test_backlog(healthy):
    """What became due earlier on the same queue is counted; other queues and states are not."""
    for _ in range(3):
        entries.enqueue(now=ago(4))
    entries.enqueue(now=ago(4), queue="mail")
    entries.running(now=ago(4))
    entry_id = entries.enqueue(now=ago(2))
    found = reasons(entry_id)
    assert found["backlog"].text == "3 entries on its queue became due earlier."
    assert found["backlog"].details == {"ahead": 3, "exact": True}


def test_a_backlog_is_counted_no_further_than_it_must(healthy, monkeypatch):
    """Where more wait than are looked at, the count says that it is a lower bound."""
    monkeypatch.setattr(overview, "SAMPLE", 2)
    for _ in range(3):
        entries.enqueue(now=ago(4))
    found = reasons(entries.enqueue(now=ago(2)))
    assert found["backlog"].text == "At least 2 entries on its queue became due earlier."


# ----------------------------------------------------------------------------------- where it shows
def test_several_causes_are_all_told(db, flush_broker):
    """What else would keep the entry is told as well, the decisive cause first."""
    assert list(reasons(entries.enqueue(now=ago(1), delay=60.0))) == ["not_due", "no_worker"]


def test_show_says_why(db, flush_broker):
    """`manage.py reliable_tasks show` prints the reasons, and gives them to programs."""
    entry_id = entries.enqueue(now=ago(1))
    out = reliable_tasks("show", entry_id).out
    assert "waits      No worker is alive." in out
    assert "→ Start one: celery -A <project> worker -Q celery" in out
    (told,) = reliable_tasks("show", entry_id, "--json").json["why_waiting"]
    assert (told["cause"], told["blocks"]) == ("no_worker", True)


def test_the_page_of_an_entry_says_why(healthy, admin_client):
    """The admin's page of an entry that waits shows the reasons, escaped; of others, none."""
    waiting = entries.enqueue(now=ago(1), queue="<b>mail")
    done = entries.in_state(State.SUCCEEDED, now=ago(1))
    pages = {
        pk: admin_client.get(reverse("admin:reliable_tasks_entry_change", args=[pk])).content
        for pk in (waiting, done)
    }
    assert b'data-cause="no_worker">No worker consumes queue' in pages[waiting]
    assert b"<b>mail" not in pages[waiting]
    assert b"worker -Q &lt;b&gt;mail" in pages[waiting]
    assert b"data-cause" not in pages[done]


def test_in_another_language(healthy):
    """The words follow the active language; the cause stays."""
    with translation.override("zh-hans"):
        found = reasons(entries.enqueue(now=ago(1)))
    assert list(found) == ["next"]


def test_it_is_cheap(healthy, django_assert_max_num_queries):
    """The answer takes a handful of statements, however many entries wait."""
    for _ in range(20):
        entries.enqueue(now=ago(4))
    entry = entries.row(entries.enqueue(now=ago(1)))
    with django_assert_max_num_queries(5):
        why_waiting(entry)


def test_every_cause_is_tested():
    """Each cause that the code can find is asked for by a test in here."""
    source = "".join(path.read_text() for path in (PACKAGE / "why").glob("*.py"))
    here = Path(__file__).read_text()
    causes = re.findall(r'Reason\(\s*"(\w+)"', source)
    assert len(causes) == 16
    assert [cause for cause in causes if f'"{cause}"' not in here] == []


def test_the_docs_name_every_cause():
    """The table in the docs has every cause that the code can find."""
    source = "".join(path.read_text() for path in (PACKAGE / "why").glob("*.py"))
    listed = {
        cells[0].strip("`"): cells[2]
        for cells in rows(DOCS / "operating.md")
        if len(cells) == 3 and cells[2] in {"yes", "no"}
    }
    calls = re.findall(r'Reason\(\s*"(\w+)"', source)
    assert set(calls) <= set(listed)
    assert len(calls) == len(set(calls))
