"""A reason, what several causes look at, and their wording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from .. import overview, spans
from ..link import Link
from ..models import Entry, WorkerProcess
from ..overview import ALIVE


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause why an entry is not running now.

    Attributes:
        cause: what was found, one word that stays the same in every language.
        text: the same as a sentence, in the active language.
        remedy: what a person can do about it; empty if there is nothing to do.
        blocks: the entry does not run before this has changed; False if it only waits its turn.
        details: the same for programs.
    """

    cause: str
    text: str
    remedy: str = ""
    blocks: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Case:
    """An entry that waits, and what several causes look at.

    Attributes:
        entry: the entry.
        at: the time of the database's clock.
        link: a connection to the broker, None for not asking it.
    """

    entry: Entry
    at: datetime
    link: Link | None

    @property
    def is_due(self) -> bool:
        """Whether it may be claimed now."""
        return self.entry.due_at <= self.at

    @cached_property
    def workers(self) -> list[tuple[WorkerProcess, str]]:
        """All workers that report themselves, with how they stand."""
        return [(each, overview.standing(each, self.at)) for each in overview.workers()]

    @cached_property
    def serving(self) -> list[WorkerProcess]:
        """The living workers that consume the entry's queue."""
        queue = self.entry.queue
        return [each for each, how in self.workers if how == ALIVE and queue in each.queues]

    @cached_property
    def able(self) -> list[WorkerProcess]:
        """Those of them that know the entry's task, or do not say what they know."""
        return [
            each for each in self.serving if each.tasks is None or self.entry.task in each.tasks
        ]


def sweep_remedy() -> str:
    """Return what to do where nobody sweeps."""
    return _("Every worker sweeps; without any: manage.py reliable_tasks sweep")


def some(names: list[str]) -> str:
    """Return the first few names."""
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def span(length: timedelta) -> str:
    """Return a length of time in the active language."""
    units = (
        pgettext("days", "d"),
        pgettext("hours", "h"),
        pgettext("minutes", "m"),
        pgettext("seconds", "s"),
    )
    return spans.span(max(length, timedelta(0)), units)


def ago(then: datetime, at: datetime) -> str:
    """Return how long ago a time was."""
    return _("%(span)s ago") % {"span": span(at - then)}


def ahead(then: datetime, at: datetime) -> str:
    """Return a time to come: how far ahead, and when that is in the project's time zone."""
    local = timezone.localtime(then) if timezone.is_aware(then) else then
    shown = date_format(local, "Y-m-d H:i:s")
    return _("in %(span)s, at %(time)s") % {"span": span(then - at), "time": shown}
