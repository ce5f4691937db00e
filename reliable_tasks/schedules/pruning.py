"""Old occurrences go a batch at a time, between what is due."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import DatabaseError

from ..conf import current
from ..ledger import occurrences
from .pacing import Every
from .settling import out_of_reach

logger = logging.getLogger("reliable_tasks.beat")


class Pruning:
    """Prunes occurrences for a beat.

    Args:
        every: tells when it is time for a round.
    """

    def __init__(self, every: Every) -> None:
        self._every = every
        #: Whether the latest batch was full, so that the next is to follow at once.
        self.goes_on = False

    def turn(self, now: datetime | None) -> None:
        """Prune one batch if it is time.

        Args:
            now: a fixed time instead of the database's clock, for tests.
        """
        settings = current()
        self.goes_on = False
        if settings.KEEP_OCCURRENCES is None or not self._every.due():
            return
        batch = settings.PRUNE_BATCH
        try:
            deleted = occurrences.prune(settings.KEEP_OCCURRENCES, batch=batch, now=now)
        except DatabaseError as error:
            if out_of_reach(error):
                raise
            logger.info("Occurrences are pruned later: %s", error)
            return
        self.goes_on = deleted >= batch
        if self.goes_on:
            self._every.again()
