"""Many real processes call with the same keys at once.

RELIABLE_TASKS_TEST_CLIENTS=64 RELIABLE_TASKS_TEST_KEYS=1000 make it as large as you like, and
RELIABLE_TASKS_TEST_CALLS=1000 sets how often each client calls (five times the number of keys).
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from django.db.models import Count

from reliable_tasks.models import Entry, Key
from reliable_tasks.states import ACTIVE
from tests.harness import ROOT, child_env, python

CLIENTS = int(os.environ.get("RELIABLE_TASKS_TEST_CLIENTS", "4"))
KEYS = int(os.environ.get("RELIABLE_TASKS_TEST_KEYS", "40"))
CALLS = int(os.environ.get("RELIABLE_TASKS_TEST_CALLS", KEYS * 5))


def hammers(clients, *arguments):
    return [
        subprocess.Popen(
            python("-m", "tests.once.hammer", *map(str, (*arguments[:2], seed, *arguments[2:]))),
            cwd=ROOT,
            env=child_env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(clients)
    ]


def finish(processes, while_they_run=lambda: None):
    """Return what the processes counted, all together; look again and again meanwhile."""
    looks = 0
    while any(process.poll() is None for process in processes):
        while_they_run()
        looks += 1
        time.sleep(0.02)
    total = {"written": 0, "refused": 0, "finished": 0}
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err[-3000:]
        counts = json.loads(out.splitlines()[-1])
        for name in total:
            total[name] += counts[name]
    return total, looks


def twice_alive():
    """Return the keys that more than one live entry has at this moment."""
    live = Entry.objects.filter(state__in=ACTIVE, key__isnull=False, wake_at__isnull=False)
    counted = live.order_by().values("key").annotate(entries=Count("pk"))
    return list(counted.filter(entries__gt=1))


@pytest.mark.timeout(300)
def test_one_key_from_many_processes(transactional_db):
    """64 calls of one key from several processes come to one live entry; 63 are told of it."""
    processes = hammers(4, 16, 1, 0)
    total, _ = finish(processes)
    assert total == {"written": 1, "refused": 63, "finished": 0}
    assert Entry.objects.count() == Key.objects.count() == 1


@pytest.mark.timeout(300 if CLIENTS <= 4 else 3600)
def test_many_keys_from_many_processes(transactional_db):
    """While keys change hands between processes, no look ever finds two live entries with one."""
    processes = hammers(CLIENTS, CALLS, KEYS, 0.7)

    def look():
        assert twice_alive() == []

    total, looks = finish(processes, look)
    assert looks > 3
    assert total["written"] + total["refused"] == CLIENTS * CALLS
    assert total["finished"] > 0
    assert Entry.objects.count() == total["written"]
    live = Entry.objects.filter(state__in=ACTIVE)
    assert Key.objects.count() == live.count() == total["written"] - total["finished"]
    assert set(Key.objects.values_list("entry_id", flat=True)) == set(
        live.values_list("pk", flat=True)
    )
