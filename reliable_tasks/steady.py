"""Writes transitions down in spite of broken connections and of signals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from celery.exceptions import Ignore
from django.db import InterfaceError, InternalError, OperationalError

from . import ledger
from .errors import Fenced
from .outage import is_read_only
from .shield import Shield

logger = logging.getLogger("reliable_tasks.execution")

# A deadlock, a lock that is held too long, a database that restarts: over in a moment, mostly. All
# tries together stay well within a lease.
_PAUSES: Final = (0.2, 0.5, 1.0)

T = TypeVar("T")


def _unknown() -> bool:
    return False


def write_down(write: Callable[[], None], was_written: Callable[[], bool] = _unknown) -> None:
    """Write an attempt's end down, whatever signals arrive meanwhile.

    A connection that breaks before the answer leaves open whether the end was written. If it was,
    the next try is fenced off by it: then, and only then, it is asked for.

    Args:
        write: the transition.
        was_written: tells whether this very attempt has made it.

    Raises:
        Ignore: the ledger cannot be reached. Nobody renews the lease from here on, so a sweeper
            takes the entry over.
        Fenced: the attempt does not own its entry any more.
    """
    tries = 0

    def attempt() -> None:
        nonlocal tries
        tries += 1
        try:
            write()
        except Fenced:
            if tries == 1 or not was_written():
                raise

    try:
        with Shield() as shield:
            shield.up()
            on_live_connection(attempt)
    except (OperationalError, InterfaceError) as error:
        logger.error("The attempt's end is not kept, the ledger did not take it: %s", error)
        raise Ignore("the ledger cannot be reached") from error


def on_live_connection(act: Callable[[], T]) -> T:
    """Run one transition, again if the database refuses it for the moment, and reconnect if needed.

    Doing it twice is safe: each transition is guarded, so a first try that did commit makes the
    second one touch no row.

    Args:
        act: the transition.

    Returns:
        What it returned.

    Raises:
        OperationalError, InterfaceError: the database cannot be reached, or says no.
    """
    connection = ledger.ledger_connection()
    for pause in _PAUSES:
        try:
            return _where_writes_are_taken(act)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            if not connection.is_usable():
                connection.close()
        time.sleep(pause)
    return _where_writes_are_taken(act)


def _where_writes_are_taken(act: Callable[[], T]) -> T:
    """Run a transition; a server that lets nobody write is as good as out of reach."""
    try:
        return act()
    except (OperationalError, InternalError) as error:
        if not is_read_only(error):
            raise
        connection = ledger.ledger_connection()
        if not connection.in_atomic_block:  # kept, it would refuse whatever comes
            if connection.connection and connection.settings_dict["OPTIONS"].get("pool"):
                connection.connection.close()  # or else it would only go back there
            connection.close()
        raise OperationalError(str(error)) from error
