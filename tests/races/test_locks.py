"""Rows that somebody holds locked for long: an application's open transaction, a frozen sweeper."""

from __future__ import annotations

import time

import pytest
from django.db import Error, OperationalError, connection, connections

from reliable_tasks import ledger
from reliable_tasks.ledger import guard
from reliable_tasks.models import Key
from reliable_tasks.states import State
from tests import entries, services
from tests.entries import LEASE, WORKER, later, row, running, state
from tests.races.test_keys import claim, hold, take, taken

pytestmark = pytest.mark.skipif(
    services.database_vendor() != "postgres", reason="elsewhere rows are not held like that"
)


def setting(name):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def test_a_locked_entry_costs_the_others_no_lease(second_connection):
    """A heartbeat passes over an entry that somebody holds locked, and renews the others."""
    locked, free = running(), running()
    both = [locked.entry, free.entry]
    with second_connection.atomic():
        second_connection.run(ledger.cancel, [locked.entry])
        assert ledger.renew(both, WORKER, lease=LEASE, now=later(5)) == 1
        assert row(free).wake_at == later(5 + LEASE)
        swept = entries.sweep(now=later(60))  # nor does a sweeper take over what it cannot lock
        assert [taken.id for taken in swept.rescued] == [free.entry]
        assert state(locked) is State.RUNNING
    assert ledger.renew(both, WORKER, lease=LEASE, now=later(61)) == 1
    assert row(locked).wake_at == later(61 + LEASE)


def test_a_background_thread_waits_for_a_row_only_shortly(second_connection, monkeypatch):
    """What the keeper cannot write because a row is locked fails soon, and is written later."""
    monkeypatch.setattr(guard, "_HURRY", guard._HURRY.replace("'2s'", "'100ms'"))
    held = running()

    def end():
        with ledger.short_transaction():
            entries.reschedule(held)

    with second_connection.atomic():
        second_connection.run(ledger.cancel, [held.entry])
        with pytest.raises(OperationalError, match="lock timeout"):
            end()
    end()
    assert state(held) is State.RETRYING


def test_a_key_that_an_open_transaction_takes_holds_up_no_rescue(second_connection, monkeypatch):
    """A lost entry whose key an open transaction takes just now is rescued without its key."""
    monkeypatch.setattr(guard, "_HURRY", guard._HURRY.replace("'2s'", "'100ms'"))
    key, other = hold(blocks="waiting"), hold(blocks="waiting")
    lost, neighbour = claim(taken(key)), claim(taken(other))
    for held in (lost, neighbour):
        ledger.free_at_start(held.entry, held.token)
    with second_connection.atomic():
        written, _ = second_connection.run(take(key))
        assert written is True
        swept = entries.sweep(now=later(60))
        assert {each.id for each in swept.rescued} == {lost.entry, neighbour.entry}
        assert state(lost) is State.RETRYING
        assert [each.entry_id for each in Key.objects.all()] == [neighbour.entry]
    assert Key.objects.count() == 2


def test_a_frozen_sweeper_gives_its_rows_back(second_connection, monkeypatch):
    """The transaction of a sweeper that stands still is ended, and the claim that waited is had."""
    monkeypatch.setattr(guard, "_HURRY", guard._HURRY.replace("'10s'", "'200ms'"))
    entry_id = entries.enqueue()
    frozen = ledger.short_transaction()
    second_connection.run(frozen.__enter__)
    swept = second_connection.run(entries.sweep, now=later(60))
    assert swept.put_off == 1
    began = time.monotonic()
    assert entries.claim(entry_id, now=later(60)).token == 1
    assert time.monotonic() - began < 8
    with pytest.raises(Error):
        second_connection.run(frozen.__exit__, None, None, None)
    second_connection.run(connections.close_all)
    assert state(entry_id) is State.RUNNING


@pytest.mark.django_db(transaction=True)
def test_a_short_transaction_leaves_no_setting_behind():
    """The limits of a short transaction end with it: a connection is everybody's, behind a pool."""
    with ledger.short_transaction():
        inside = setting("lock_timeout"), setting("idle_in_transaction_session_timeout")
    assert inside == ("2s", "10s")
    assert setting("lock_timeout") == setting("idle_in_transaction_session_timeout") == "0"
