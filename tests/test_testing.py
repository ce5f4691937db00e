"""What the package gives to the tests of a project."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from celery import chain, chord, group
from django.db import connection, transaction

from reliable_tasks import ArgumentError, ConfigurationError, ReliableTask, operations
from reliable_tasks.models import Entry
from reliable_tasks.publish import flush, publisher
from reliable_tasks.testing import StillWaiting, UnknownTask, enqueued, run_due
from tests.app.argument_tasks import note_item
from tests.app.models import Effect, Item
from tests.app.tasks import add, boom, write_effect
from tests.celery_app import app

HOUR = timedelta(hours=1)


@pytest.fixture
def made(request):
    """Give the test a function that makes a task of its own."""
    names = []

    def make(function, **options):
        name = f"tests.made.{uuid4().hex}"
        names.append(name)
        return app.task(base=ReliableTask, name=name, bind=True, **options)(function)

    yield make
    for name in names:
        app.tasks.pop(name, None)


@pytest.fixture
def unsent(monkeypatch):
    """Give the test the list of what would be delivered to a broker."""
    delivered = []
    monkeypatch.setattr(publisher(app)._link, "deliver", delivered.extend)
    yield delivered
    assert flush(10)


@pytest.fixture
def eager():
    """Run calls at once."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def states(entries):
    return [entry.state for entry in entries]


