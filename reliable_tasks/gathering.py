"""Calls of many tasks in one transaction: one statement and one hand-over to the publisher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from . import calling, events, keying, ledger, options
from .appconf import appconf
from .conf import current
from .faults import reach
from .ledger import NewEntry
from .publish import Publisher, publisher
from .wakeup import WakeUp

if TYPE_CHECKING:
    from .task import ReliableTask


class Gathering:
    """Calls that are written together, in a transaction that is open on the ledger's database.

    What ``apply_async`` does for each call is done for each; only the statement and the hand-over
    to the publisher are shared. A call for which that is not possible is not taken.
    """

    def __init__(self) -> None:
        self._entries: list[NewEntry] = []
        self._publishers: list[tuple[Publisher, WakeUp]] = []

    def add(
        self,
        task: ReliableTask,
        entry_id: UUID,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        call: Mapping[str, Any],
    ) -> bool:
        """Take a call, unless it has to be made by itself.

        Args:
            task: the task that is called.
            entry_id: the entry's id, a new one.
            args: positional arguments.
            kwargs: keyword arguments.
            call: Celery's options of the call.

        Returns:
            False if the call was not taken, because it has a dedup key, runs eagerly, or is made by
            a running task.

        Raises:
            ArgumentError, TypeError, OptionError: the task refuses the call; it was not taken.
        """
        app = task._get_app()
        if appconf(app).task_always_eager or app.current_worker_task is not None:
            return False
        task.check_signature(args, kwargs)
        call = task.complete(dict(call))
        options.check(task.name, call)
        if keying.policy_of(task, call) is not None:
            return False
        entry = calling.new_entry(task, entry_id, args, kwargs, call)
        self._entries.append(entry)
        if not calling.due_later(entry):
            kept = options.loads(entry.options) if entry.options else None
            wakeup = WakeUp(str(entry.id), entry.task, entry.queue, entry.priority, kept)
            self._publishers.append((publisher(app), wakeup))
        return True

    def write(self) -> None:
        """Write the entries; publish their wake-ups once the open transaction commits."""
        if not self._entries:
            return
        reach("enqueue.begin")
        ledger.enqueue_many(self._entries, grace=current().PUBLISH_RECHECK)
        reach("enqueue.written")
        for (task, queue), some in groupby(self._entries, lambda each: (each.task, each.queue)):
            events.emit_many(events.Enqueued, task, [each.id for each in some], queue=queue)
        gathered = self._publishers

        def after_commit() -> None:
            reach("enqueue.committed")
            for to, some in groupby(gathered, lambda each: each[0]):
                to.submit([wakeup for _, wakeup in some])

        alias = ledger.ledger_connection().alias
        transaction.on_commit(after_commit, using=alias, robust=True)
