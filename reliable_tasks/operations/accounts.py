"""What an act came to: whom it touched, whom it left alone, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .. import ledger, overview
from ..dedup import Conflict
from ..ledger import Seen
from .recording import batched


@dataclass(slots=True)
class RequeueResult:
    """What became of the entries that were to be requeued.

    Attributes:
        requeued: are pending now.
        skipped: were in a state that is not requeued, have changed, do not exist, or their key is
            held.
        held: for those that were skipped because their key is held, by whom.
        changed: the arguments that were changed; see :func:`~.editing.changes`.
    """

    requeued: list[UUID] = field(default_factory=list)
    skipped: list[UUID] = field(default_factory=list)
    held: dict[UUID, Conflict] = field(default_factory=dict)
    changed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, batch: Sequence[UUID], put_back: Collection[UUID]) -> None:
        """Take in what became of a batch."""
        self.requeued += [pk for pk in batch if pk in put_back]
        left = [pk for pk in batch if pk not in put_back]
        self.skipped += left
        if left:
            self.held |= ledger.held_by_others(left)


@dataclass(slots=True)
class DiscardResult:
    """What became of the entries that were to be discarded.

    Attributes:
        discarded: are cancelled now.
        skipped: were not dead, have changed, or do not exist.
    """

    discarded: list[UUID] = field(default_factory=list)
    skipped: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """An entry that an act left alone.

    Attributes:
        entry: its id.
        was: its state when somebody chose it; empty if nobody told.
        now: its state; empty if the ledger has it no more.
        changed: whether it is not as somebody saw it.
        holder: who holds its key, if that is why it could not be put back.
    """

    entry: UUID
    was: str
    now: str
    changed: bool
    holder: Conflict | None = None


def left_alone(
    entry_ids: Iterable[UUID], seen: Seen = None, held: dict[UUID, Conflict] | None = None
) -> list[LeftAlone]:
    """Return how entries stand that an act left alone, to tell why.

    Args:
        entry_ids: the entries.
        seen: how they stood when somebody chose them.
        held: who holds the keys of some of them; see :class:`RequeueResult`.
    """
    ids, before, holders = list(entry_ids), seen or {}, held or {}
    stand: dict[UUID, ledger.Mark] = {}
    for batch in batched(ids):
        stand |= ledger.marks_of(overview.entries().filter(pk__in=batch))
    found = []
    for pk in ids:
        was, now = before.get(pk), stand.get(pk)
        found.append(
            LeftAlone(
                pk,
                was.state if was is not None else "",
                now.state if now is not None else "",
                was is not None and was != now,
                holders.get(pk),
            )
        )
    return found
