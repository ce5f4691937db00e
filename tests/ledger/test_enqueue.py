"""Enqueue: what a new entry looks like, and that it is written once."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from reliable_tasks import ledger
from reliable_tasks.ids import new_id
from reliable_tasks.ledger.assorted import _PARAMETERS, _PER_STATEMENT
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import State
from tests.entries import GRACE, T0, claim, enqueue, later, new, row, snapshot, state
from tests.statements import verbs

pytestmark = pytest.mark.django_db


def test_a_new_entry_waits_and_nothing_has_happened_to_it():
    """A new entry is pending, with no attempt, no charge and no end."""
    found = row(enqueue())
    assert found.state == State.PENDING
    assert (found.attempt, found.retries, found.crashes) == (0, 0, 0)
    assert (found.started_at, found.finished_at, found.cancel_requested_at) == (None, None, None)
    assert (found.worker, found.error_class, found.error_message, found.reason) == ("", "", "", "")
    assert (found.key, found.progress, found.subject_type, found.subject_id) == (
        None,
        None,
        None,
        None,
    )
    assert not Attempt.objects.exists()


def test_an_entry_keeps_what_the_call_gave():
    """Every field of a new entry is found in its row."""
    given = new(
        task="app.tasks.ship",
        args='[1,"é\U0001f600"]',
        kwargs='{"to":{"city":"Köln"}}',
        options='{"headers":{"x":1}}',
        queue="slow",
        priority=0,
        max_retries=None,
        crash_budget=7,
        due_at=later(60),
        expires_at=later(120),
        root_id=uuid4(),
        parent_id=uuid4(),
        group_id=uuid4(),
        schedule="nightly",
    )
    ledger.enqueue(given, grace=GRACE, now=T0)
    found = row(given.id)
    for name in ("task", "queue", "priority", "max_retries", "crash_budget", "due_at"):
        assert getattr(found, name) == getattr(given, name)
    for name in ("expires_at", "root_id", "parent_id", "group_id", "schedule"):
        assert getattr(found, name) == getattr(given, name)
    assert (found.args, found.kwargs) == ([1, "é\U0001f600"], {"to": {"city": "Köln"}})
    assert (found.options, found.enqueued_at) == ({"headers": {"x": 1}}, T0)


def test_an_entry_without_options_has_null():
    """No options are NULL, not an empty object, so that rows stay small."""
    assert Entry.objects.filter(pk=enqueue(), options__isnull=True).exists()


def test_due_now_is_looked_at_after_the_grace():
    """An entry that is due now counts the caller's publish; the sweeper looks a grace later."""
    found = row(enqueue())
    assert (found.due_at, found.wake_at, found.publishes) == (T0, later(GRACE), 1)


@pytest.mark.parametrize("when", [{"due_at": later(60)}, {"delay": 60.0}])
def test_due_later_is_looked_at_when_it_is_due(when):
    """An entry that is due later is published by nobody before; the sweeper looks at that time."""
    found = row(enqueue(**when))
    assert (found.due_at, found.wake_at, found.publishes) == (later(60), later(60), 0)


def test_an_expiry_counts_from_the_enqueue():
    """Seconds until the expiry are added to the time of the enqueue."""
    assert row(enqueue(expires_in=30.0)).expires_at == later(30)
    assert row(enqueue(expires_at=later(31))).expires_at == later(31)
    assert row(enqueue()).expires_at is None


@pytest.mark.parametrize(("delay", "expires_in", "looked"), [(0.0, 2.0, 2), (60.0, 9.0, 9)])
def test_an_expiry_that_comes_first_is_looked_at(delay, expires_in, looked):
    """An entry that expires before anything else happens is looked at when it expires."""
    assert row(enqueue(delay=delay, expires_in=expires_in)).wake_at == later(looked)
    assert row(enqueue(delay=delay, expires_at=later(expires_in))).wake_at == later(looked)


def test_enqueue_is_one_statement():
    """One entry costs one statement, whatever its options."""
    entry = new(delay=3.0, expires_in=60.0, options="{}", priority=5)
    with CaptureQueriesContext(connection) as captured:
        ledger.enqueue(entry, grace=GRACE)
    assert verbs(captured) == ["INSERT"]


def test_the_same_id_twice_is_one_entry():
    """An entry whose id is there already is not written again, and the first one stays as it is."""
    entry_id = enqueue(args="[1]")
    claim(entry_id)
    before = snapshot(entry_id)
    assert not ledger.enqueue(new(id=entry_id, args="[2]", queue="other"), grace=GRACE, now=T0)
    assert snapshot(entry_id) == before


def test_an_entry_that_rolls_back_never_existed():
    """What is enqueued in a transaction that rolls back leaves no trace, and its id is free."""
    entry = new()
    with transaction.atomic():
        assert ledger.enqueue(entry, grace=GRACE, now=T0)
        transaction.set_rollback(True)
    assert not ledger.exists(entry.id)
    assert ledger.enqueue(entry, grace=GRACE, now=T0)
    assert ledger.exists(entry.id)


