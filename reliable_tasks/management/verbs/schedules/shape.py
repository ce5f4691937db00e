"""A schedule and its runs as people read them and as JSON has them. The keys only grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ....occurrence import Fate
from ....schedules.operations import Run, Standing
from ...console.output import Column

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

    from ....models import Occurrence

RUN_COLUMNS: Final = (
    Column("DUE (OWN ZONE)"),
    Column("DUE (UTC)"),
    Column("TRIGGER", spare=True),
    Column("OUTCOME"),
    Column("WHY", least=12, spare=True),
    Column("ENTRY"),
)
NEXT_COLUMNS: Final = (
    Column("DUE (OWN ZONE)"),
    Column("DUE (UTC)"),
    Column("FIRES (UTC)"),
    Column("WILL"),
)
TIME: Final = "%Y-%m-%d %H:%M:%S"


def standing_word(standing: Standing) -> str:
    """Return how a schedule stands, in a word."""
    if standing.problem:
        return "problem"
    if not standing.enabled:
        return "disabled"
    return "paused" if standing.paused else "enabled"


def head(schedule: PeriodicTask, standing: Standing) -> dict[str, Any]:
    """Return a schedule as ``schedules list --json`` has it, without its runs."""
    return {
        "name": schedule.name,
        "task": schedule.task,
        "when": standing.words,
        "standing": standing_word(standing),
        "enabled": standing.enabled,
        "paused": standing.paused,
        "pause_reason": standing.pause_reason,
        "paused_until": standing.paused_until,
        "remaining": standing.remaining,
        "handled_until": standing.handled_until,
        "problem": standing.problem,
    }


def occurrence(row: Occurrence) -> dict[str, Any]:
    """Return an occurrence as JSON has it."""
    return {
        "due_at": row.due_at,
        "last_due_at": row.last_due_at,
        "count": row.count,
        "trigger": row.trigger,
        "outcome": row.outcome,
        "cause": row.cause,
        "reason": row.reason,
        "entry": row.entry_id if row.reliable else None,
        "message": None if row.reliable else row.entry_id,
        "sent": None if row.reliable or row.outcome != Fate.FIRED else row.send_at is None,
        "handled_at": row.handled_at,
    }


def occurrence_row(row: Occurrence, zone: Any) -> list[object]:
    """Return an occurrence's cells under :data:`RUN_COLUMNS`."""
    several = f" to {row.last_due_at:{TIME}}, {row.count:,}" if row.last_due_at else ""
    return [
        f"{row.due_at.astimezone(zone):{TIME} %Z}",
        f"{row.due_at:{TIME}}{several}",
        row.trigger.replace("_", " "),
        row.outcome if row.send_at is None else f"{row.outcome}, not sent yet",
        row.reason or row.cause,
        row.entry_id or "",
    ]


def run(of: Run) -> dict[str, Any]:
    """Return a due time that is still to come as JSON has it."""
    return {
        "due_at": of.due_at,
        "local": of.local.isoformat(),
        "fires_at": of.fires_at,
        "paused": of.paused,
    }


def run_row(of: Run) -> list[object]:
    """Return its cells under :data:`NEXT_COLUMNS`."""
    will = "be skipped: paused" if of.paused else "fire"
    return [f"{of.local:{TIME} %Z}", f"{of.due_at:{TIME}}", f"{of.fires_at:{TIME}}", will]
