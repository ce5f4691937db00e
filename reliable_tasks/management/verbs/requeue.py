"""``requeue``: put dead or cancelled entries back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from ... import operations, overview
from ...states import REQUEUEABLE, WAITING, State
from ...task import ReliableTask
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser, add_act, add_filters, duration, entry_id, hint, positive
from . import acts, background, other_arguments
from .background import add_background
from .selection import Selection, wrong

NAME: Final = "requeue"
HELP: Final = "put dead or cancelled entries back, with fresh budgets"


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("ids", nargs="*", type=entry_id, metavar="ID", help="an entry's id")
    parser.add_argument("--all", action="store_true", help="all dead entries")
    add_filters(parser, sorted(REQUEUEABLE))
    parser.add_argument("--limit", type=positive, help="at most so many, oldest first")
    parser.add_argument(
        "--task-name",
        metavar="NEW",
        help="run them as this task: theirs was renamed. Entries that still wait are moved too",
    )
    parser.add_argument(
        "--in", type=duration, dest="delay", metavar="TIME", help="due after so long, e.g. 90, 10m"
    )
    parser.add_argument(
        "--spread", type=duration, metavar="TIME", help="due evenly over so long, e.g. 10m"
    )
    other_arguments.add_arguments(parser)
    add_act(parser, "requeued")
    add_background(parser)


def run(options: dict[str, Any], out: Output) -> int:
    """Requeue what was chosen, batch by batch."""
    background.check(options)
    new_name: str | None = options["task_name"]
    states, usual = REQUEUEABLE, {State.DEAD}
    if new_name is not None:
        _check_task(new_name)
        states, usual = REQUEUEABLE | WAITING, {State.DEAD, *WAITING}
    chosen = Selection(options, states, usual)
    acts.check_named(chosen)
    if other_arguments.given(options):
        return other_arguments.requeue(chosen, options, _due_at(options), out)
    count = chosen.count()
    if options["dry_run"]:
        return acts.preview("requeued", chosen, count, out)
    if count and not out.confirm(acts.question("Requeue", chosen, count), yes=options["yes"]):
        out.note("Nothing was changed.")
        return 1
    if count and options["background"]:
        return background.begin(
            operations.Act.REQUEUE, chosen, options, out, params=_params(options)
        )
    total = operations.RequeueResult()
    due_at, spread = _due_at(options), _spread(options, count)
    with out.progress("requeued", count) as progress:
        for batch in chosen.batches() if count else ():
            done = operations.requeue(
                batch,
                options["reason"],
                by=acts.operator(),
                task=new_name,
                due_at=due_at,
                spread=spread and replace(spread, before=len(total.requeued) + len(total.skipped)),
                **chosen.guards,
            )
            total.requeued += done.requeued
            total.skipped += done.skipped
            total.held |= done.held
            progress.add(len(done.requeued))
    return _account(total, chosen, due_at, out)


def _account(
    total: operations.RequeueResult,
    chosen: Selection,
    due_at: datetime | None,
    out: Output,
) -> int:
    requeued = total.requeued
    left = acts.left_alone(total.skipped, chosen, total.held)
    others = acts.as_json(left) if requeued or left else acts.skipped(chosen)
    code = 0 if requeued and not (chosen.ids and others) else 1
    if out.as_json:
        out.data({"dry_run": False, "requeued": requeued, "skipped": others})
    elif not requeued:
        out.note(acts.left_words(left) if left else acts.nothing(chosen))
    else:
        when = "at once" if due_at is None else f"at {shape.moment(due_at)}"
        out.line(f"Requeued {shape.entries(len(requeued))}; the sweeper publishes them {when}.")
        if others:
            out.note(acts.left_words(left))
    return code


def _spread(options: dict[str, Any], count: int) -> operations.Spread | None:
    if options["spread"] is None:
        return None
    since = overview.now() + (options["delay"] or timedelta(0))
    return operations.Spread(since, options["spread"].total_seconds(), count)


def _params(options: dict[str, Any]) -> dict[str, Any]:
    if options["task_name"] is not None:
        raise wrong("An operation cannot move entries to another task: leave --background out.")
    if options["spread"] is not None:
        if options["delay"] is not None:
            raise wrong("An operation is spread from now on: leave --in out, or --background.")
        return {"spread": options["spread"].total_seconds()}
    due_at = _due_at(options)
    return {} if due_at is None else {"due_at": due_at.isoformat()}


def _due_at(options: dict[str, Any]) -> datetime | None:
    return None if options["delay"] is None else overview.now() + options["delay"]


def _check_task(name: str) -> None:
    app = operations.celery_app()
    app.loader.import_default_modules()
    task = app.tasks.get(name)
    if task is None:
        known = [each for each in app.tasks if isinstance(app.tasks[each], ReliableTask)]
        raise wrong(f"No task is named {name!r}.{hint(name, known)}")
    if not isinstance(task, ReliableTask):
        raise wrong(
            f"{name!r} is a plain task: its body would be called without the arguments, which "
            "only the ledger has. Name a task with base=ReliableTask."
        )
