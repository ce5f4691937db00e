"""Ids that sort by time, and the names of workers."""

from __future__ import annotations

import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import identity, ids
from tests.harness import ROOT, python

LAST_NANOSECOND = 2**48 * 1_000_000 - 1


@pytest.mark.parametrize("make", [ids.new_id, ids._uuid7])
def test_is_a_uuid7_of_now(make):
    """An id is a UUID of version 7 that begins with the present millisecond."""
    before = time.time_ns() // 1_000_000
    made = make()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


@given(
    earlier=st.integers(0, LAST_NANOSECOND),
    gap=st.integers(1_000, 10**15),
)
def test_a_later_id_sorts_later(earlier, gap):
    """Ids that are made a microsecond or more apart sort by time, whatever their random bits."""
    later = min(earlier + gap, LAST_NANOSECOND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids.time, "time_ns", lambda: earlier)
        first = ids._uuid7()
        patch.setattr(ids.time, "time_ns", lambda: later)
        second = ids._uuid7()
    assert first < second or later - earlier < 1_000


def test_ids_of_one_instant_differ(monkeypatch):
    """Two thousand ids of the same instant, made by four threads, are all different."""
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_800_000_000_000_000_000)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ids._uuid7(), range(2_000)))
    assert len(set(made)) == 2_000


def test_a_worker_has_one_name_in_all_its_processes(monkeypatch):
    """A child of a worker, forked or spawned, holds leases under the name of its parent."""
    monkeypatch.delenv(identity._VARIABLE, raising=False)
    identity.begin()
    mine = identity.identity("celery@host")
    code = "from reliable_tasks.identity import identity; print(identity('celery@host'))"
    assert subprocess.check_output(python("-c", code), cwd=ROOT, text=True).strip() == mine
    assert mine.startswith("celery@host#")


def test_a_restarted_worker_has_another_name(monkeypatch):
    """A worker that starts again under the same host name does not hold the old one's leases."""
    monkeypatch.delenv(identity._VARIABLE, raising=False)
    identity.begin()
    before = identity.identity("celery@host")
    identity.begin()
    assert identity.identity("celery@host") != before


def test_outside_a_worker_the_process_is_named(monkeypatch):
    """Whoever runs attempts without a worker is named by host and process."""
    monkeypatch.delenv(identity._VARIABLE, raising=False)
    assert identity.identity(None).endswith(f"#pid{identity.os.getpid()}")
    assert identity.identity("celery@host") == f"celery@host#pid{identity.os.getpid()}"
