"""What an entry keeps of its key, and what a call is told that found its key held. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ..errors import CorruptEntry
from .policy import LIVE

#: The name under which an entry's options keep it.
KEPT_AS: Final = "once"
#: The option under which an entry keeps the id of the holder that it follows.
FOLLOWS: Final = "follows"
#: Beside it: why it cannot end as that holder does. Nobody was there to be told at the call.
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A key as its entry takes it, keeps it, and takes it again.

    Attributes:
        digest: the key.
        text: its readable form.
        arguments: digest of all the call's arguments.
        blocks: which states of the entry block.
        window: seconds after a success for which it still blocks.
        period: seconds after the enqueue for which it blocks at least.
        holds_dead: a dead entry keeps it.
    """

    digest: UUID
    text: str
    arguments: str
    blocks: str = LIVE
    window: float | None = None
    period: float | None = None
    holds_dead: bool = False

    def kept(self) -> dict[str, Any]:
        """Return what the entry's options keep; the text has a column of its own."""
        always = {"digest": self.digest.hex, "arguments": self.arguments}
        others = {name: value for name, value in asdict(self).items() if name not in always}
        del others["text"]
        usual = Hold(digest=self.digest, text="", arguments="")
        return always | {
            name: value for name, value in others.items() if value != getattr(usual, name)
        }

    @classmethod
    def of(cls, options: Mapping[str, Any], text: str | None) -> Hold | None:
        """Read it back from an entry's options and its column; None if the entry has no key.

        Raises:
            CorruptEntry: it is not what :meth:`kept` returns.
        """
        kept = options.get(KEPT_AS)
        if text is None or not isinstance(kept, Mapping):
            return None
        try:
            return cls(text=text, **{**kept, "digest": UUID(kept["digest"])})
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CorruptEntry(
                f"What the entry keeps of its key cannot be read: {error}"
            ) from error

    @property
    def lingers(self) -> bool:
        """Whether it may outlast a success."""
        return self.window is not None or self.period is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The receipt of a call that found its key held.

    Attributes:
        digest: the key.
        text: its readable form.
        entry: the entry that holds it.
        task: that entry's task.
        state: that entry's state; None if the entry has been pruned.
        arguments: digest of the arguments that the holder was called with.
        held_at: since when it is held.
        age: for how many seconds.
        frees_in: seconds until it ends by itself, None as long as its entry keeps it.
        lapsed: nothing stands behind it any more; the next call takes it.
        expired: its entry waits and its ``expires`` has passed; the next call ends it.
    """

    digest: UUID
    text: str
    entry: UUID
    task: str
    state: str | None
    arguments: str
    held_at: datetime
    age: float
    frees_in: float | None = None
    lapsed: bool = False
    expired: bool = False

    def __str__(self) -> str:
        state = self.state or "ended and pruned"
        return f"entry {self.entry} ({state}) has held it for {self.age:.1f} s"
