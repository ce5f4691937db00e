"""Sends the messages of plain Celery tasks, which have no entry and so no sweeper.

Note [Plain tasks]: the decision that a due time fires is made once, as for any task. What is owed
then is a message, and the occurrence says so (``send_at``) until the broker has taken it. So an
outage of the broker loses none. That a few were sent is noted together, and what is still to be
noted outlives whatever fails meanwhile. Only a beat that dies between the broker's yes and its own
note of it leaves a few messages that another beat sends again, under the same task ids. After the
broker has taken it, a message is as safe as the broker and Celery's worker make it.

Note [Whose fault]: what a task says against a call before anything was handed to the broker is a
refusal, and final. Afterwards nothing is: a transport, too, raises ``ValueError``. If the broker
cannot be reached, all wait. Whatever else fails concerns one schedule, as a queue that the broker
refuses: what that one owes is left for a while, and the others go on.

Note [No results]: before it sends, Celery lets the result backend listen for the result, as Redis's
and rpc's do; that may wait for a lost server for ever. Nobody waits for results in a beat, so it
sends as a task does that may not wait for others: those backends listen for none then. Celery keeps
that for the whole process. So it is said only where a beat sends, not where others do.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from celery import Celery
from celery.result import denied_join_result
from django.db import DatabaseError, InterfaceError
from kombu import Producer
from kombu.exceptions import EncodeError

from ..ledger import occurrences
from ..link import Link
from ..models import Occurrence
from .reading import Schedule, read_one

logger = logging.getLogger("reliable_tasks.beat")

# Most owed messages that are looked at together.
_AT_ONCE: Final = 200
# After so many it is written down that they were sent. A crash repeats no more than these.
_NOTED_AT_ONCE: Final = 20
# How long a schedule is left alone whose message could not be sent, in seconds.
_LEFT_SECONDS: Final = 30.0
# What may be spent on failures before the beat goes on with what is due, in seconds.
_PATIENCE: Final = 1.0
# How long a beat sends at most before it goes on, in seconds: it has a lease to renew, and what it
# fired is its own to send for a few seconds only. The rest stays owed.
_LONGEST_PASS: Final = 2.0
# How many of them the log names.
_NAMED: Final = 5

Find = Callable[[int], Schedule | None]
Take = Callable[[Occurrence], bool]


class Sender:
    """Sends messages over a connection of its own, and leaves a broker alone that is down.

    Args:
        app: the Celery app whose broker it is.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._link = Link(app)
        # What the broker has taken, and the occurrences do not say yet.
        self._sent: list[int] = []

    def send(self, rows: Iterable[Occurrence], find: Find, *, now: datetime | None = None) -> int:
        """Send what a beat has fired; what fails, or takes too long, stays owed.

        See Note [Whose fault] and Note [No results].

        Args:
            rows: the occurrences; their sending has been taken by this beat.
            find: knows schedules by their ids.
            now: a fixed time instead of the database's clock, for tests.

        Returns:
            How many were sent.
        """
        self._note()
        with denied_join_result():
            return self._send(rows, find, lambda _: True, now, longest=_LONGEST_PASS)

    def send_owed(self, seconds: float, find: Find, *, now: datetime | None = None) -> int:
        """Send, in a beat, what other beats or earlier tries have left. See Note [No results].

        Args:
            seconds: how long the sending of one is taken for.
            find: knows schedules by their ids.
            now: a fixed time instead of the database's clock, for tests.

        Returns:
            How many were sent.
        """
        self._note()
        if self._link.breaker.is_open:
            return 0
        # Each is taken just before it is sent, so that the next pass begins with what this one did
        # not come to.
        rows = occurrences.owed(_AT_ONCE, now=now)
        take: Take = lambda row: occurrences.take(row, seconds, now=now)  # noqa: E731
        with denied_join_result():
            return self._send(rows, find, take, now, longest=_LONGEST_PASS)

    def send_committed(self, rows: Iterable[Occurrence], find: Find, seconds: float) -> int:
        """Send, outside of a beat, what a transaction has committed; what fails stays owed.

        However long the transaction took, a beat that has begun to send one of them is left to it.

        Args:
            rows: the occurrences.
            find: knows schedules by their ids.
            seconds: how long the sending of one is taken for.

        Returns:
            How many were sent.
        """
        take: Take = lambda row: occurrences.take(row, seconds)  # noqa: E731
        return self._send(rows, find, take, None, longest=math.inf)

    def close(self) -> None:
        """Note what was sent, and close the connection to the broker."""
        try:
            self._note()
        except Exception as error:  # such as a database that is gone
            logger.error(
                "That %d messages were sent could not be noted. Another beat sends them once more, "
                "under the same task ids: %r",
                *(len(self._sent), error),
            )
        self._link.close()

    def _send(
        self,
        rows: Iterable[Occurrence],
        find: Find,
        take: Take,
        now: datetime | None,
        *,
        longest: float,
    ) -> int:
        left: dict[int, str] = {}
        count, patience = 0, _PATIENCE
        until = time.monotonic() + longest
        for row in rows:
            if time.monotonic() > until:
                break
            if row.schedule_id in left or not take(row):
                continue
            began = time.monotonic()
            try:
                if not self._send_one(row, find):
                    break  # the broker is down: whatever is left is sent later
            except _NotSent as failure:
                left[row.schedule_id] = str(failure)
                occurrences.postpone(row.schedule_id, _LEFT_SECONDS, now=now)
                patience -= time.monotonic() - began
                if patience < 0:
                    break
            if len(self._sent) >= _NOTED_AT_ONCE:
                count += self._note()
        if left:
            logger.error(
                "Messages of %d schedules could not be sent and are tried again in %d s: %s",
                *(len(left), _LEFT_SECONDS, "; ".join(list(left.values())[:_NAMED])),
            )
        return count + self._note()

    def _send_one(self, row: Occurrence, find: Find) -> bool:
        schedule = find(row.schedule_id) or _read(row.schedule_id)
        if schedule is None:
            raise _NotSent(f"the rows of schedule {row.schedule_id} make no sense")
        call = _Call(self._app, schedule, str(row.entry_id))
        try:
            if not self._link.lend(call.make, schedule.task):
                return False
        except Exception as error:  # whatever the broker says against this one
            raise _NotSent(f"{schedule.name} ({_words(error)})") from error
        if call.failure is not None:
            raise _NotSent(f"{schedule.name} ({_words(call.failure)})") from call.failure
        if call.refusal is None:
            self._sent.append(row.pk)
        else:
            reason = _words(call.refusal)
            logger.error("%s could not call %s: %s", schedule.name, schedule.task, reason)
            occurrences.refuse(row.pk, reason)
        return True

    def _note(self) -> int:
        count = len(self._sent)
        if count:
            occurrences.sent(self._sent)
            self._sent.clear()
        return count


