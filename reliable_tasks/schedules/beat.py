"""One beat among any number: it leads or follows, and when it leads it settles what is due.

Note [Leader]: the lease only saves work. A beat that wrongly believes to lead does what the leader
does, and one of the two finds each due time accounted for.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from celery import Celery
from django.db import DatabaseError, connections
from django.db.utils import InterfaceError

from ..conf import current
from ..errands import LAST_SECONDS, Errands, relied_on
from ..errors import LedgerNotReady
from ..ledger import beats, marks, schedules
from ..ledger.guard import ledger_connection
from . import adopting, rivals
from .firing import SEND_SECONDS
from .pacing import Every
from .pruning import Pruning
from .reading import Schedule
from .sending import Sender
from .settling import Settled, settle
from .timetable import Read, Timetable

logger = logging.getLogger("reliable_tasks.beat")

# Seconds between: two looks for edits, two full reads of all rows, two looks for owed messages,
# two rounds of pruning, two warnings of another scheduler.
_LOOK: Final = 1.0
_READ: Final = 60.0
_OWED: Final = 2.0
_PRUNE: Final = 60.0
_WARN: Final = 300.0
#: How long a beat rests at most.
LONGEST_PAUSE: Final = 1.0
#: How long it rests when the database is out of reach.
OUTAGE_PAUSE: Final = 1.0
# How many schedules share a transaction.
_BATCH: Final = 200
# After firing, what comes due within this many seconds is gathered, to share a transaction.
_GATHER: Final = 0.25
# Celery looks between two ticks whether beat is to stop, so none may last long.
_LONGEST_TURN: Final = 0.5


def _carry_out(errand: Callable[[], object]) -> None:
    try:
        errand()
    finally:
        connections.close_all()  # there is seldom another errand soon


def _saved_by(at: datetime | None, found: Read) -> set[int]:
    return set() if at is None else {each.id for each in found.changed if each.changed_at <= at}


class Beat:
    """Settles due times while it leads.

    Args:
        app: the Celery app that has the tasks.
        holder: its name in the lease; made up if empty.
        clock: tells the present instead of the database's clock, for tests.
    """

    def __init__(
        self, app: Celery, *, holder: str = "", clock: Callable[[], datetime] | None = None
    ) -> None:
        self._app = app
        self.holder = holder or f"{socket.gethostname()}#{os.getpid()}-{secrets.token_hex(3)}"
        self._clock = clock
        self._sender = Sender(app)
        self._errands = Errands(_carry_out)
        self._timetable = Timetable()
        self._leads = False
        self._look, self._read = self._every(_LOOK), self._every(_READ)
        self._owed, self._prune = self._every(_OWED), Pruning(self._every(_PRUNE))
        self._warn = self._every(_WARN)
        self._renew = self._every(0.0)
        self._changed_at: datetime | None = None
        # Until when whoever led before has read what was saved.
        self._known_until: datetime | None = None
        # When all rows were read last, and what that dated edits of which rows do not tell.
        self._read_at: datetime | None = None
        self._edited_at: datetime | None = None
        # Schedules whose rows are to be read at the next look, whether anything was changed or not.
        self._again: set[int] = set()
        # Those of them whose own rows do not tell of the edit that is waiting.
        self._unsaved: set[int] = set()
        # The database's clock when the lease was renewed last, and ours that nobody can set.
        self._told: tuple[datetime, float] | None = None
        self._down = False
        self._connected_at = time.monotonic()
        self._gathers = False

    @property
    def leads(self) -> bool:
        """Whether it led when it last asked."""
        return self._leads

    def turn(self) -> float:
        """Do whatever is to be done now. Never raises for the sake of database or broker.

        Returns:
            How many seconds to rest.
        """
        try:
            self._recycle_connection()
            with relied_on(self._errands):
                pause = self._turn()
        except (DatabaseError, InterfaceError, LedgerNotReady) as error:
            self._lost_database(error)
            return OUTAGE_PAUSE
        except Exception:  # a beat that dies fires nothing at all
            logger.exception("A tick failed; the next one begins afresh.")
            self._follow()
            return OUTAGE_PAUSE
        if self._down:
            logger.warning("The database is back; what came due meanwhile is settled.")
            self._down = False
        return pause

    def stop(self) -> None:
        """Give the lease back and close the connection to the broker."""
        if self._leads:
            try:
                beats.step_down(self.holder, now=self._fixed())
            except Exception as error:  # it ends by itself
                logger.info("The lease could not be given back: %r", error)
        self._follow()
        self._sender.close()
        if not self._errands.flush(LAST_SECONDS):
            logger.warning("Beat ends before receivers and result backends were told all.")

    # -- leading ----------------------------------------------------------------------------------

    def _turn(self) -> float:
        if not self._lead():
            return LONGEST_PAUSE
        now = self._now()
        self._read_changes(now)
        self._settle_due()
        if self._owed.due():
            self._sender.send_owed(SEND_SECONDS, self._timetable.find, now=self._fixed())
        self._prune.turn(self._fixed())
        return self._pause()

    def _lead(self) -> bool:
        if self._leads and not self._renew.due():
            return True
        seconds = current().BEAT_LEASE_SECONDS
        led_until = None if self._leads else beats.led_until()
        found = beats.lead(self.holder, seconds, now=self._fixed())
        self._told = found.now, time.monotonic()
        if found.mine and not self._leads:
            logger.info("%s leads.", self.holder)
            self._begin(led_until)
        elif self._leads and not found.mine:
            logger.warning("%s leads now; %s follows.", found.holder, self.holder)
            self._follow()
        self._leads = found.mine
        return self._leads

    def _begin(self, led_until: datetime | None = None) -> None:
        self._timetable = Timetable()
        self._again, self._unsaved = set(), set()
        self._known_until = None if led_until is None else led_until - adopting.SEEN_WITHIN
        self._changed_at = self._read_at = None
        self._renew = self._every(current().BEAT_LEASE_SECONDS / 3)
        self._renew.due()
        for each in (self._look, self._read, self._owed):
            each.again()

    def _every(self, seconds: float) -> Every:
        clock = self._clock
        return Every(seconds, time.monotonic if clock is None else lambda: clock().timestamp())

    def _follow(self) -> None:
        self._leads = False
        self._timetable = Timetable()

    def _fixed(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    def _now(self) -> datetime:
        if self._clock is not None:
            return self._clock()
        assert self._told is not None, "it leads, so it has asked"
        at, since = self._told
        return at + timedelta(seconds=time.monotonic() - since)

    def _read_changes(self, now: datetime) -> None:
        if not self._look.due():
            return
        changed_at = schedules.changed_at()
        some: set[int] | None = None
        if changed_at != self._changed_at:
            self._read.due()
        elif not self._read.due():
            if not self._again:
                return
            some = self._again
        self._again = set()
        found = self._timetable.read(some)
        adopting.disable(now)
        for unreadable, problem in found.unreadable.items():
            logger.error("Schedule %s cannot be planned: %s", unreadable, problem)
        marks.note_problems(found.unreadable)
        if some is None:
            self._edited_at = self._told_at(changed_at)
        self._adopt(found, now)
        self._changed_at = changed_at
        if some is None:
            self._read_at = now

    def _told_at(self, changed_at: datetime | None) -> datetime | None:
        # An edit that a schedule's own row does not tell of was made then, or later.
        if self._read_at is not None:
            return max(changed_at or self._read_at, self._read_at)
        known = self._known_until
        return changed_at if changed_at and (known is None or changed_at > known) else None

    def _read_until(self) -> datetime | None:
        # What was saved by then has been read, by this beat or by whoever led before it.
        return self._known_until if self._read_at is None else self._read_at - adopting.SEEN_WITHIN

    def _adopt(self, found: Read, now: datetime) -> None:
        left = {each.id: each for each in found.changed}
        problems: dict[int, str] = {}
        unsaved = found.unsaved | self._unsaved | _saved_by(self._known_until, found)
        adopted = adopting.adopt(
            self._app,
            found.changed,
            now,
            problems,
            edited_at=self._edited_at,
            unsaved=unsaved,
            enabled_later=_saved_by(self._read_until(), found),
        )
        for schedule, progress in adopted:
            del left[schedule.id]
            try:
                self._timetable.put(schedule, progress)
            except Exception as error:  # whatever a spec can do wrong; the others must go on
                self._cannot_plan(schedule, f"{type(error).__name__}: {error}")
            else:
                if progress.problem:
                    marks.note_problems({schedule.id: ""})
        for each, problem in problems.items():
            self._cannot_plan(left.pop(each), problem)
        self._unsaved = unsaved & left.keys()
        for each in left:  # somebody else is changing it
            self._look_again(each)

    def _cannot_plan(self, schedule: Schedule, problem: str) -> None:
        logger.error("%s cannot be planned: %s", schedule.name, problem)
        self._timetable.drop(schedule.id)
        marks.note_problems({schedule.id: problem})

    def _look_again(self, schedule: int) -> None:
        self._timetable.drop(schedule)
        self._timetable.forget_row(schedule)
        self._again.add(schedule)

    def _settle_due(self) -> None:
        until = time.monotonic() + _LONGEST_TURN
        self._gathers = False
        while due := self._timetable.due(now := self._now(), _BATCH):
            settled = settle(self._app, due, now)
            self._note(due, settled, now)
            self._gathers = True
            if settled.elsewhere and rivals.note(settled.elsewhere) and self._warn.due():
                logger.warning("%s", rivals.warning())
            self._sender.send(settled.to_send, self._timetable.find, now=self._fixed())
            if len(due) < _BATCH and not settled.more:
                return  # what came due meanwhile gathers
            if not self._lead() or time.monotonic() > until:
                self._gathers = False
                return

    def _note(self, due: list[Schedule], settled: Settled, now: datetime) -> None:
        table = self._timetable
        for schedule in due:
            each = schedule.id
            if each in settled.errors:
                logger.error("%s is tried again: %r", schedule.name, settled.errors[each])
                table.look_soon(each, now, failed=True)
            elif each in settled.finished or each not in settled.progress:
                if each in settled.more:
                    table.look_at(each, now)
                    continue
                self._look_again(each)
            else:
                try:
                    table.moved(each, settled.progress[each])
                except Exception as error:  # as in _adopt
                    self._cannot_plan(schedule, f"{type(error).__name__}: {error}")
                    continue
                if each in settled.more:
                    table.look_at(each, now)
                if each in settled.buffered:
                    table.look_soon(each, now)
        table.ran(settled.ran)

    def _pause(self) -> float:
        if self._prune.goes_on:
            return 0.0
        following = self._timetable.next_at()
        if following is None:
            return LONGEST_PAUSE
        least = _GATHER if self._gathers else 0.0
        return max(least, min(LONGEST_PAUSE, (following - self._now()).total_seconds()))

    # -- the database -----------------------------------------------------------------------------

    def _lost_database(self, error: Exception) -> None:
        if not self._down:
            logger.error("The database is out of reach; no due time is lost: %s", error)
        self._down = True
        self._follow()
        self._close_connection()

    def _recycle_connection(self) -> None:
        if time.monotonic() - self._connected_at > current().CONNECTION_MAX_AGE:
            self._close_connection()

    def _close_connection(self) -> None:
        self._connected_at = time.monotonic()
        connection = ledger_connection()
        if not connection.in_atomic_block:
            connection.close()
