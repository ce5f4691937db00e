"""Sends the messages of plain Celery tasks, which have no entry and so no sweeper.

Note [Plain tasks]: the decision that a due time fires is made once, as for any task. What is owed
then is a message, and the occurrence says so (``send_at``) until the broker has taken it. So an
outage of the broker loses none. A beat that dies between the broker's yes and its own note of it
leaves a message that another beat sends again, under the same task id. After the broker has taken
it, the message is as safe as the broker and Celery's worker make it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from celery import Celery
from kombu import Producer
from kombu.exceptions import EncodeError

from ..ledger import occurrences
from ..link import Link
from ..models import Occurrence
from .reading import Schedule, Unreadable, read_one

logger = logging.getLogger("reliable_tasks.beat")

_AT_ONCE: Final = 200


class Sender:
    """Sends messages over a connection of its own, and leaves a broker alone that is down.

    Args:
        app: the Celery app whose broker it is.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._link = Link(app)

    def send(self, rows: Iterable[Occurrence], find: Callable[[int], Schedule | None]) -> int:
        """Send the messages of occurrences; what fails stays owed.

        Args:
            rows: the occurrences; their sending has been taken by this beat.
            find: knows schedules by their ids.

        Returns:
            How many were sent.
        """
        done = []
        for row in rows:
            schedule = find(row.schedule_id) or _read(row.schedule_id)
            if schedule is None:
                continue
            refusal: list[Exception] = []
            if not self._link.lend(self._sending(schedule, row, refusal), schedule.task):
                break  # the broker is down: whatever is left is sent later
            if refusal:
                reason = f"{type(refusal[0]).__name__}: {refusal[0]}"
                logger.error("%s could not call %s: %s", schedule.name, schedule.task, reason)
                occurrences.refuse(row.pk, reason)
            else:
                done.append(row.pk)
        if done:
            occurrences.sent(done)
        return len(done)

    def send_owed(
        self,
        seconds: float,
        find: Callable[[int], Schedule | None],
        *,
        now: datetime | None = None,
    ) -> int:
        """Send what other beats, or earlier tries, have left.

        Args:
            seconds: how long the sending of one is taken for.
            find: knows schedules by their ids.
            now: a fixed time instead of the database's clock, for tests.

        Returns:
            How many were sent.
        """
        if self._link.breaker.is_open:
            return 0
        rows = occurrences.owed(_AT_ONCE, now=now)
        return self.send([row for row in rows if occurrences.take(row, seconds, now=now)], find)

    def close(self) -> None:
        """Close the connection to the broker."""
        self._link.close()

    def _sending(
        self, schedule: Schedule, row: Occurrence, refusal: list[Exception]
    ) -> Callable[[Producer], None]:
        def send(producer: Producer) -> None:
            call: dict[str, Any] = {
                **schedule.options,
                "task_id": str(row.entry_id),
                "producer": producer,
                "retry": False,
            }
            task = self._app.tasks.get(schedule.task)
            try:
                if task is None:
                    self._app.send_task(schedule.task, schedule.args, schedule.kwargs, **call)
                else:
                    task.apply_async(schedule.args, schedule.kwargs, **call)
            except (TypeError, ValueError, EncodeError) as error:
                refusal.append(error)  # the call's fault, not the broker's

        return send


def _read(schedule: int) -> Schedule | None:
    try:
        return read_one(schedule)
    except (Unreadable, LookupError):
        return None
    except Exception as error:
        if type(error).__name__ == "DoesNotExist":
            return None
        raise