@pytest.mark.django_db
class TestInATestCase:
    """Within the transaction of a TestCase, which nobody else can see."""

    def test_what_waits_can_be_seen(self):
        """Entries come oldest first: by task, its name, or arguments however given."""
        first, second = add.delay(1, 2), add.delay(1, y=3)
        write_effect.delay("x")
        assert [str(entry.pk) for entry in enqueued(add)] == [first.id, second.id]
        assert [str(entry.pk) for entry in enqueued(add.name)] == [first.id, second.id]
        assert len(enqueued()) == 3
        assert [str(entry.pk) for entry in enqueued(add, y=2, x=1)] == [first.id]
        assert enqueued(add, 3, 4) == []
        assert enqueued(add, True, 2) == []

    def test_what_waits_for_a_row_can_be_seen(self):
        """An instance stands for its key, and a default may be left out."""
        item, other = Item.objects.create(name="one"), Item.objects.create(name="two")
        note_item.delay(item)
        assert len(enqueued(note_item, item)) == 1
        assert len(enqueued(note_item, item.pk, others=[])) == 1
        assert enqueued(note_item, other) == []

    def test_arguments_need_their_task(self):
        """Arguments without their task, or that do not fit it, are an error."""
        with pytest.raises(TypeError, match="given the task itself"):
            enqueued(add.name, 1, 2)
        with pytest.raises(TypeError):
            enqueued(add, 1, 2, 3)
        with pytest.raises(ArgumentError):
            enqueued(note_item, "no item")

    def test_what_is_due_runs(self):
        """Entries run in order, with their effects and ends, and what is not due is left."""
        later = write_effect.apply_async(("later",), countdown=60)
        write_effect.delay("a")
        write_effect.delay("b")
        ran = run_due()
        assert states(ran) == ["succeeded", "succeeded"]
        assert [entry.args for entry in ran] == [["a"], ["b"]]
        assert list(Effect.objects.order_by("pk").values_list("name", flat=True)) == ["a", "b"]
        assert states(enqueued()) == ["pending"]
        assert [str(entry.pk) for entry in run_due(within=HOUR)] == [later.id]
        assert Effect.objects.count() == 3
        assert run_due(within=HOUR) == []

    def test_a_failure_is_followed_by_attempts_within_the_time(self, made):
        """A failed entry waits for its next attempt; with more time it goes on to its end."""

        def fails(self):
            raise ValueError(f"attempt {self.attempt}")

        task = made(fails, max_retries=2, retry_jitter=False)
        task.delay()
        (entry,) = run_due(raising=False)
        assert (entry.state, entry.attempt) == ("retrying", 1)
        assert entry.error_message == "attempt 1"
        (entry,) = run_due(within=HOUR, raising=False)
        assert (entry.state, entry.attempt) == ("dead", 3)

    def test_a_failure_is_raised(self):
        """The body's own exception comes out, once the ledger knows of it."""
        boom.delay("oh")
        with pytest.raises(ValueError, match="oh"):
            run_due()
        assert Entry.objects.get().state == "dead"

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, pytest.fail.Exception])
    def test_a_test_can_be_ended_from_a_body(self, made, stop):
        """What ends a test, and is no failure of a task, ends it; the entry waits again."""

        def ends(self):
            raise stop("enough")

        made(ends).delay()
        with pytest.raises(stop):
            run_due(raising=False)
        entry = Entry.objects.get()
        assert (entry.state, entry.crashes) == ("pending", 0)

    def test_time_passes_from_entry_to_entry(self, made):
        """Delays add up: what an entry enqueues for later is due that much after it."""

        def asks_again(self):
            self.apply_async(countdown=50)

        made(asks_again).apply_async(countdown=10)
        assert len(run_due(within=9)) == 0
        assert len(run_due(within=125)) == 3
        assert states(enqueued()) == ["pending"]

    def test_time_passes_in_order(self):
        """Whatever comes due first runs first, also if it was enqueued last."""
        later = add.apply_async((1, 1), countdown=60)
        sooner = add.apply_async((2, 2), countdown=30)
        assert [str(entry.pk) for entry in run_due(within=HOUR)] == [sooner.id, later.id]

    def test_nothing_is_published(self, made, unsent):
        """A body that asks for another attempt at once sends no message from a test."""

        def asks_again(self):
            if self.attempt == 1:
                raise self.retry(countdown=0)

        made(asks_again).delay()
        assert [entry.attempt for entry in run_due(raising=False)] == [2]
        assert unsent == []

    def test_a_body_may_ask_for_another_priority(self, made):
        """What a body gives to ``self.retry()`` is the entry's from then on."""

        def asks_again(self):
            if self.attempt == 1:
                raise self.retry(countdown=5, priority=7, queue="elsewhere", time_limit=60)

        made(asks_again).apply_async(priority=2)
        (entry,) = run_due(within=HOUR, raising=False)
        assert (entry.attempt, entry.priority, entry.queue) == (2, 7, "elsewhere")
        assert "timelimit" in str(entry.options)

    def test_what_is_published_at_once_is_what_the_body_asked_for(self, made, monkeypatch):
        """The wake-up of another attempt without a delay has its options, not the last one's."""
        published = []
        monkeypatch.setattr(ReliableTask, "publish_entry", lambda *given: published.append(given))

        def asks_again(self):
            if self.attempt == 1:
                raise self.retry(countdown=0, priority=7, queue="elsewhere", time_limit=60)

        made(asks_again).apply_async(priority=2)
        run_due(raising=False)
        ((_, _, queue, priority, kept),) = published
        assert (queue, priority) == ("elsewhere", 7)
        assert "timelimit" in kept

    def test_an_eager_app_is_an_error(self, eager):
        """Where calls run at once there is nothing to look for, which is said."""
        for look in (enqueued, run_due):
            with pytest.raises(ConfigurationError, match="CELERY_TASK_ALWAYS_EAGER"):
                look()

    def test_a_body_that_breaks_a_statement_leaves_the_test_its_transaction(self, made):
        """A statement that fails in a plain body does not end the transaction of the test."""

        def breaks(self):
            Effect.objects.create(name="undone", entry_id=self.request.id, attempt=1)
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM tests_effect")

        made(breaks, max_retries=0).delay()
        (entry,) = run_due(raising=False)
        assert entry.state == "dead"
        assert not Effect.objects.exists()

    def test_one_task_alone(self):
        """Only the entries of the given task run."""
        add.delay(1, 2)
        boom.delay()
        assert [entry.task for entry in run_due(add)] == [add.name]
        assert [entry.task for entry in enqueued()] == [boom.name]

    def test_what_a_body_enqueues_runs_too(self, made):
        """One call runs everything that becomes due by it, unless it never ends."""

        def counts_down(self, left):
            if left:
                self.delay(left - 1)

        made(counts_down).delay(3)
        assert [entry.args for entry in run_due()] == [[3], [2], [1], [0]]

        def goes_on(self):
            self.delay()

        made(goes_on).delay()
        with pytest.raises(StillWaiting, match=r"after 5 attempts.*run_due\(most"):
            run_due(most=5)

    def test_expired_and_paused_entries_do_not_run(self):
        """An expired entry is cancelled, and one of a paused task waits."""
        expired = add.apply_async((1, 2), expires=0.000001)
        operations.pause("task", boom.name, reason="a test")
        boom.delay()
        assert run_due() == []
        assert run_due(within=HOUR) == []
        assert Entry.objects.get(pk=expired.id).state == "cancelled"
        assert states(enqueued(boom)) == ["pending"]

    def test_an_unknown_task_is_named(self):
        """An entry of a task that nobody registered is an error that says what to do."""
        add.delay(1, 2)
        Entry.objects.update(task="no.such")
        with pytest.raises(UnknownTask, match=r"no\.such.*Import the module"):
            run_due()

    def test_canvas_goes_on(self):
        """Chains, links, groups and chords go on as they do in a worker."""
        result = chain(add.s(1, 2), add.s(3)).delay()
        run_due()
        assert result.get(timeout=1) == 6
        add.apply_async((1, 1), link=add.s(5))
        run_due()
        assert len(enqueued()) == 0
        both = group(add.s(1, 1), add.s(2, 2)).delay()
        run_due()
        assert both.get(timeout=1) == [2, 4]


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_test_case(flush_broker):
    """What was committed runs the same way, and a chord finds its end."""
    with transaction.atomic():
        result = chord([write_effect.s("a"), write_effect.s("b")], total.s()).delay()
    ran = run_due()
    assert states(ran) == ["succeeded"] * 3
    assert result.get(timeout=1) == sum(Effect.objects.values_list("pk", flat=True))


@app.task(base=ReliableTask, name="tests.testing.total")
def total(parts):
    return sum(parts)
