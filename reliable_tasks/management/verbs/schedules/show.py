"""``schedules show``: all about one schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ....arguments import masked
from ....schedules import operations
from ....schedules.definition import row_values
from ....schedules.operations import Standing
from ....schedules.trouble import known_tasks, troubles
from ....schedules.when import zone_of
from ....task import ReliableTask
from ...console.output import Output, clean
from ...console.parsing import Parser, positive
from ...console.shape import text_of
from . import shape
from .choosing import one

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

NAME: Final = "show"
HELP: Final = "all about one schedule: its policy, its last runs and its next"

_LABEL: Final = 22
_PLAIN: Final = ("when", "task", "enabled")


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    parser.add_argument("name", metavar="NAME", help="the schedule's name")
    parser.add_argument(
        "--count", type=positive, default=10, help="how many runs, last and next (default: 10)"
    )


def run(options: dict[str, Any], out: Output) -> int:
    """Print one schedule."""
    schedule = one(options["name"])
    standing = operations.standing(schedule)
    last = operations.last_runs(schedule, options["count"])
    following = [] if standing.problem else operations.next_runs(schedule, options["count"])
    wrong = troubles(schedule)
    if out.as_json:
        out.data(
            {
                **shape.head(schedule, standing),
                "definition": _definition(schedule),
                "troubles": [{"text": each.text, "remedy": each.remedy} for each in wrong],
                "last": [shape.occurrence(each) for each in last],
                "next": [shape.run(each) for each in following],
            }
        )
        return 0
    _head(schedule, standing, out)
    for each in wrong:
        out.line(f"  trouble: {clean(each.text)} {each.remedy}", out.style.WARNING)
    zone = zone_of(schedule)
    out.line()
    out.line("Last runs" if last else "Last runs: none")
    if last:
        out.table(shape.RUN_COLUMNS, [shape.occurrence_row(each, zone) for each in last])
    out.line()
    out.line("Next runs" if following else "Next runs: none")
    if following:
        out.table(shape.NEXT_COLUMNS, [shape.run_row(each) for each in following])
        if not schedule.enabled:
            out.note("The schedule is disabled: these would be its runs.")
    return 0


def _definition(schedule: PeriodicTask) -> dict[str, Any]:
    found = row_values(schedule, getattr(schedule, "reliable_policy", None))
    task = (known_tasks() or {}).get(schedule.task)
    args, kwargs = found["args"], found["kwargs"]
    if isinstance(task, ReliableTask) and isinstance(args, list) and isinstance(kwargs, dict):
        # Values of sensitive parameters are shown nowhere.
        found["args"], found["kwargs"] = masked(task, args, kwargs)
    return found


def _head(schedule: PeriodicTask, standing: Standing, out: Output) -> None:
    out.line(f"{clean(schedule.name)}  {clean(schedule.task)}")
    _field(out, "when", standing.words)
    _field(out, "stands", _stands(standing))
    for name, value in _definition(schedule).items():
        if name not in _PLAIN and value not in (None, [], {}, "", False):
            _field(out, name.replace("_", " "), value if isinstance(value, str) else text_of(value))
    if standing.remaining is not None:
        _field(out, "runs left", f"{standing.remaining:,}")
    if standing.handled_until is not None:
        _field(out, "accounted for until", f"{standing.handled_until:{shape.TIME} %Z}")
    declared = getattr(schedule, "reliable_declared", None)
    if declared is not None:
        _field(out, "declared by", declared.source)


def _stands(standing: Standing) -> str:
    word = shape.standing_word(standing)
    if standing.problem:
        return f"{word}: {standing.problem}"
    if word == "paused":
        until = standing.paused_until
        end = f" until {until:{shape.TIME} %Z}" if until is not None else ""
        return f"paused{end}: {standing.pause_reason}"
    return word


def _field(out: Output, label: str, value: str) -> None:
    out.line(f"  {label:<{_LABEL}}{clean(value)}")
