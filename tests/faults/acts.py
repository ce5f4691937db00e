"""What happens to a process at its fault point, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
from django.db import connections

from reliable_tasks.models import database_for_ledger
from tests import services


class Act:
    """Does one fault when one point is reached for the first time, in whatever process of a victim.

    Args:
        point: where.
        fault: ``kill``, ``stop`` or ``cut``.
        marker: a file that says that it happened; made just before.
    """

    def __init__(self, point: str, fault: str, marker: str) -> None:
        self._point = point
        self._fault = getattr(self, f"_{fault}")
        self._marker = Path(marker)

    def __call__(self, point: str) -> None:
        if point != self._point:
            return
        try:
            self._marker.touch(exist_ok=False)
        except FileExistsError:
            return
        self._fault()

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self) -> None:
        # The whole machine, as it were: a child alone would have its lease renewed by its worker.
        os.killpg(os.getpgrp(), signal.SIGSTOP)

    def _cut(self) -> None:
        connection = connections[database_for_ledger()]
        connection.ensure_connection()
        pid = connection.connection.info.backend_pid
        database = str(connection.settings_dict["NAME"])
        url = services.database_url().rpartition("/")[0]
        with psycopg.connect(f"{url}/{database}", autocommit=True) as other:
            # The second argument waits until the backend has gone.
            done = other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone()
        assert done == (True,)
