"""``celery -A proj beat -S reliable``: django-celery-beat's scheduler with our beat inside."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from django.db import DatabaseError
from django.db.utils import InterfaceError
from django_celery_beat.schedulers import DatabaseScheduler

from .beat import OUTAGE_PAUSE, Beat

logger = logging.getLogger("reliable_tasks.beat")

_ADD_ENTRY_ERROR: Final = "The schedule %r of CELERY_BEAT_SCHEDULE cannot be used."


class ReliableScheduler(DatabaseScheduler):
    """Fires every due time of the schedules in the database exactly once, with any number of beats.

    What Celery and django-celery-beat know of a scheduler works as before; only :meth:`tick` does
    something else. It takes nothing from the schedule in memory that the base class keeps.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._installed = False
        self._beat: Beat | None = None
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Write what the settings declare to the database; later, if it is out of reach."""
        try:
            self.install_default_entries({})
            self.update_from_dict(self.app.conf.beat_schedule)
            self._installed = True
        except (DatabaseError, InterfaceError) as error:
            logger.error("The database is out of reach; beat goes on when it is back: %s", error)

    def update_from_dict(self, mapping: Mapping[str, Any]) -> None:
        """Write schedules that are declared in settings; one that is wrong is logged."""
        for name, fields in mapping.items():
            try:
                self.Entry.from_entry(name, app=self.app, **fields)
            except (DatabaseError, InterfaceError):
                raise
            except Exception:  # as the base class does: one must not stop the others
                logger.exception(_ADD_ENTRY_ERROR, name)
        # Read again by whoever asks for the schedule in memory; beat itself does not.
        self._initial_read = True

    def tick(self, *_: Any, **__: Any) -> float:
        """Do whatever is due. Never raises for the sake of database or broker.

        Returns:
            How many seconds to rest.
        """
        if not self._installed:
            self.setup_schedule()
            if not self._installed:
                return OUTAGE_PAUSE
        if self._beat is None:
            self._beat = Beat(self.app)
        return min(self._beat.turn(), float(self.max_interval))

    def close(self) -> None:
        """Give the lease back, so that another beat takes over at once."""
        if self._beat is not None:
            self._beat.stop()
        super().close()

    @property
    def info(self) -> str:
        """What beat's banner says."""
        return "    . exactly once -> any number of beats, one leads"
