"""``schedules sync``: bring the rows in line with what code declares."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import CommandError

from ....errors import ReliableTasksError
from ....schedules.changes import Act, Change, SyncReport
from ....schedules.report import lines
from ....schedules.sync import sync as bring_in_line
from ...console.output import Output
from ...console.parsing import Parser, hint
from ...console.shape import plural
from ..selection import wrong

NAME: Final = "sync"
HELP: Final = "bring the rows in line with the schedules that code declares"


def arguments(parser: Parser) -> None:
    """Add the act's own arguments."""
    parser.add_argument("--dry-run", action="store_true", help="only tell; change nothing")
    parser.add_argument(
        "--overwrite",
        action="append",
        default=[],
        metavar="NAME",
        help="let the code win over an operator's edits of this schedule",
    )


def run(options: dict[str, Any], out: Output) -> int:
    """Sync, and tell what was done and which edits were kept."""
    if options["overwrite"]:
        _check_names(options["overwrite"])
    report = _sync(dry_run=options["dry_run"], overwrite=options["overwrite"])
    if out.as_json:
        out.data(
            {"dry_run": report.dry_run, "schedules": [_shape(each) for each in report.changes]}
        )
        return 0
    for line in lines(report):
        out.line(line)
    same = plural(len(report.of(Act.UNCHANGED)), "schedule", "schedules")
    out.note(f"{same} need{'s' if same.startswith('1 ') else ''} no change.")
    return 0


def _check_names(names: list[str]) -> None:
    known = [change.name for change in _sync(dry_run=True).changes]
    for name in names:
        if name not in known:
            raise wrong(f"No code declares a schedule {name!r}.{hint(name, known)}")


def _sync(**options: Any) -> SyncReport:
    try:
        return bring_in_line(**options)
    except ReliableTasksError:
        raise
    except ImportError as error:
        raise CommandError(f"The modules of the tasks cannot be imported: {error}") from error


def _shape(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "act": change.act,
        "where": change.where,
        "set": {each.field: {"row": each.row, "code": each.code} for each in change.set},
        "kept": {each.field: {"row": each.row, "code": each.code} for each in change.kept},
    }
