"""Django's own pool of connections belongs to one process, and to all of its threads."""

from __future__ import annotations

import subprocess
import textwrap
from types import SimpleNamespace

import pytest
from django.db import connections

from reliable_tasks.worker.connections import tidy
from tests import services
from tests.harness import ROOT, child_env, python

CHILD = """
    import os, sys, django
    django.setup()
    from django.db.backends.postgresql.base import DatabaseWrapper
    from reliable_tasks.turns import Turns

    class Pool:
        def close(self):
            sys.exit("the parent's connections would end")

        __del__ = close

    pool = DatabaseWrapper._connection_pools["default"] = Pool()
    turns = Turns() if "beside" in sys.argv else None
    child = os.fork()
    if child == 0:
        inherited = DatabaseWrapper._connection_pools.get("default") is not None
        del pool
        os._exit(1 if inherited else 0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), DatabaseWrapper._connection_pools["default"] is pool)
    os._exit(0)
"""


@pytest.mark.skipif(services.database_vendor() != "postgres", reason="only PostgreSQL has pools")
@pytest.mark.parametrize(("beside", "said"), [("beside", "0 True"), ("alone", "1 True")])
@pytest.mark.django_db
def test_a_child_of_a_worker_leaves_the_pool_to_its_parent(beside, said):
    """It opens one of its own; nothing is changed for processes without background threads."""
    done = subprocess.run(
        python("-c", textwrap.dedent(CHILD), beside),
        cwd=ROOT,
        env=child_env(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (said, "")


@pytest.mark.parametrize("pool", [True, {"max_size": 2}, False, None])
def test_a_task_gives_its_connection_back_to_a_pool(monkeypatch, pool):
    """Another thread may be waiting for it; without a pool it is kept for the next task."""
    closed = []
    used = SimpleNamespace(
        connection=object(),
        settings_dict={"OPTIONS": {"pool": pool}},
        in_atomic_block=False,
        errors_occurred=False,
        get_autocommit=lambda: True,
        close=lambda: closed.append(True),
    )
    monkeypatch.setattr(connections, "all", lambda **_: [used])
    tidy()
    assert bool(closed) is bool(pool)
