"""``celery -A proj beat -S reliable``: django-celery-beat's scheduler with our beat inside."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DatabaseError, connections
from django.db.utils import InterfaceError
from django_celery_beat.schedulers import DatabaseScheduler

from ..errors import LedgerNotReady
from .beat import OUTAGE_PAUSE, Beat
from .changes import SyncReport
from .report import lines
from .sync import sync_beat_schedule

logger = logging.getLogger("reliable_tasks.beat")


class ReliableScheduler(DatabaseScheduler):
    """Fires every due time of the schedules in the database exactly once, with any number of beats.

    What Celery and django-celery-beat know of a scheduler works as before; only :meth:`tick` does
    something else. It takes nothing from the schedule in memory that the base class keeps.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._installed = False
        self._in_tick = False
        self._beat: Beat | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Bring rows in line with ``CELERY_BEAT_SCHEDULE``; later, if there is no database.

        The base class writes all of it over whatever the rows say. Here what an operator has edited
        stays, and the log tells the difference.
        """
        try:
            for change in sync_beat_schedule(self.app).changes:
                level = logging.WARNING if change.kept else logging.INFO
                for line in lines(SyncReport([change])):
                    logger.log(level, "%s", line)
            # Since when the base class has to read again. It has not read yet: that would disable
            # each schedule whose arguments are no JSON, and no operator would be told.
            self._last_timestamp = self.Changes.last_change()
            self._installed = True
        except (DatabaseError, InterfaceError) as error:
            logger.error("The database is out of reach; beat goes on when it is back: %s", error)
            # Django keeps a connection that broke, and each later try would fail with it.
            connections.close_all()
        except LedgerNotReady as error:
            logger.error("Beat waits until the tables are there: %s", error)
        except Exception:  # a beat that does not start fires nothing at all
            logger.exception(
                "CELERY_BEAT_SCHEDULE and the rows of the schedules were not compared. All "
                "schedules go on as their rows say. Mend what the traceback names and restart "
                "beat; `manage.py reliable_tasks schedules sync --dry-run` compares them, too."
            )
            self._installed = True

    def tick(self, *_: Any, **__: Any) -> float:
        """Do whatever is due. Never raises for the sake of database or broker.

        Returns:
            How many seconds to rest.
        """
        self._in_tick = True
        try:
            return self._tick()
        except BaseException:  # a signal's, in the middle of some statement
            connections.close_all()
            raise
        finally:
            self._in_tick = False

    def _tick(self) -> float:
        if not self._installed:
            self.setup_schedule()
            if not self._installed:
                return OUTAGE_PAUSE
        if self._beat is None:
            self._beat = Beat(self.app)
        return min(self._beat.turn(), float(self.max_interval))

    def close(self) -> None:
        """Give the lease back, so that another beat takes over at once.

        Celery's handlers of SIGTERM and SIGINT call this, whatever the process is doing, and end
        the tick then. In the middle of a statement the database's driver would wait for itself for
        ever. Celery calls it once more when the tick has ended.
        """
        if self._in_tick:
            return
        if self._beat is not None:
            self._beat.stop()
        super().close()

    @property
    def info(self) -> str:
        """What beat's banner says."""
        return "    . exactly once -> any number of beats, one leads"
