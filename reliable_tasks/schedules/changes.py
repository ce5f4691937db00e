"""What a sync does to schedules, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Act(StrEnum):
    """What a sync does to a schedule."""

    CREATED = "created"
    UPDATED = "updated"
    DISABLED = "disabled"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Difference:
    """A value on which code and row do not agree.

    Attributes:
        field: what it is about.
        row: what the row says.
        code: what the code says.
    """

    field: str
    row: Any
    code: Any


@dataclass(frozen=True, slots=True)
class Change:
    """What a sync does to one schedule, or would do.

    Attributes:
        name: the schedule's name.
        act: what is done.
        set: values that follow the code, as they were before.
        kept: values that stay, because an operator has edited them.
        where: where it is declared.
    """

    name: str
    act: Act
    set: tuple[Difference, ...] = ()
    kept: tuple[Difference, ...] = ()
    where: str = ""


@dataclass(slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        changes: one for each schedule that is declared or was.
        dry_run: whether nothing was written.
    """

    changes: list[Change] = field(default_factory=list)
    dry_run: bool = False

    def of(self, act: Act) -> list[Change]:
        """Return the changes of one kind."""
        return [change for change in self.changes if change.act == act]

    @property
    def kept(self) -> list[Change]:
        """The schedules of which an operator's edits were kept."""
        return [change for change in self.changes if change.kept]
