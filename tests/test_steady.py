"""An attempt's end counts if it was written, also where the connection broke before the answer."""

from __future__ import annotations

import pytest
from django.db import InternalError, OperationalError, connection, transaction

from reliable_tasks import events, execution, ledger, outage, steady
from reliable_tasks.errors import Fenced
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import Outcome, State
from reliable_tasks.task import ReliableTask
from reliable_tasks.verdict import Verdict
from tests import entries, services
from tests.app import once_tasks
from tests.app import worker_tasks as tasks
from tests.app.tasks import add, boom
from tests.celery_app import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Try again at once."""
    monkeypatch.setattr(steady, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def fenced():
    """Collect who is told to be fenced off."""
    seen = []

    def note(event, **_):
        seen.append(event.entry)

    events.entry_fenced.connect(note)
    yield seen
    events.entry_fenced.disconnect(note)


@pytest.fixture
def unanswered(monkeypatch):
    """Let one of the ledger's functions do its work once, and the connection break after it."""

    def leave(name):
        write, broken = getattr(ledger, name), []

        def once(*args, **kwargs):
            write(*args, **kwargs)
            if not broken:
                broken.append(name)
                raise OperationalError("the server closed the connection")

        monkeypatch.setattr(ledger, name, once)

    return leave


def test_a_success_without_an_answer_is_a_success(unanswered, fenced):
    """Its result is returned and what follows it is enqueued, as after any success."""
    unanswered("succeed")
    result = add.apply((1, 2), link=tasks.combine_one.s())
    assert result.get() == 3
    assert Entry.objects.get(task=tasks.combine_one.name).args == [3]
    assert fenced == []


def test_a_death_without_an_answer_is_a_death(unanswered, fenced):
    """Whoever waits is told of the failure."""
    unanswered("bury")
    result = boom.apply(("bad",))
    with pytest.raises(ValueError, match="bad"):
        result.get()
    assert Entry.objects.get().state == State.DEAD
    assert Attempt.objects.count() == 1
    assert fenced == []


def test_a_retry_without_an_answer_is_a_retry(unanswered, fenced):
    """The next attempt follows, and the failure is on record once."""
    unanswered("reschedule")
    assert tasks.fail_until.apply((2,)).get() == "done"
    assert Attempt.objects.count() == 1
    assert fenced == []


def test_a_release_without_an_answer_is_a_release(unanswered):
    """An attempt that was given back is given back once, and that is told."""
    unanswered("release")
    told = []

    def note(event, **_):
        told.append(event.attempt)

    events.entry_released.connect(note)
    with pytest.raises(KeyboardInterrupt):
        tasks.interrupted.apply()
    assert told == [1]
    assert Entry.objects.get().state == State.PENDING
    assert Attempt.objects.count() == 1


@pytest.mark.parametrize("broken", [True, False])
def test_who_lost_the_entry_meanwhile_is_fenced(broken):
    """The end that somebody else has written does not pass for one's own."""
    held = entries.running(now=None)
    ledger.rescue_lost([held.entry], held.worker)
    tries = []

    def write():
        tries.append(1)
        if broken and len(tries) == 1:
            raise OperationalError("the server closed the connection")
        ledger.succeed(held)

    with pytest.raises(Fenced):
        steady.write_down(write, execution._has_ended(held))
    assert entries.state(held) == State.RETRYING


def test_what_its_worker_gave_back_is_no_success():
    """An entry that waits because it was released runs again: no attempt has ended it."""
    held = entries.running(now=None)
    assert not execution._has_ended(held)()
    assert ledger.release_left(held.worker) == 1
    assert entries.state(held) is State.PENDING
    assert not execution._has_ended(held)()


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.parametrize(
    ("name", "following"),
    [("enqueue", tasks.combine_one.s()), ("enqueue_once", once_tasks.succeed_at.s(1))],
)
def test_what_follows_is_enqueued_in_spite_of_a_broken_connection(
    monkeypatch, name, following, arrived
):
    """A chain goes on where the connection breaks between a step's end and the next one's entry."""
    enqueue, broken = getattr(ledger, name), []

    def once(entry, **how):
        if entry.task != following.task or broken:
            return enqueue(entry, **how)
        broken.append(entry.id)
        if arrived:
            enqueue(entry, **how)
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(ledger, name, once)
    assert add.apply((1, 2), link=following).get() == 3
    assert [Entry.objects.get(task=following.task).pk] == broken


def test_a_body_is_told_of_a_broken_connection(monkeypatch):
    """What a body enqueues is part of its attempt, which fails and may be tried again."""
    tried = []

    def broken(entry, **_):
        tried.append(entry.task)
        raise OperationalError("the server closed the connection")

    @app.task(base=ReliableTask, name="tests.enqueues", max_retries=0)
    def enqueues():
        monkeypatch.setattr(ledger, "enqueue", broken)
        add.delay(1, 2)

    try:
        with pytest.raises(OperationalError):
            enqueues.apply().get()
    finally:
        app.tasks.pop(enqueues.name)
    assert tried == [add.name]


@pytest.mark.parametrize("delay", [0.0, -5.0, float("nan")])
def test_a_retry_whose_time_has_passed_is_published_at_once(monkeypatch, delay):
    """A `raise Retry` with a time in the past is due at once, and published by who writes it."""
    published = []
    monkeypatch.setattr(ReliableTask, "publish_entry", lambda _, *args: published.append(args[0]))
    held = entries.running(now=None)
    execution.finish(add, held, Verdict(entries.FAILURE, Outcome.RETRY, delay=delay))
    assert published == [held.entry]
    assert entries.row(held).publishes == 1


@pytest.fixture
def former_primary():
    """Give the test a claim that a server refuses so many times because it lets nobody write."""
    if services.database_vendor() != "postgres":
        pytest.skip("only PostgreSQL can be told to let nobody write within a transaction")
    pk, asked = entries.enqueue(now=None), []

    def claim(refusals):
        connection.ensure_connection()
        asked.append(connection.connection)
        if len(asked) > refusals:
            return entries.claim(pk, now=None)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            return entries.claim(pk, now=None)

    return claim, asked


def test_a_server_that_lets_nobody_write_is_asked_over_another_connection(former_primary):
    """After a failover the kept connection to the former primary is closed; a new one claims."""
    claim, asked = former_primary
    assert steady.on_live_connection(lambda: claim(1)).token == 1
    assert asked[0] is not asked[1]


def test_a_server_that_goes_on_letting_nobody_write_is_out_of_reach(former_primary):
    """Whoever waits for the ledger waits for that as for an outage, and keeps no connection."""
    claim, asked = former_primary
    with pytest.raises(OperationalError, match="read-only transaction"):
        steady.on_live_connection(lambda: claim(99))
    assert len(asked) == len(set(map(id, asked))) == 1 + len(steady._PAUSES)
    assert connection.connection is None


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (OperationalError(1290, "running with the --read-only option"), True),
        (OperationalError(1213, "Deadlock found"), False),
        (InternalError("out of some resource"), False),
        (OperationalError(), False),
    ],
)
def test_only_a_refusal_to_write_is_one(error, answer):
    """What MariaDB and MySQL say of a replica is told from whatever else a database may say."""
    assert outage.is_read_only(error) is answer
