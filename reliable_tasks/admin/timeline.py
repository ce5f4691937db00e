"""The whole life of an entry, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..ledger import ledger_connection
from ..models import Attempt, Entry, TouchedEntry
from ..states import Outcome, State
from .changes import change_in_words, changes_of

# As acts note them; see ``operations.acting``.
_RESULTS: Final = {
    "cancelled": gettext_lazy("cancelled"),
    "asked to stop": gettext_lazy("asked to stop"),
    "requeued": gettext_lazy("requeued"),
    "discarded": gettext_lazy("discarded"),
    "key released": gettext_lazy("key released"),
    "enqueued": gettext_lazy("enqueued"),
}
#: How many attempts, and how many acts, a page shows.
MOST: Final = 50


@dataclass(slots=True)
class Moment:
    """Something that happened to an entry.

    Attributes:
        at: when.
        title: what, in a few words.
        kind: for its looks: "plain", "good", "bad" or "person".
        lines: more of it, in words.
        text: a long text with its own line breaks, such as a traceback.
        act: the act's id, where a person did it.
    """

    at: datetime
    title: str
    kind: str = "plain"
    lines: tuple[str, ...] = ()
    text: str = ""
    act: Any = None


def life_of(entry: Entry) -> list[Moment]:
    """Return what happened to an entry, oldest first.

    Of attempts, with their tracebacks, and of people's acts only the newest :data:`MOST` are read.

    Args:
        entry: the entry.
    """
    alias = ledger_connection().alias
    tried = Attempt.objects.using(alias).filter(entry_id=entry.pk).order_by("-number")
    attempts = list(tried[: MOST + 1])
    acts = TouchedEntry.objects.using(alias).filter(entry_id=entry.pk).select_related("act")
    touched = list(acts.order_by("-pk")[: MOST + 1])
    cut = [rows.pop() for rows in (attempts, touched) if len(rows) > MOST]
    attempts.reverse()
    found = [
        *_beginning(entry),
        *_published(entry),
        *(_left_out(each) for each in cut),
        *(_attempt(each) for each in attempts),
        *(_act(each) for each in touched),
        *_now(entry, attempts),
    ]
    return sorted(found, key=lambda moment: moment.at)


def _left_out(newest: Attempt | TouchedEntry) -> Moment:
    if isinstance(newest, Attempt):
        return Moment(newest.ended_at, _("Older attempts are not shown"))
    return Moment(newest.act.at, _("Older acts are not shown"))


def _beginning(entry: Entry) -> Iterator[Moment]:
    lines = [_("on queue %s") % entry.queue]
    if entry.schedule:
        lines.append(_("by schedule %s") % entry.schedule)
    if entry.publishes:
        # Counted in advance: at the enqueue, and by a sweeper before it sends.
        counted = ngettext(
            "%d publish since it was last due",
            "%d publishes since it was last due",
            entry.publishes,
        )
        lines.append(counted % entry.publishes)
    if entry.published_at is None and entry.attempt:
        lines.append(_("no sweeper had to publish it"))
    yield Moment(entry.enqueued_at, _("Enqueued"), lines=tuple(lines))
    if (entry.due_at - entry.enqueued_at).total_seconds() >= 1 and not entry.attempt:
        yield Moment(entry.due_at, _("Due"))


def _published(entry: Entry) -> Iterator[Moment]:
    """Yield the last time that a sweeper published it; it keeps no earlier one."""
    if entry.published_at is None:
        return
    lines = []
    if entry.publishes > 1:
        lines.append(_("again: its message was missing, or nobody had claimed it"))
    elif entry.publishes and entry.published_at >= entry.due_at:  # else for an earlier attempt
        lines.append(_("it had become due"))
    yield Moment(entry.published_at, _("Published by a sweeper"), lines=tuple(lines))


def _attempt(attempt: Attempt) -> Moment:
    began = attempt.started_at
    seconds = "" if began is None else f"{(attempt.ended_at - began).total_seconds():.3f} s"
    words = {
        Outcome.FAILED: _("failed"),
        Outcome.TIMEOUT: _("was ended by its time limit"),
        Outcome.RETRY: _("asked for another attempt"),
        Outcome.CRASHED: _("was lost with its process, and rescued"),
        Outcome.RELEASED: _("was given back by a worker that stopped"),
        Outcome.CANCELLED: _("was stopped"),
        Outcome.REJECTED: _("was rejected"),
    }
    error = ": ".join(part for part in (attempt.error_class, attempt.error_message) if part)
    where = _("on %s") % attempt.worker if attempt.worker else ""
    mild = {Outcome.RETRY, Outcome.RELEASED, Outcome.CANCELLED}
    return Moment(
        attempt.ended_at,
        _("Attempt %(number)d %(outcome)s")
        % {
            "number": attempt.number,
            "outcome": words.get(Outcome(attempt.outcome), attempt.outcome),
        },
        "plain" if attempt.outcome in mild else "bad",
        tuple(part for part in (error, " · ".join(filter(None, (where, seconds)))) if part),
        attempt.traceback,
    )


def _act(touched: TouchedEntry) -> Moment:
    act = touched.act
    who = act.by or _("somebody")
    result = capfirst(result_words(touched.result))
    title = _("%(result)s by %(who)s") % {"result": result, "who": who}
    changed = (change_in_words(each) for each in changes_of(act, touched.entry_id))
    lines = tuple(filter(None, (act.reason, *changed)))
    return Moment(act.at, title, "person", lines, act=act.pk)


def result_words(result: str) -> str:
    """Return what became of an entry that an act touched, in the active language."""
    return str(_RESULTS.get(result, result))


def _now(entry: Entry, attempts: list[Attempt]) -> Iterator[Moment]:
    worker = _("on %s") % entry.worker if entry.worker else ""
    if entry.state == State.RUNNING and entry.started_at is not None:
        lines = [line for line in (worker, _progress(entry)) if line]
        title = _("Attempt %d began") % entry.attempt
        yield Moment(entry.started_at, title, lines=tuple(lines))
    if entry.cancel_requested_at is not None:
        yield Moment(entry.cancel_requested_at, _("Asked to stop"), "person", (entry.reason,))
    if entry.finished_at is None:
        return
    if entry.state == State.SUCCEEDED:
        seconds = ""
        if entry.started_at is not None:
            seconds = f"{(entry.finished_at - entry.started_at).total_seconds():.3f} s"
        lines = [" · ".join(filter(None, (worker, seconds)))]
        title = _("Attempt %d succeeded") % entry.attempt
        yield Moment(entry.finished_at, title, "good", tuple(filter(None, lines)))
    else:
        title = _("Dead") if entry.state == State.DEAD else _("Cancelled")
        kind = "bad" if entry.state == State.DEAD else "plain"
        yield Moment(entry.finished_at, title, kind, (entry.reason,) if entry.reason else ())


def _progress(entry: Entry) -> str:
    found = entry.progress
    if not isinstance(found, dict) or "done" not in found:
        return ""
    of = found.get("total")
    words = f"{found['done']:g}" if of is None else f"{found['done']:g} / {of:g}"
    return " ".join(filter(None, (_("progress"), words, str(found.get("note") or ""))))


def relatives_of(entry: Entry, most: int) -> dict[str, list[Entry]]:
    """Return the entries around an entry: who enqueued it, and what it enqueued.

    Args:
        entry: the entry.
        most: children to return at most.
    """
    entries: QuerySet[Entry] = Entry.objects.using(ledger_connection().alias).only(
        "task", "state", "enqueued_at", "parent_id"
    )
    above: Iterable[Any] = {entry.parent_id, entry.root_id} - {None, entry.pk}
    found = {each.pk: each for each in entries.filter(pk__in=list(above))} if above else {}
    children = entries.filter(parent_id=entry.pk, parent_id__isnull=False).order_by("pk")[:most]
    return {
        "root": [found[entry.root_id]] if entry.root_id in found else [],
        "parent": [found[entry.parent_id]] if entry.parent_id in found else [],
        "children": list(children),
    }
