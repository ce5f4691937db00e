"""Every error this package raises on purpose: each says what happened, why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from .dedup import Conflict


class ReliableTasksError(Exception):
    """Root of all errors of this package."""


class ConfigurationError(ReliableTasksError):
    """A setting is unknown, has the wrong type, or contradicts another one.

    Remedy: correct ``RELIABLE_TASKS`` in the Django settings as the message says;
    ``manage.py check`` reports the same without starting anything.
    """


class ArgumentError(ReliableTasksError, TypeError):
    """A task argument cannot be kept in the ledger (a model instance, a set, bytes, …).

    Raised at the call site, before anything is written. The message names the argument,
    its type and what to pass instead.
    """


class OptionError(ReliableTasksError, ValueError):
    """An option of ``apply_async`` or ``enqueue_many`` is unknown or has an impossible value.

    Raised at the call site, before anything is written.
    """


class AlreadyQueued(ReliableTasksError):
    """Another entry holds the call's dedup key; nothing was written.

    Remedy: there is mostly nothing to do, because the work is queued already. ``once`` says what
    a conflict does: ``{"conflict": "return"}`` gives the result handle of that entry instead.

    Args:
        countdown: seconds until the key is free, as far as that can be told.
        text: what happened, for people; the number alone, as in celery_once, unless given.
        conflict: who holds the key.

    Attributes:
        countdown: as given.
        message: "Expires in … seconds", as in celery_once.
        conflict: as given, or None.
        entry: id of the entry that holds the key, or None.
        state: that entry's state, None if it has been pruned.
        age: for how many seconds it has held the key.
        key: the readable form of the key.
    """

    def __init__(
        self, countdown: float, text: str = "", *, conflict: Conflict | None = None
    ) -> None:
        super().__init__(text or countdown)
        self.countdown = countdown
        self.message = f"Expires in {countdown} seconds"
        self.conflict = conflict
        self.entry: UUID | None = conflict.entry if conflict else None
        self.state: str | None = conflict.state if conflict else None
        self.age: float | None = conflict.age if conflict else None
        self.key: str | None = conflict.text if conflict else None

    def __reduce__(self) -> Any:
        return _queued_again, (self.countdown, str(self.args[0]), self.conflict)


def _queued_again(countdown: float, text: str, conflict: Conflict | None) -> AlreadyQueued:
    return AlreadyQueued(countdown, text, conflict=conflict)


class KeyReused(ReliableTasksError, ValueError):
    """A key was used before with other arguments, and its policy forbids that.

    An idempotency key stands for one call. Either the caller made the key of too little, or two
    different calls were given the same one. Nothing was written. Remedy: make the key of all that
    tells the calls apart; the message names the entry that has the key.
    """


class TransactionMismatch(ReliableTasksError):
    """An entry would be enqueued outside the transaction that the caller has open.

    A transaction is open on another database than the ledger's, so the entry would commit
    whatever becomes of that transaction. Remedy: open ``atomic()`` on the ledger's database as
    well, enqueue after the other transaction, or accept the weaker promise with
    ``RELIABLE_TASKS["OTHER_TRANSACTION"] = "warn"`` or ``"allow"``.
    """


class EntryRefused(ReliableTasksError):
    """A message arrived that no entry stands behind, and ``ADOPT`` is off.

    Remedy: enqueue with ``delay``, ``apply_async`` or ``enqueue_many`` on the task itself,
    or set ``RELIABLE_TASKS["ADOPT"] = True``.
    """


class LedgerNotReady(ReliableTasksError):
    """The ledger's tables are missing or older than the code. Remedy: ``manage.py migrate``."""


class Fenced(ReliableTasksError):
    """This attempt no longer owns its entry: its lease ended and someone else has taken over.

    Raised inside the attempt's transaction so that its database effects roll back. Do not catch
    it; another attempt does the work.
    """


class AttemptCancelled(ReliableTasksError):
    """Someone cancelled the entry while this attempt runs.

    Raised in the body by ``self.progress()`` and ``self.raise_if_cancelled()``. Let it pass:
    the attempt rolls back and the entry ends as cancelled.
    """


class TaskExited(ReliableTasksError):
    """The body called ``sys.exit()``, or raised what is no ordinary ``Exception``.

    It counts as a failure like any other. It stands in for ``SystemExit``, ``KeyboardInterrupt``
    and their like, so that the worker's process survives. Remedy: return, or raise an ordinary
    exception.
    """


class Rejected(ReliableTasksError):
    """The body raised Celery's ``Reject``, and the entry is dead.

    It stands in for ``Reject`` where results, errbacks and chords are told of the failure.
    """


class MissingObject(ReliableTasksError):
    """A row that an argument names is gone, and so the body was not run.

    Remedy: what becomes of such an entry is the task's ``on_missing``. A dead or cancelled one can
    be requeued once the row is back.
    """


class NotVisibleYet(ReliableTasksError):
    """A row on another database than the ledger's is not there yet; the entry waits for it.

    Its transaction may commit later than the entry's. After ``RELIABLE_TASKS["VISIBLE_WITHIN"]``
    seconds the row counts as gone.
    """


class ObjectsUnavailable(ReliableTasksError):
    """The database of a row that an argument names does not answer; the entry waits for it."""


class CorruptEntry(ReliableTasksError):
    """The arguments or options kept in an entry cannot be read back.

    The entry is dead with its content untouched. Remedy: correct the row, then requeue it.
    """