def test_many_entries_are_written_in_their_order():
    """Every one of many entries is written, with its own values, across several statements."""
    entries = [new(args=json.dumps([n]), queue=f"q{n % 3}") for n in range(2_500)]
    ledger.enqueue_many(entries, grace=GRACE, now=T0)
    found = Entry.objects.in_bulk([entry.id for entry in entries])
    assert [(found[each.id].args, found[each.id].queue) for each in entries] == [
        ([n], f"q{n % 3}") for n in range(2_500)
    ]
    assert set(Entry.objects.values_list("state", "wake_at")) == {(State.PENDING, later(GRACE))}


def test_many_entries_mix_times():
    """Entries that are due now, later, and expire, are written by the same statement."""
    now, delayed, expiring = new(), new(delay=60.0), new(due_at=later(5), expires_in=9.0)
    with CaptureQueriesContext(connection) as captured:
        ledger.enqueue_many([now, delayed, expiring], grace=GRACE, now=T0)
    assert len(captured) == 1
    assert [row(each.id).wake_at for each in (now, delayed, expiring)] == [
        later(GRACE),
        later(60),
        later(5),
    ]
    assert row(expiring.id).expires_at == later(9)


def test_many_entries_cost_few_statements():
    """A thousand entries cost as few statements as the database's limit of parameters allows."""
    with CaptureQueriesContext(connection) as captured:
        ledger.enqueue_many([new() for _ in range(1_000)], grace=GRACE)
    most = connection.features.max_query_params
    rows = _PER_STATEMENT if most is None else min(_PER_STATEMENT, most // _PARAMETERS)
    assert len(captured) == -(-1_000 // rows)
    assert len(captured) == {"postgresql": 1}.get(connection.vendor, len(captured))


def test_no_entries_are_no_statement(django_assert_num_queries):
    """Nothing to write touches no database."""
    with django_assert_num_queries(0):
        ledger.enqueue_many([], grace=GRACE)


def test_entries_that_are_alike_cost_few_statements(django_assert_num_queries):
    """Entries of one call cost one statement a thousand on PostgreSQL, and one at all elsewhere."""
    calls = [(new_id(), "[]", "{}") for _ in range(2_500)]
    with django_assert_num_queries(1 if connection.vendor == "sqlite" else 3):
        ledger.enqueue_alike(new(), calls, grace=GRACE, now=T0)
    assert Entry.objects.count() == 2_500


def test_no_entries_change_nothing():
    """Nothing to write writes nothing."""
    ledger.enqueue_alike(new(), [], grace=GRACE)
    assert not Entry.objects.exists()


def test_entries_that_are_alike_are_all_or_none():
    """If one of many entries cannot be written, none is."""
    calls = [(new_id(), "[]", "{}") for _ in range(1_200)]
    bad = (new_id(), "[", "{}")
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        ledger.enqueue_alike(new(), [*calls, bad], grace=GRACE)
    assert not Entry.objects.exists()


def test_entries_that_are_alike_share_everything_but_their_arguments():
    """Entries of one call differ in id and arguments alone, and are written as if one by one."""
    shared = new(
        task="app.ship",
        queue="slow",
        priority=2,
        options='{"headers":{"x":"(1)"}}',
        delay=60.0,
        expires_in=90.0,
        max_retries=None,
        parent_id=uuid4(),
        schedule="nightly",
    )
    calls = [(new_id(), f'[{n},"\'é%s)"]', f'{{"n":{n}}}') for n in range(1_050)]
    ledger.enqueue_alike(shared, calls, grace=GRACE, now=T0)
    ledger.enqueue(shared, grace=GRACE, now=T0)
    alone = snapshot(shared.id)
    own = {"id", "args", "kwargs"}
    found = Entry.objects.in_bulk([entry_id for entry_id, _, _ in calls])
    for n, (entry_id, _, _) in enumerate(calls):
        assert (found[entry_id].args, found[entry_id].kwargs) == ([n, "'é%s)"], {"n": n})
    same = {name: value for name, value in alone.items() if name not in own}
    for entry_id in (calls[0][0], calls[-1][0]):
        assert {name: snapshot(entry_id)[name] for name in same} == same


def test_entries_that_are_alike_and_due_now_count_their_publish():
    """Entries of one call that are due now are looked at a grace later."""
    calls = [(new_id(), "[]", "{}") for _ in range(3)]
    ledger.enqueue_alike(new(), calls, grace=GRACE, now=T0)
    assert set(Entry.objects.values_list("wake_at", "publishes")) == {(later(GRACE), 1)}


def test_alike_entries_leave_those_that_exist():
    """An id that is there already is passed over among entries that are alike, too."""
    old, fresh = enqueue(args="[1]"), new_id()
    ledger.enqueue_alike(new(), [(old, "[2]", "{}"), (fresh, "[3]", "{}")], grace=GRACE, now=T0)
    assert (row(old).args, row(fresh).args) == ([1], [3])


def test_many_entries_leave_those_that_exist():
    """An id that is there already is passed over, and the others are written."""
    old = enqueue(args="[1]")
    fresh = new_id()
    ledger.enqueue_many([new(id=old, args="[2]"), new(id=fresh)], grace=GRACE, now=T0)
    assert row(old).args == [1]
    assert state(fresh) is State.PENDING


def test_new_entries_are_found_by_id():
    """Whether the ledger has an entry can be asked by its id."""
    assert ledger.exists(enqueue())
    assert not ledger.exists(new_id())
