"""Many calls at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from reliable_tasks.errors import ArgumentError, OptionError
from reliable_tasks.models import Entry
from tests.app.tasks import add
from tests.enqueue.calls import (
    transactions,
)


def test_many_calls_are_tuples_lists_and_dicts(db, unsent):
    """Each item is one call: a tuple or list of positional arguments, or a dict of named ones."""
    found = add.enqueue_many(iter([(1, 2), [3, 4], {"x": 5, "y": 6}]))
    rows = Entry.objects.in_bulk(found.ids)
    assert [(rows[each].args, rows[each].kwargs) for each in found.ids] == [
        ([1, 2], {}),
        ([3, 4], {}),
        ([], {"x": 5, "y": 6}),
    ]


def test_many_results_are_a_sequence(db, unsent):
    """The answer is a sequence of results in the order of the calls."""
    found = add.enqueue_many([(n, n) for n in range(5)])
    assert len(found) == 5
    assert [result.id for result in found] == [str(each) for each in found.ids]
    assert found[-1].id == str(found.ids[4])
    assert [result.id for result in found[1:3]] == [str(each) for each in found.ids[1:3]]


def test_many_share_their_options(db, unsent):
    """Options of the call hold for each of its entries."""
    found = add.enqueue_many([(1, 2), (3, 4)], queue="slow", countdown=60, headers={"x": 1})
    for row in Entry.objects.in_bulk(found.ids).values():
        assert (row.queue, row.options) == ("slow", {"headers": {"x": 1}})
        assert row.due_at - row.enqueued_at == timedelta(seconds=60)


@pytest.mark.parametrize(
    ("calls", "kind", "message"),
    [
        ([(1, 2), (3,)], TypeError, "missing 1 required"),
        ([(1, 2), (3, {4})], ArgumentError, "argument 'y' is a set"),
        ([(1, 2), 3], ArgumentError, r"it got 3\. For one argument a call: \[\(3,\), …\]"),
        (["12"], ArgumentError, "it got '12'"),
    ],
)
def test_one_wrong_call_of_many_writes_nothing(db, unsent, calls, kind, message):
    """If one call of many is wrong, none is enqueued."""
    with pytest.raises(kind, match=message):
        add.enqueue_many(calls)
    assert not Entry.objects.exists()


def test_wrong_options_of_many_write_nothing(db, unsent):
    """A wrong option of many calls is refused before anything is written."""
    with pytest.raises(OptionError, match="Did you mean 'queue'"):
        add.enqueue_many([(1, 2)], qeue="slow")
    assert not Entry.objects.exists()


def test_no_calls_are_no_entries(db, unsent, django_assert_num_queries):
    """An empty list of calls does nothing."""
    with django_assert_num_queries(0):
        assert len(add.enqueue_many([])) == 0


@transactions
def test_many_are_sent_after_the_commit(broker):
    """The messages of many entries are sent when their transaction commits."""
    with transaction.atomic():
        found = add.enqueue_many([(n, n) for n in range(1_500)])
        assert not broker.raw()
    assert broker.ids() == {str(each) for each in found.ids}
