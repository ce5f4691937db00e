"""Which entries an act is about: those named, or all that match a filter. Goes to JSON and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import overview
from ..models import Entry
from ..states import ACTIVE, ENDED, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A choice of entries. What is empty does not narrow it down.

    Attributes:
        ids: these very entries.
        states: in one of these states.
        task: of this task; of all whose names begin so, if it ends in ``*``.
        queue: on this queue.
        worker: last held by this worker, or by one whose identity begins so.
        error: whose last failure's class is this, by its dotted or its last name.
        fingerprint: whose last failure has this fingerprint.
        schedule: enqueued by this schedule.
        subject_type: about a row of this model, by its label.
        subject_id: about the row with this primary key.
        since: enqueued at this time or later, as ISO 8601.
        until: enqueued before this time, as ISO 8601.
    """

    ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    task: str = ""
    queue: str = ""
    worker: str = ""
    error: str = ""
    fingerprint: str = ""
    schedule: str = ""
    subject_type: str = ""
    subject_id: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return the choice that was kept as JSON. Unknown names are an error.

        Raises:
            ValueError: an id, a state or a time is none.
        """
        names = {each.name for each in fields(cls)}
        if strange := set(found).difference(names):
            raise ValueError(f"Entries cannot be chosen by {', '.join(sorted(strange))}.")
        given: dict[str, Any] = {
            name: tuple(map(str, value)) if name in {"ids", "states"} else str(value)
            for name, value in found.items()
        }
        chosen = cls(**given)
        for text in chosen.ids:
            UUID(text)
        for text in chosen.states:
            State(text)
        for text in (chosen.since, chosen.until):
            if text and parse_datetime(text) is None:
                raise ValueError(f"{text!r} is no time.")
        return chosen

    def as_json(self) -> dict[str, Any]:
        """Return the choice as JSON values."""
        found = {name: value for name, value in asdict(self).items() if value}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
        }

    def rows(self, allowed: Collection[State] = ()) -> QuerySet[Entry]:
        """Return the entries, in no order.

        Args:
            allowed: only those in one of these states, too.
        """
        states = {State(text) for text in self.states}
        if allowed:
            states = states & set(allowed) if states else set(allowed)
            if not states:
                return overview.entries().none()
        return overview.entries().filter(in_states(states) & self._condition())

    def narrow(self, rows: QuerySet[Entry]) -> QuerySet[Entry]:
        """Return those of some entries that are chosen."""
        try:
            states = {State(text) for text in self.states}
        except ValueError:
            return rows.none()
        return rows.filter(in_states(states) & self._condition())

    def _condition(self) -> Q:
        exact = ("queue", "fingerprint", "schedule", "subject_type", "subject_id")
        wanted = Q(**{name: value for name in exact if (value := getattr(self, name))})
        if self.ids:
            wanted &= Q(pk__in=self.ids)
        if self.task.endswith("*"):
            wanted &= Q(task__startswith=self.task[:-1])
        elif self.task:
            wanted &= Q(task=self.task)
        if self.error:
            wanted &= Q(error_class=self.error) | Q(error_class__endswith=f".{self.error}")
        if self.worker:
            wanted &= Q(worker__startswith=self.worker)
        if self.since:
            wanted &= Q(enqueued_at__gte=_time(self.since))
        if self.until:
            wanted &= Q(enqueued_at__lt=_time(self.until))
        return wanted

    def words(self) -> str:
        """Return the choice in words of the active language."""
        if len(self.ids) == 1:
            return _("entry %s") % self.ids[0]
        if self.ids:
            return ngettext("%d entry by name", "%d entries by name", len(self.ids)) % len(self.ids)
        states = _(" or ").join(_(state) for state in self.states)
        parts = [_("%s entries") % states if states else _("all entries")]
        parts += [
            words % value
            for words, value in (
                (_("of task %s"), self.task),
                (_("on queue %s"), self.queue),
                (_("held by %s"), self.worker),
                (_("with error %s"), self.error),
                (_("with fingerprint %s"), self.fingerprint),
                (_("of schedule %s"), self.schedule),
                (_("about %s"), " ".join(filter(None, (self.subject_type, self.subject_id)))),
                (_("enqueued since %s"), self.since),
                (_("enqueued before %s"), self.until),
            )
            if value
        ]
        return " ".join(parts)


def in_states(states: Collection[State]) -> Q:
    """Return the condition that an entry is in one of some states, in words that indexes serve."""
    if not states or set(states) == set(State):
        return Q()
    # Every live entry has a wake_at and every ended one a finished_at.
    if set(states) <= ACTIVE:
        return Q(state__in=list(states), wake_at__isnull=False)
    if set(states) <= ENDED:
        return Q(state__in=list(states), finished_at__isnull=False)
    return Q(state__in=list(states))


def _time(text: str) -> datetime:
    found = parse_datetime(text)
    if found is None:
        raise ValueError(f"{text!r} is no time.")
    return found
