"""A process that has imported everything once, and forks victims and rescuers in no time.

It reads one JSON object a line from its input, forks, and answers with the process id.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import traceback
from typing import Any

import django

django.setup()

from reliable_tasks import faults  # noqa: E402
from tests.app import once_tasks, worker_tasks  # noqa: E402, F401 - the tasks of all roles
from tests.app.models import Item  # noqa: E402
from tests.celery_app import app  # noqa: E402
from tests.faults import acts  # noqa: E402


def produce(order: dict[str, Any]) -> None:
    """Save an item and enqueue its task in one transaction."""
    from django.db import transaction

    from reliable_tasks.publish import flush

    with transaction.atomic():
        Item.objects.create(name=order["folder"])
        app.tasks[order["task"]].apply_async(order["args"], queue=order["queue"])
    flush(5)


def work(order: dict[str, Any]) -> None:
    """Be a worker of one queue."""
    app.worker_main(
        [
            *("worker", "--loglevel", "INFO", "--pool", order["pool"], "--concurrency", "1"),
            *("-Q", order["queue"], "--hostname", f"{order['name']}@localhost"),
            *("--without-gossip", "--without-mingle"),
        ]
    )


def sweep(order: dict[str, Any]) -> None:
    """Be a sweeper alone."""
    from reliable_tasks.sweeper import Sweeper

    sweeper = Sweeper(app)
    signal.signal(signal.SIGTERM, lambda *_: sweeper.stop())
    sweeper.start()
    while sweeper.is_alive():
        sweeper.join(0.05)


ROLES = {"produce": produce, "work": work, "sweep": sweep}


def be(order: dict[str, Any]) -> None:
    """Become what is ordered, in a session and a log of one's own; never return."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if "broker" in order:
            app.conf.broker_url = order["broker"]
        if "point" in order:
            faults.arm(acts.Act(order["point"], order["fault"], order["marker"]))
        ROLES[order["role"]](order)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # Celery's cold stop ends in these; what the zygote itself began is not the child's to end.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(status)


def main() -> None:
    """Fork at every order."""
    # Nobody waits for the children: the kernel is to forget them when they have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            be(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
