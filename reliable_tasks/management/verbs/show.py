"""``show``: the whole life of one entry."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from django.core.management.base import CommandError

from ... import overview
from ...ledger import ledger_connection
from ...models import Attempt, Entry, TouchedEntry
from ...shown import shown_arguments, shown_options
from ...states import ENDED, WAITING, State
from ...why import Reason, why_waiting
from ..console import shape
from ..console.output import Output, clean
from ..console.parsing import Parser, entry_id, positive

NAME: Final = "show"
HELP: Final = "the whole life of one entry"

_LABEL: Final = 11
_ATTEMPTS: Final = 20
_ACTS: Final = 50


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("id", type=entry_id, metavar="ID", help="the entry's id")
    parser.add_argument(
        "--attempts",
        type=positive,
        default=_ATTEMPTS,
        metavar="N",
        help=f"the newest N that did not succeed, with their tracebacks (default: {_ATTEMPTS})",
    )


def run(options: dict[str, Any], out: Output) -> int:
    """Print one entry: what it is, where it stands, its attempts and its timeline."""
    entry = overview.entries().filter(pk=options["id"]).first()
    if entry is None:
        raise CommandError(
            f"There is no entry {options['id']} in the ledger (database "
            f"{ledger_connection().alias!r}). It may have been pruned, or its transaction was "
            "rolled back."
        )
    attempts, older = _newest(entry, options["attempts"])
    at = overview.now()
    steps = timeline(entry, attempts, _acts(entry))
    if out.as_json:
        told = [{"at": when, "what": what} for when, what in steps]
        whole = {**shape.whole(entry, attempts), "older_attempts": older}
        why = [asdict(reason) for reason in why_waiting(entry)]
        out.data({**whole, "why_waiting": why, "timeline": told})
        return 0
    _print_head(entry, at, out)
    _print_why(why_waiting(entry), out)
    _print_call(entry, out)
    if older:
        out.line()
        words = shape.plural(older, "older attempt is", "older attempts are")
        out.line(f"{words} not shown; --attempts {older + len(attempts)} shows all.")
    _print_attempts(attempts, out)
    out.line()
    out.line("Timeline")
    for when, what in steps:
        out.line(f"  {shape.moment(when)}  {what} ({shape.relative(when, at)})")
    return 0


def _newest(entry: Entry, most: int) -> tuple[list[Attempt], int]:
    """Return the newest attempts that did not succeed, in order, and how many older ones there are.

    Some entries are retried for ever, and each traceback is long.
    """
    rows = Attempt.objects.using(entry._state.db).filter(entry=entry)
    found = list(rows.order_by("-number")[:most])
    older = rows.filter(number__lt=found[-1].number).count() if len(found) == most else 0
    return found[::-1], older


def timeline(
    entry: Entry, attempts: list[Attempt], touched: list[TouchedEntry]
) -> list[tuple[datetime, str]]:
    """Return what happened to an entry and what will, in order of time.

    Args:
        entry: the entry.
        attempts: its attempts that did not succeed.
        touched: what people did to it.
    """
    steps = [(entry.enqueued_at, f"enqueued for {entry.queue!r}")]
    if entry.due_at > entry.enqueued_at and entry.state in WAITING:
        steps.append((entry.due_at, "due"))
    if entry.published_at is not None:
        steps.append((entry.published_at, "a sweeper published it"))
    for each in attempts:
        if each.started_at is not None:
            steps.append((each.started_at, f"attempt {each.number} began on {each.worker}"))
        ended = f"attempt {each.number} ended: {each.outcome}"
        steps.append((each.ended_at, f"{ended}, {_error(each)}" if _error(each) else ended))
    steps += [(each.act.at, _act(each)) for each in touched]
    if entry.started_at is not None and entry.attempt not in {each.number for each in attempts}:
        steps.append((entry.started_at, f"attempt {entry.attempt} began on {entry.worker}"))
    if entry.cancel_requested_at is not None:
        steps.append((entry.cancel_requested_at, "asked to stop"))
    if entry.finished_at is not None:
        steps.append((entry.finished_at, entry.state))
    if entry.expires_at is not None and entry.state in WAITING:
        steps.append((entry.expires_at, "expires"))
    if entry.wake_at is not None:
        running = entry.state == State.RUNNING
        steps.append((entry.wake_at, "the lease ends" if running else "the sweeper looks next"))
    return sorted(steps, key=lambda step: step[0])


def _acts(entry: Entry) -> list[TouchedEntry]:
    rows = TouchedEntry.objects.using(entry._state.db).filter(entry_id=entry.pk)
    return list(rows.select_related("act").order_by("-pk")[:_ACTS])


def _act(touched: TouchedEntry) -> str:
    act = touched.act
    words = f"{touched.result} by {act.by or 'somebody'}"
    return f"{words}: {act.reason}" if act.reason else words


def _print_head(entry: Entry, at: datetime, out: Output) -> None:
    limit = "no limit" if entry.max_retries is None else f"limit {entry.max_retries}"
    retries = shape.plural(entry.retries, "retry", "retries")
    # A claim counts the crash in advance; while the attempt runs it has not happened.
    happened = entry.crashes - (entry.state == State.RUNNING)
    crashes = shape.plural(happened, "crash", "crashes")
    out.line(f"{clean(entry.task)}  {entry.pk}")
    dead = entry.state == State.DEAD
    _field(out, "state", entry.state, style=out.style.ERROR if dead else None)
    _field(out, "reason", entry.reason)
    _field(out, "error", _error(entry))
    _field(out, "alike", entry.fingerprint and f"fingerprint {entry.fingerprint}")
    priority = "" if entry.priority is None else f", priority {entry.priority}"
    _field(out, "queue", f"{entry.queue}{priority}")
    _field(
        out,
        "attempts",
        f"{entry.attempt} begun, {retries} ({limit}), {crashes} (budget {entry.crash_budget})",
    )
    _field(out, "publishes", str(entry.publishes))
    _field(out, "worker", entry.worker)
    if entry.progress and entry.state not in ENDED:
        _field(out, "progress", shape.text_of(entry.progress))
    if entry.state in WAITING and entry.due_at > at:
        _field(out, "due", shape.relative(entry.due_at, at))


def _print_why(reasons: list[Reason], out: Output) -> None:
    label = "waits"
    for reason in reasons:
        head = f"  {label:<{_LABEL}}"
        out.paragraph(reason.text, head, " " * len(head), out.style.WARNING)
        if reason.remedy:
            out.paragraph(f"→ {reason.remedy}", " " * len(head), " " * len(head))
        label = ""


def _print_call(entry: Entry, out: Output) -> None:
    args, kwargs = shown_arguments(entry)
    _field(out, "args", shape.text_of(args))
    _field(out, "kwargs", shape.text_of(kwargs))
    _field(out, "options", shape.text_of(shown_options(entry)) if entry.options else "")
    _field(out, "key", entry.key or "")
    subject = f"{entry.subject_type} {entry.subject_id}" if entry.subject_type else ""
    _field(out, "subject", subject)
    _field(out, "schedule", entry.schedule)
    for name in ("root", "parent", "group"):
        linked = getattr(entry, f"{name}_id")
        _field(out, name, "" if linked in (None, entry.pk) else str(linked))


def _print_attempts(attempts: list[Attempt], out: Output) -> None:
    for each in attempts:
        began = each.started_at
        took = f" after {shape.span(each.ended_at - began)}" if began is not None else ""
        out.line()
        out.line(f"Attempt {each.number}: {each.outcome}{took}, on {each.worker}")
        text = each.traceback.rstrip() or _error(each)
        for line in text.splitlines():
            out.line(f"  {line}")


def _field(out: Output, label: str, value: str, style: Any = None) -> None:
    if value:
        first, *rest = value.splitlines()
        out.line(f"  {label:<{_LABEL}}{first}", style)
        for line in rest:
            out.line(f"  {'':<{_LABEL}}{line}", style)


def _error(of: Entry | Attempt) -> str:
    name = of.error_class.rpartition(".")[2]
    return f"{name}: {of.error_message}" if name and of.error_message else name or of.error_message
