"""``requeue ID --args … --kwargs …``: put one entry back with other arguments."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ... import operations
from ...models import Entry
from ...operations import Unreadable
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser
from . import acts
from .selection import Selection, wrong

_ALONE: Final = ("background", "spread")


def add_arguments(parser: Parser) -> None:
    """Add what other arguments are given by."""
    add = parser.add_argument_group("with other arguments, for one entry").add_argument
    # Django keeps "args" for itself.
    add(
        "--args",
        dest="new_args",
        metavar="JSON",
        help="its positional arguments from now on: a JSON array",
    )
    add(
        "--kwargs",
        dest="new_kwargs",
        metavar="JSON",
        help="its keyword arguments from now on: a JSON object",
    )


def given(options: dict[str, Any]) -> bool:
    """Tell whether other arguments were given."""
    return options["new_args"] is not None or options["new_kwargs"] is not None


def requeue(
    chosen: Selection, options: dict[str, Any], due_at: datetime | None, out: Output
) -> int:
    """Requeue one entry with other arguments; what is not given stays as it is.

    Args:
        chosen: the entry.
        options: those of the command line.
        due_at: when it is due; None for now.
        out: where to print.

    Returns:
        The exit code.

    Raises:
        CommandError: several entries were chosen, or the arguments are none.
        ArgumentError: they cannot be kept, or what follows from them cannot be known here.
    """
    if len(chosen.ids) != 1:
        raise wrong("Other arguments are given to one entry at a time: name its id.")
    for name in _ALONE:
        if options[name]:
            raise wrong(f"One entry with other arguments needs no --{name}: leave it out.")
    entry = chosen.possible.first()
    if entry is None:
        return _account(operations.RequeueResult(skipped=chosen.ids), chosen, options, out)
    try:
        arguments = operations.read_arguments(
            entry, options["new_args"], options["new_kwargs"], task=options["task_name"]
        )
    except Unreadable as error:
        raise wrong(f"--{error.where}: {error}" if error.where else str(error)) from error
    changed = operations.would_change(entry, arguments, task=options["task_name"])
    if options["dry_run"]:
        return _preview(entry, changed, out)
    question = f"Requeue {entry.task} with {'; '.join(_words(changed)) or 'the same arguments'}?"
    if not out.confirm(question, yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    done = operations.requeue(
        chosen.ids,
        options["reason"],
        by=acts.operator(),
        task=options["task_name"],
        due_at=due_at,
        arguments=arguments,
        seen=chosen.seen,
    )
    return _account(done, chosen, options, out)


def _preview(entry: Entry, changed: list[dict[str, Any]], out: Output) -> int:
    if out.as_json:
        out.data({"dry_run": True, "requeued": [entry.pk], "skipped": [], "changed": changed})
    else:
        for line in _words(changed):
            out.line(line)
        out.line("1 entry would be requeued; nothing was changed.")
    return 0


def _account(
    done: operations.RequeueResult, chosen: Selection, options: dict[str, Any], out: Output
) -> int:
    others = acts.left_alone(done.skipped, chosen, done.held)
    if out.as_json:
        out.data(
            {
                "dry_run": options["dry_run"],
                "requeued": done.requeued,
                "skipped": acts.as_json(others),
                "changed": done.changed,
            }
        )
    elif others:
        out.note(acts.left_words(others))
    else:
        out.line("Requeued 1 entry with other arguments.")
        for line in _words(done.changed):
            out.line(f"  {line}")
    return 0 if done.requeued else 1


def _words(changed: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['name']}: "
        + " → ".join(
            shape.text_of(each[side]) if side in each else "(none)" for side in ("before", "after")
        )
        for each in changed
    ]
