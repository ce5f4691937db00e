"""Which entries a verb is about: those named, or those that the filters choose."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandError
from django.db.models import Count, Q, QuerySet

from ... import overview
from ...ledger import Seen, marks_of, not_since
from ...ledger.guard import moment_expression
from ...models import Entry
from ...operations import BATCH, batched
from ...states import ACTIVE, ENDED, State
from ..console.output import WRONG_USAGE

_FILTERS: Final = ("state", "task", "queue", "error", "fingerprint", "worker", "older", "newer")


def filtered(options: dict[str, Any]) -> QuerySet[Entry]:
    """Return the entries that the filters of a command line choose."""
    wanted = _in_states(set(options["state"]))
    if options["task"]:
        wanted &= _any_of("task", options["task"])
    if options["queue"]:
        wanted &= Q(queue__in=options["queue"])
    if error := options["error"]:
        wanted &= Q(error_class=error) | Q(error_class__endswith=f".{error}")
    if options["fingerprint"]:
        wanted &= Q(fingerprint=options["fingerprint"].lower())
    if options["worker"]:
        wanted &= Q(worker__startswith=options["worker"])
    if options["older"] is not None:
        wanted &= Q(enqueued_at__lt=moment_expression(-options["older"].total_seconds()))
    if options["newer"] is not None:
        wanted &= Q(enqueued_at__gte=moment_expression(-options["newer"].total_seconds()))
    return overview.entries().filter(wanted)


def _in_states(states: set[State]) -> Q:
    if not states:
        return Q()
    # Every live entry has a wake_at and every ended one a finished_at: saying so lets the partial
    # indexes serve.
    if states <= ACTIVE:
        return Q(state__in=states, wake_at__isnull=False)
    if states <= ENDED:
        return Q(state__in=states, finished_at__isnull=False)
    return Q(state__in=states)


def _any_of(field: str, patterns: list[str]) -> Q:
    found = Q()
    for pattern in patterns:
        starts = pattern.endswith("*")
        found |= Q(**{f"{field}__startswith": pattern[:-1]} if starts else {field: pattern})
    return found


class Selection:
    """Entries to act on, oldest first.

    Args:
        options: the command line: ``ids``, ``all``, ``limit`` and the filters.
        states: the states in which the act is possible.
        usual: the states that are meant where none is given.

    Raises:
        CommandError: nothing was chosen, two ways of choosing were mixed, an entry does not
            exist, or the act is impossible in a state that was asked for.
    """

    def __init__(
        self, options: dict[str, Any], states: Collection[State], usual: Collection[State]
    ) -> None:
        self.ids: list[UUID] = list(dict.fromkeys(options["ids"]))
        self.wanted: Collection[State] = options["state"] or usual
        self._limit: int | None = options["limit"]
        given = [name for name in _FILTERS if options[name] not in (None, [])]
        others = [*given, *(name for name in ("all", "limit") if options[name])]
        if self.ids and others:
            raise wrong(f"Name entries or choose them by --{others[0]}, not both.")
        if not self.ids and not given and not options["all"]:
            raise wrong("Which entries? Name their ids, give a filter such as --task, or --all.")
        for state in options["state"]:
            if state not in states:
                allowed = ", ".join(sorted(states))
                raise wrong(f"This is not possible for {state} entries, only for: {allowed}.")
        if self.ids:
            self.missing = self._missing()
            self.rows: QuerySet[Entry] = overview.entries().filter(pk__in=self.ids)
        else:
            self.missing = []
            self.rows = filtered({**options, "state": list(self.wanted)})
        self._states = states
        # While a question waits for its answer, others act as well.
        self.as_of = None if options["yes"] or self.ids else overview.now()
        self.seen: Seen = marks_of(self.possible) if self.ids else None

    @property
    def possible(self) -> QuerySet[Entry]:
        """Those on which the act is possible, and that have not changed since they were chosen."""
        found = self.rows.filter(state__in=list(self._states))
        if self.as_of is None:
            return found
        alive = Q(finished_at__isnull=True) & not_since(self.as_of)
        return found.filter(alive | Q(finished_at__lte=self.as_of))

    @property
    def guards(self) -> dict[str, Any]:
        """What an act is told, so that it leaves alone what has changed."""
        return {"as_of": self.as_of, "seen": self.seen}

    def count(self) -> int:
        """Return how many the act is possible on, the limit minded."""
        count = self.possible.count()
        return count if self._limit is None else min(count, self._limit)

    def by_task(self) -> list[tuple[str, str, int]]:
        """Return task, state and number of those on which the act is possible, most first."""
        groups = self.possible.order_by().values_list("task", "state").annotate(count=Count("pk"))
        return list(groups.order_by("-count", "task", "state"))

    def others(self) -> list[tuple[UUID, str]]:
        """Return id and state of the entries named on which the act is not possible."""
        if not self.ids:
            return []
        rows = self.rows.exclude(state__in=list(self._states))
        return list(rows.order_by("pk").values_list("pk", "state"))

    def batches(self) -> Iterator[list[UUID]]:
        """Yield the ids in bounded lists; each list is read when the one before is done with."""
        if self.ids:
            yield from batched(self.ids)
            return
        left = self.count()
        rows = self.possible.order_by("pk")
        last: UUID | None = None
        while left > 0:
            page = rows if last is None else rows.filter(pk__gt=last)
            ids = list(page.values_list("pk", flat=True)[: min(BATCH, left)])
            if not ids:
                return
            yield ids
            left -= len(ids)
            last = ids[-1]

    def _missing(self) -> list[UUID]:
        found: set[UUID] = set()
        for batch in batched(self.ids):
            found.update(overview.entries().filter(pk__in=batch).values_list("pk", flat=True))
        return [pk for pk in self.ids if pk not in found]


def wrong(text: str) -> CommandError:
    """Return the error for a command line that cannot be meant."""
    return CommandError(text, returncode=WRONG_USAGE)
