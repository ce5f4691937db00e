"""Many calls at once: how they are written, and what the caller gets back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, overload
from uuid import UUID

from celery.result import AsyncResult

from . import ledger
from .conf import current
from .errors import AlreadyQueued
from .ledger import NewEntry
from .subject import Subject

if TYPE_CHECKING:
    from .task import ReliableTask


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that are written together: they differ in nothing but arguments and subjects.

    Attributes:
        template: what they share; a ``subject_type``, if they are about rows.
        rows: for each its id, and the JSON texts of its args and kwargs.
        keys: for each the key of the row that it is about, if they are about rows.
    """

    template: NewEntry
    rows: list[tuple[UUID, str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def add(self, row: tuple[UUID, str, str], subject: Subject | None) -> None:
        """Take one more call.

        Args:
            row: its id and texts.
            subject: the row of the project's that it is about.
        """
        self.rows.append(row)
        if subject is not None:
            self.keys.append(subject.id)

    @property
    def ids(self) -> list[UUID]:
        """The ids of the entries."""
        return [row[0] for row in self.rows]

    def write(self) -> None:
        """Write the entries."""
        grace, subjects = current().PUBLISH_RECHECK, self.keys or None
        ledger.enqueue_alike(self.template, self.rows, grace=grace, subjects=subjects)


class Batches:
    """All calls of one ``enqueue_many()``; one batch, unless queues or models of subjects differ.

    Args:
        template: what they share, the queue included where no routes decide.

    Attributes:
        ids: the entries' ids, in the order of the calls.
    """

    def __init__(self, template: NewEntry) -> None:
        self.template = template
        self.ids: list[UUID] = []
        self._batches: dict[tuple[str, str | None], Batch] = {}

    def add(self, row: tuple[UUID, str, str], queue: str, subject: Subject | None) -> None:
        """Take one more call.

        Args:
            row: its id and texts.
            queue: the queue it goes to.
            subject: the row of the project's that it is about.
        """
        label = subject.type if subject else None
        batch = self._batches.get((queue, label))
        if batch is None:
            shared = replace(self.template, queue=queue, subject_type=label)
            batch = self._batches[queue, label] = Batch(shared)
        self.ids.append(row[0])
        batch.add(row, subject)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches.values())


class EnqueuedMany(Sequence[AsyncResult]):
    """The results of :meth:`ReliableTask.enqueue_many`; handles are made when asked for.

    Attributes:
        ids: the entries' ids, in the order of the calls; where a dedup key was held, its holder's.
        conflicts: for the place of each call that was not enqueued, because its dedup key was held,
            the error that tells by whom.
    """

    def __init__(
        self,
        task: ReliableTask,
        ids: list[UUID],
        conflicts: Mapping[int, AlreadyQueued] | None = None,
    ) -> None:
        self._task = task
        self.ids = ids
        self.conflicts = dict(conflicts or {})

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> AsyncResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AsyncResult]: ...
    def __getitem__(self, index: int | slice) -> AsyncResult | Sequence[AsyncResult]:
        if isinstance(index, slice):
            return EnqueuedMany(self._task, self.ids[index])
        return self._task.AsyncResult(str(self.ids[index]))

    def __iter__(self) -> Iterator[AsyncResult]:
        return (self._task.AsyncResult(str(each)) for each in self.ids)