class _NotSent(Exception):
    """One message could not be sent, for a reason of its own."""


class _Call:
    """The call of a plain Celery task for one occurrence.

    Attributes:
        refusal: what the task said against the call; None for nothing.
        failure: what else kept it from being made, before the broker was asked.
    """

    def __init__(self, app: Celery, schedule: Schedule, task_id: str) -> None:
        self._app, self._schedule, self._task_id = app, schedule, task_id
        self.refusal: Exception | None = None
        self.failure: Exception | None = None

    def make(self, producer: Producer) -> None:
        """Make the call with a producer of the broker.

        Raises:
            Exception: the producer failed.
        """
        schedule, observed = self._schedule, _Observed(producer)
        call: dict[str, Any] = {
            **schedule.options,
            "task_id": self._task_id,
            "producer": observed,
            "retry": False,
        }
        task = self._app.tasks.get(schedule.task)
        try:
            if task is None:
                self._app.send_task(schedule.task, schedule.args, schedule.kwargs, **call)
            else:
                task.apply_async(schedule.args, schedule.kwargs, **call)
        except Exception as error:
            if observed.handed_over:
                # Sending it again would not undo that.
                logger.warning("%s was called, and then raised %r", schedule.task, error)
            elif _is_refusal(error, observed):
                self.refusal = error
            elif observed.touched:
                raise
            else:
                self.failure = error  # a queue that this process does not know, and the like


class _Observed:
    """A producer that tells how far a call has come with it."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.touched = self.handed_over = False

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        """Publish as the producer does."""
        self.touched = True
        found = self._producer.publish(*args, **kwargs)
        self.handed_over = True
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


def _is_refusal(error: Exception, observed: _Observed) -> bool:
    # The body is encoded within ``publish``, before the transport is touched.
    if isinstance(error, EncodeError):
        return True
    return isinstance(error, (TypeError, ValueError)) and not observed.touched


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _read(schedule: int) -> Schedule | None:
    try:
        return read_one(schedule)
    except (DatabaseError, InterfaceError):
        raise
    except Exception:  # it was deleted, or whatever its rows can do wrong
        return None
