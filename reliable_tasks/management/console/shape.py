"""An entry as people read it and as JSON has it. The keys are an interface: they only grow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from ... import spans
from ...models import Attempt, Entry
from ...shown import shown_arguments, shown_options
from ...states import WAITING, State
from .output import Column

span = spans.span

#: Columns that a list of entries reads; the others may be large.
LISTED: Final = (
    "id",
    "task",
    "state",
    "queue",
    "priority",
    "attempt",
    "retries",
    "max_retries",
    "crashes",
    "crash_budget",
    "publishes",
    "worker",
    "error_class",
    "fingerprint",
    "reason",
    "enqueued_at",
    "due_at",
    "wake_at",
    "published_at",
    "expires_at",
    "cancel_requested_at",
    "started_at",
    "finished_at",
)
_ONLY_SHOWN: Final = (
    "args",
    "kwargs",
    "options",
    "key",
    "subject_type",
    "subject_id",
    "root_id",
    "parent_id",
    "group_id",
    "schedule",
    "error_message",
    "progress",
)
_ATTEMPT: Final = (
    "number",
    "outcome",
    "error_class",
    "error_message",
    "fingerprint",
    "traceback",
    "worker",
    "started_at",
    "ended_at",
)
LIST_COLUMNS: Final = (
    Column("ID"),
    Column("TASK", least=12),
    Column("STATE"),
    Column("QUEUE", least=6, spare=True),
    Column("ATTEMPT", right=True, spare=True),
    Column("AGE", right=True, spare=True),
    Column("NOW", spare=True),
    Column("ERROR", least=10),
)


def listed(entry: Entry) -> dict[str, Any]:
    """Return an entry as ``list --json`` has it."""
    return {name: getattr(entry, name) for name in LISTED}


def whole(entry: Entry, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return an entry as ``show --json`` has it, without its timeline."""
    args, kwargs = shown_arguments(entry)
    return {
        **listed(entry),
        **{name: getattr(entry, name) for name in _ONLY_SHOWN},
        "args": args,
        "kwargs": kwargs,
        "options": shown_options(entry),
        "attempts": [{name: getattr(each, name) for name in _ATTEMPT} for each in attempts],
    }


def row(entry: Entry, at: datetime) -> list[object]:
    """Return an entry's cells under :data:`LIST_COLUMNS`."""
    return [
        entry.pk,
        entry.task,
        entry.state,
        entry.queue,
        entry.attempt,
        span(at - entry.enqueued_at),
        _now(entry, at),
        entry.error_class.rpartition(".")[2],
    ]


def _now(entry: Entry, at: datetime) -> str:
    if entry.state in WAITING:
        late = at - entry.due_at
        return f"due for {span(late)}" if late >= timedelta(0) else f"due in {span(-late)}"
    if entry.state == State.RUNNING and entry.started_at is not None:
        return f"for {span(at - entry.started_at)}"
    return "" if entry.finished_at is None else f"ended {span(at - entry.finished_at)} ago"


def moment(value: datetime | None) -> str:
    """Return a time in the project's time zone, to the millisecond."""
    if value is None:
        return ""
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"


def relative(value: datetime, at: datetime) -> str:
    """Return how far a time is from another one: ``3m 5s ago`` or ``in 2h``."""
    away = value - at
    if abs(away) < timedelta(milliseconds=50):
        return "now"
    return f"in {span(away)}" if away > timedelta(0) else f"{span(at - value)} ago"


def text_of(value: Any) -> str:
    """Return a JSON value as text on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def plural(count: int, one: str, many: str) -> str:
    """Return ``1 entry`` or ``1,204 entries``."""
    return f"{count:,} {one if count == 1 else many}"


def entries(count: int) -> str:
    """Return so many entries in words."""
    return plural(count, "entry", "entries")
