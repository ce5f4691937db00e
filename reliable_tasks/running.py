"""An attempt while it runs: what the body can ask of it through ``self``."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from django.db import Error as DjangoDatabaseError

from . import ledger
from .aside import Aside
from .errors import AttemptCancelled
from .models import Entry

if TYPE_CHECKING:
    from .ledger import Claim, NewEntry

logger = logging.getLogger("reliable_tasks.progress")

# At most one write of progress, and one look for a cancel, in that many seconds.
_PACE: Final = 1.0


class Running:
    """One attempt, from claim to finish.

    Args:
        claim: the lease it holds.
        options: the entry's options.
        began: when its message was taken up, by the monotonic clock; None for now.
    """

    def __init__(self, claim: Claim, options: dict[str, Any], began: float | None = None) -> None:
        self.claim = claim
        self.options = options
        self.began = time.monotonic() if began is None else began
        #: Its end was written in the transaction that is about to commit.
        self.ended = False
        #: The attempt is over, whatever it came to; Celery goes on with what follows it.
        self.over = False
        #: ``self.retry()`` was called beyond its limit.
        self.gave_up = False
        #: ``self.retry(throw=False)`` was called: what it would have raised.
        self.retry_asked: Exception | None = None
        #: ``self.replace()`` put another task in this one's place.
        self.replacement: NewEntry | None = None
        #: ``self.replace()`` was called; without a ``replacement``, with a workflow.
        self.replaced = False
        #: Sensitive texts among its arguments, not to be told of in a failure.
        self.secrets: list[str] = []
        self._entry: Entry | None = None
        self._last_look = 0.0
        self._aside = Aside()

    def close(self) -> None:
        """Let go of what the attempt has opened for itself: it is over."""
        self.over = True
        self._aside.close()

    @property
    def seconds(self) -> float:
        """How long the attempt has been running."""
        return time.monotonic() - self.began

    @property
    def entry(self) -> Entry:
        """The entry as it was when first asked for; one query."""
        if self._entry is None:
            alias = ledger.ledger_connection().alias
            self._entry = Entry.objects.using(alias).get(pk=self.claim.entry)
        return self._entry

    def progress(self, done: float, total: float | None, note: str) -> None:
        """Keep how far the attempt has come, at most once a second; notice a cancel.

        Args:
            done: how much is done.
            total: of how much; None if that is not known.
            note: what it is at, in words; empty for none.

        Raises:
            AttemptCancelled: the entry was cancelled.
        """
        last = total is not None and done >= total
        if not self._is_time(force=last):
            return
        report: dict[str, Any] = {"done": done, "total": total}
        if note:
            report["note"] = note
        if self._tell_aside(self._write_progress, report):
            raise AttemptCancelled(f"{self.claim.task}[{self.claim.entry}] was cancelled.")

    def asked_to_stop(self) -> bool:
        """Tell whether the entry was cancelled; looks at most once a second."""
        return self._is_time() and bool(self._tell_aside(self._look))

    def _is_time(self, *, force: bool = False) -> bool:
        now = time.monotonic()
        if not force and now - self._last_look < _PACE:
            return False
        self._last_look = now
        return True

    def _look(self) -> bool:
        return ledger.is_asked_to_stop(self.claim.entry, self.claim.token)

    def _write_progress(self, report: dict[str, Any]) -> bool:
        ledger.report_progress(self.claim.entry, self.claim.token, report)
        return self._look()

    def _tell_aside(self, act: Any, *args: Any) -> Any:
        # Inside a transaction the write would stay invisible until it ends, and hold the entry's
        # row locked against the heartbeat all that time. So it goes over another connection.
        connection = ledger.ledger_connection()
        try:
            if not connection.in_atomic_block:
                return act(*args)
            if connection.vendor == "sqlite":
                return (
                    None  # one writer at a time, and that is us: nothing can be told until commit
                )
            return self._aside.run(act, *args)
        except DjangoDatabaseError as error:
            logger.warning("Progress of %s was not kept: %s", self.claim.entry, error)
            return None
