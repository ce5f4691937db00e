"""The messages of plain Celery tasks: which are sent, which are refused, and which wait."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import redis
from celery import Celery, Task
from celery.result import task_join_will_block
from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from reliable_tasks.ledger import occurrences
from reliable_tasks.link import Link
from reliable_tasks.models import Occurrence
from reliable_tasks.schedules import operations, sending
from reliable_tasks.schedules.beat import Beat
from reliable_tasks.schedules.sending import Sender
from tests.schedules.making import HOUR, MINUTE, SECOND, T0, Clock, every, owe, schedule

pytestmark = pytest.mark.django_db

LATER = T0 + 10 * MINUTE


class Broker:
    """A Redis, what sends to it, and what it holds."""

    def __init__(self, server):
        self.server = server
        self.redis = redis.Redis.from_url(server.url)
        self.app = Celery("sending", broker=server.url, set_as_current=False)
        self.sender = Sender(self.app)

    def send_owed(self, now=LATER):
        return self.sender.send_owed(10, lambda _: None, now=now)

    def break_queue(self, name):
        self.redis.set(name, "no list")

    def count(self, queue):
        return self.redis.llen(queue)

    def ids(self, queue):
        texts = self.redis.lrange(queue, 0, -1)
        return [json.loads(text)["headers"]["id"] for text in texts]


@pytest.fixture
def broker(private_redis):
    """Give the test a broker of its own."""
    made = Broker(private_redis)
    yield made
    made.sender.close()
    made.app.close()


def plain(queue, task="no.such", **fields):
    return schedule(every(hours=1), task=task, queue=queue, **{"args": "[]", **fields})


def owed(task):
    return Occurrence.objects.filter(schedule=task, send_at__isnull=False).count()


def test_a_queue_that_the_broker_refuses_delays_nobody(broker):
    """Messages for a queue that the broker refuses wait; those that came due later are sent."""
    bad, good = plain("bad"), plain("good")
    owe(bad, 3), owe(good, 3, since=T0 + MINUTE)
    broker.break_queue("bad")
    assert broker.send_owed() == 3
    assert (owed(bad), owed(good), broker.count("good")) == (3, 0, 3)
    assert not broker.sender._link.breaker.is_open
    assert {each.outcome for each in Occurrence.objects.filter(schedule=bad)} == {"fired"}


def test_what_a_refused_queue_owes_is_sent_when_it_is_mended(broker):
    """What waited because of its queue is tried again after a while, and sent once."""
    bad = plain("bad")
    owe(bad, 3)
    broker.break_queue("bad")
    broker.send_owed()
    broker.redis.delete("bad")
    assert broker.send_owed(LATER + 5 * SECOND) == 0  # left alone for a while
    assert broker.send_owed(LATER + MINUTE) == 3
    assert (owed(bad), broker.count("bad")) == (0, 3)


def test_a_long_debt_of_one_schedule_hides_no_other(broker, monkeypatch):
    """However much a schedule owes that cannot be sent, the next look gets to the others."""
    monkeypatch.setattr(sending, "_AT_ONCE", 5)
    bad, good = plain("bad"), plain("good")
    owe(bad, 40), owe(good, 2, since=T0 + MINUTE)
    broker.break_queue("bad")
    assert broker.send_owed() == 0
    assert broker.send_owed(LATER + 2 * SECOND) == 2
    assert (owed(bad), owed(good)) == (40, 0)


def test_failures_that_take_long_end_a_pass(broker, monkeypatch):
    """A beat does not spend its turn on messages that fail; what it left comes first next time."""
    monkeypatch.setattr(sending, "_PATIENCE", 0.0)
    bad, good = plain("bad"), plain("good")
    owe(bad), owe(good, since=T0 + MINUTE)
    broker.break_queue("bad")
    assert broker.send_owed() == 0
    assert broker.send_owed(LATER + 2 * SECOND) == 1
    assert owed(good) == 0


@pytest.mark.parametrize("owed_only", [True, False])
def test_a_beat_sends_for_a_bounded_time(broker, monkeypatch, owed_only):
    """However much is to be sent, a pass ends soon, and the next ones send what it left, once."""
    task = plain("good")
    rows = owe(task, 20)
    lend, clock = broker.sender._link.lend, [0.0]

    def slow(*args):
        clock[0] += 0.4
        return lend(*args)

    monkeypatch.setattr(broker.sender._link, "lend", slow)
    monkeypatch.setattr(sending, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    first = broker.send_owed() if owed_only else broker.sender.send(rows, lambda _: None)
    most = round(sending._LONGEST_PASS / 0.4) + 1
    assert 0 < first <= most
    assert (broker.count("good"), owed(task)) == (first, 20 - first)
    counts = [broker.send_owed(LATER + n * SECOND) for n in range(1, 6)]
    assert max(counts) <= most
    assert (first + sum(counts), owed(task)) == (20, 0)
    assert len(set(broker.ids("good"))) == broker.count("good") == 20


def test_what_a_transport_raises_is_no_refusal(broker, monkeypatch):
    """A ValueError of the transport, as of a closed TLS socket, leaves the message owed."""
    task = plain("good")
    owe(task)
    produced = []

    def publish(producer, *args, **kwargs):
        produced.append(kwargs)
        raise ValueError("SSL socket is closed")

    monkeypatch.setattr("kombu.Producer.publish", publish)
    assert broker.send_owed() == 0
    assert produced
    row = Occurrence.objects.get(schedule=task)
    assert (row.outcome, row.cause, row.send_at is None) == ("fired", "", False)
    monkeypatch.undo()
    assert broker.send_owed(LATER + MINUTE) == 1


def test_a_broker_that_is_gone_takes_no_messages_turn(broker):
    """While the broker is away all messages stay owed since when they were."""
    first, second = plain("one"), plain("two")
    owe(first, 2), owe(second, 2)
    before = list(Occurrence.objects.order_by("pk").values_list("pk", "send_at"))
    broker.server.stop()
    assert broker.send_owed() == 0
    assert broker.sender._link.breaker.is_open
    after = list(Occurrence.objects.order_by("pk").values_list("pk", "send_at"))
    assert after[1:] == before[1:]  # only the first was tried
    assert owed(first) + owed(second) == 4


@pytest.mark.parametrize("name", ["no.such", "tests.known"])
def test_a_beat_waits_for_no_result_backend(broker, monkeypatch, name):
    """What a beat fires, and what it finds owed, goes out while the result backend is away."""

    def known():
        pass

    def listen(*_):
        if not task_join_will_block():
            raise ConnectionError("the result backend is away")

    broker.app.task(name="tests.known", shared=False)(known)
    monkeypatch.setattr(broker.app.backend, "on_task_call", listen)
    due, left = plain("due", name), plain("left", name)
    owe(left, since=T0 - MINUTE)
    clock = Clock()
    one = Beat(broker.app, clock=clock)
    one.turn()
    assert (broker.count("left"), owed(left)) == (1, 0)
    clock.forward(minutes=61)
    one.turn()
    one.stop()
    assert (broker.count("due"), owed(due)) == (1, 0)
    assert not task_join_will_block()  # whatever else this process does may wait


class Odd(Task):
    """A plain base that sees to its calls itself."""

    def apply_async(self, args=None, kwargs=None, **options):
        if "late" in kwargs:
            super().apply_async(args, {}, **options)
            raise ValueError("after it was sent")
        if "object" in kwargs:
            kwargs = {"object": object()}
        return super().apply_async(args, kwargs, **options)


@pytest.fixture
def odd(broker):
    """Give the test a plain task with a base of its own, which takes anything."""

    def nothing(**_):
        pass

    return broker.app.task(base=Odd, name="tests.odd", shared=False)(nothing)


@pytest.mark.parametrize(
    ("given", "words"),
    [({"args": "[1, 2, 3]"}, "TypeError"), ({"kwargs": '{"object": 1}'}, "EncodeError")],
)
def test_what_a_task_refuses_is_missed(broker, odd, given, words):
    """A call that does not fit, or cannot be encoded, is refused for good; the others go on."""
    bad, good = plain("good", task=odd.name, **given), plain("good", task=odd.name)
    owe(bad), owe(good)
    assert broker.send_owed() == 1
    row = Occurrence.objects.get(schedule=bad)
    assert (row.outcome, row.cause, row.send_at) == ("missed", "refused", None)
    assert words in row.reason
    assert owed(good) == 0


def test_what_was_sent_is_not_sent_again(broker, odd):
    """A task that raises after its message was handed over is called once all the same."""
    task = plain("good", task=odd.name, kwargs='{"late": 1}')
    owe(task)
    for turn in range(3):
        broker.send_owed(LATER + turn * MINUTE)
    assert (broker.count("good"), owed(task)) == (1, 0)


@pytest.mark.parametrize("beat_comes", ["before", "after", "never"])
def test_what_a_long_transaction_fired_is_sent_once(
    broker, monkeypatch, django_capture_on_commit_callbacks, beat_comes
):
    """A run, and a backfill, whose sending a beat has begun to see to are left to that beat."""
    monkeypatch.setattr("reliable_tasks.operations.celery_app", lambda: broker.app)
    now = timezone.now()
    task = plain("good", saved_at=now)
    with django_capture_on_commit_callbacks() as send:
        operations.run_now(task)
        fired = operations.backfill(task, now - 6 * HOUR, now).fired
    wanted = 1 + len(fired)
    assert (wanted > 5, broker.count("good"), owed(task)) == (True, 0, wanted)
    if beat_comes == "before":
        assert broker.send_owed(timezone.now() + MINUTE) == wanted
    for each in send:
        each()
    if beat_comes == "after":
        assert broker.send_owed(timezone.now() + MINUTE) == 0
    assert (broker.count("good"), owed(task)) == (wanted, 0)


def test_a_beat_and_an_act_do_not_send_the_same(
    broker, monkeypatch, django_capture_on_commit_callbacks
):
    """What an act has begun to send is not taken by a beat, and what a beat took not by the act."""
    monkeypatch.setattr("reliable_tasks.operations.celery_app", lambda: broker.app)
    task, lend = plain("good", saved_at=timezone.now()), Link.lend
    other, seen = Sender(broker.app), []

    def watched(link, *args):
        if link is not other._link:
            # The time for which the transaction itself has taken it is over.
            seen.append(other.send_owed(10, lambda _: None, now=fired_at + 15 * SECOND))
        return lend(link, *args)

    with django_capture_on_commit_callbacks() as send:
        operations.run_now(task)
        fired_at = timezone.now()
    monkeypatch.setattr(Link, "lend", watched)
    monkeypatch.setattr(
        occurrences,
        "moment_expression",
        lambda seconds, now: (now or fired_at + 12 * SECOND) + seconds * SECOND,
    )
    for each in send:
        each()
    other.close()
    assert (seen, broker.count("good"), owed(task)) == ([0], 1, 0)


def test_a_queue_that_nobody_configured_waits(broker):
    """A queue that this process does not know is no reason to give a due time up."""
    broker.app.conf.task_create_missing_queues = False
    lost, good = plain("unheard"), plain("celery")
    owe(lost), owe(good, since=T0 + MINUTE)
    assert broker.send_owed() == 1
    assert (owed(lost), owed(good)) == (1, 0)


def test_a_schedule_that_cannot_be_read_repeats_no_other_message(broker):
    """What was sent before a schedule whose interval no calendar holds is sent once."""
    good, absurd = plain("good"), plain("absurd")
    owe(good, 3), owe(absurd, since=T0 + MINUTE)
    IntervalSchedule.objects.create(every=3_000_000, period="days")
    PeriodicTask.objects.filter(pk=absurd.pk).update(interval=IntervalSchedule.objects.latest("pk"))
    for turn in range(3):
        broker.send_owed(LATER + turn * 11 * SECOND)
    assert (broker.count("good"), owed(good), owed(absurd)) == (3, 0, 1)


@pytest.mark.parametrize("name", ["take", "sent", "postpone", "refuse"])
def test_a_database_that_fails_repeats_no_message(broker, odd, monkeypatch, name):
    """What was sent before a statement failed is noted once the database is back."""
    good = plain("good")
    bad = plain("bad", **({"task": odd.name, "args": "[1]"} if name == "refuse" else {}))
    owe(good, 3), owe(bad, since=T0 + MINUTE)
    broker.break_queue("bad")
    failing, calls = getattr(occurrences, name), []

    def fail(*args, **given):
        calls.append(args)
        if name != "take" or len(calls) == 4:
            raise OperationalError("gone")
        return failing(*args, **given)

    monkeypatch.setattr(occurrences, name, fail)
    with pytest.raises(OperationalError):
        broker.send_owed()
    assert (broker.count("good"), owed(good)) == (3, 3)
    monkeypatch.undo()
    for turn in range(1, 4):
        broker.send_owed(LATER + turn * 11 * SECOND)
    assert (broker.count("good"), owed(good)) == (3, 0)


def test_a_beat_that_is_told_to_end_notes_what_it_has_sent(broker, monkeypatch):
    """Whatever a beat sent before a signal ended its tick is not sent by another."""
    task = plain("good")
    owe(task, 5)
    lend, count = broker.sender._link.lend, iter(range(5))

    def ending(*args):
        if next(count) == 3:
            raise SystemExit
        return lend(*args)

    monkeypatch.setattr(broker.sender._link, "lend", ending)
    with pytest.raises(SystemExit):
        broker.send_owed()
    broker.sender.close()
    assert (broker.count("good"), owed(task)) == (3, 2)
    monkeypatch.undo()
    assert Sender(broker.app).send_owed(10, lambda _: None, now=LATER + MINUTE) == 2


def test_a_beat_ends_without_a_database(broker, monkeypatch, caplog):
    """A beat whose database is gone when it ends says what is sent once more, and ends."""
    owe(plain("good"), 3)

    def fail(*_):
        raise OperationalError("gone")

    monkeypatch.setattr(occurrences, "sent", fail)
    with pytest.raises(OperationalError):
        broker.send_owed()
    broker.sender.close()
    assert "3 messages" in caplog.text
    assert broker.sender._link._connection is None


class Killed(BaseException):
    """Ends the sender wherever it is, as SIGKILL does."""


def test_a_crash_repeats_few_messages(broker, monkeypatch):
    """Of a hundred messages, a crash repeats no more than are written down together."""
    task = plain("good")
    wanted = {str(row.entry_id) for row in owe(task, 100)}
    lend, count = broker.sender._link.lend, iter(range(1000))

    def dying(*args):
        if next(count) == 77:
            raise Killed
        return lend(*args)

    monkeypatch.setattr(broker.sender._link, "lend", dying)
    with pytest.raises(Killed):
        broker.send_owed()
    monkeypatch.undo()
    broker.sender = Sender(broker.app)  # another beat's
    repeated = 77 - (100 - owed(task))
    assert 0 < repeated <= sending._NOTED_AT_ONCE
    assert broker.send_owed(LATER + MINUTE) == 23 + repeated
    assert owed(task) == 0
    sent = broker.ids("good")
    assert (len(sent), set(sent)) == (100 + repeated, wanted)
