"""``sweep``: run the sweeper alone, as every worker runs it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from ... import events, ledger, operations, overview
from ...link import Link
from ...sweeper import Sweeper
from ...sweeping import SweepReport, reconcile, sweep
from ..console import shape
from ..console.output import Output
from ..console.parsing import Parser

NAME: Final = "sweep"
HELP: Final = "run the sweeper alone: publish, rescue, expire, prune (until Ctrl-C)"

_COUNTED: Final = {
    "published": "Published",
    "broker_failures": "PublishFailed",
    "rescued": "Rescued",
    "died": "Died",
    "cancelled": "Cancelled",
    "expired": "Expired",
}
_LOOK_EVERY: Final = 1.0
_LAST_SWEEP: Final = 10.0


def arguments(parser: Parser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--once", action="store_true", help="one pass, then end")


def run(options: dict[str, Any], out: Output) -> int:
    """Sweep once, or until told to stop."""
    return _once(out) if options["once"] else _forever(out)


def _once(out: Output) -> int:
    app = operations.celery_app()
    app.loader.import_default_modules()
    link = Link(app, redeclare=True)
    try:
        report = sweep(app, link, shared=reconcile(link).shared)
        broker = link.is_up()
    finally:
        link.close()
    numbers = _numbers(report)
    if out.as_json:
        out.data({"at": overview.now(), **numbers, "full": report.full, "broker": broker})
    else:
        out.line(_words(numbers) or "Nothing was due.")
        if report.full:
            out.note("The pass was full: there is more to do. Sweep again.")
    if not broker:
        out.note("The broker does not answer: what is due to be published stays. See: doctor")
    return 0 if broker else 1


def _forever(out: Output) -> int:
    ledger.seconds_until_wake()  # a ledger that is not there is told of now, not swept for ever
    app = operations.celery_app()
    app.loader.import_default_modules()
    sweeper = Sweeper(app)
    with _told_to_stop() as stop:
        if not out.as_json:
            out.line("Sweeping. Ctrl-C ends it.")
        out.flush()
        before = events.counts()
        sweeper.start()
        while sweeper.is_alive() and not stop.wait(_LOOK_EVERY):
            before = _tell(before, out)
        sweeper.stop()
        sweeper.join(_LAST_SWEEP)
        _tell(before, out)
    if not out.as_json:
        out.line("Stopped.")
    return 0


def _tell(before: dict[str, int], out: Output) -> dict[str, int]:
    after = events.counts()
    done = {name: after.get(event, 0) - before.get(event, 0) for name, event in _COUNTED.items()}
    if any(done.values()):
        at = datetime.now(UTC)  # the database, which has the ledger's clock, may be away
        if out.as_json:
            out.data({"at": at, **done}, compact=True)
        else:
            out.line(f"{shape.moment(at)}  {_words(done)}")
        out.flush()
    return after


def _numbers(report: SweepReport) -> dict[str, int]:
    names = [field.name for field in fields(report) if field.name != "full"]
    return {name: getattr(report, name) for name in names}


def _words(numbers: dict[str, int]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {number:,}" for name, number in numbers.items() if number
    )


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()

    def told(*_: object) -> None:
        stop.set()

    old = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
