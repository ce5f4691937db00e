"""The demo from beginning to end. Needs Django to be set up."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.utils import timezone

from example_project.demo.children import DemoError
from example_project.demo.customers import Crowd
from example_project.demo.display import Display
from example_project.demo.mischief import Mischief
from example_project.demo.place import Place
from example_project.demo.report import (
    PASSWORD,
    USER,
    demo_findings,
    write_account,
    write_addresses,
)
from example_project.demo.stack import Stack
from example_project.demo.watch import bars, look
from example_project.shop.account import audit, is_right
from example_project.shop.catalogue import stock
from example_project.shop.evidence import collect
from example_project.shop.models import Order
from example_project.shop.routine import close_shop, collect_routine, judge

PLACING_SECONDS = 24.0
CLOSED = timedelta(hours=26)  # for so long nobody saw to the schedules: a night, and some hours
ACCOUNT_SECONDS = 4.0  # for counting, after the last wait
_TICK = 0.2  # seconds between two looks
_REFUSALS = 10  # this many, and no order placed: something is broken


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for.

    Attributes:
        orders: how many wholesome orders to place.
        stay: stay up after the account until interrupted.
        patience: seconds after which the demo stops waiting and counts.
    """

    orders: int
    stay: bool
    patience: float


def run(place: Place, options: Options, display: Display) -> bool:
    """Start the shop, break it, count, and end everything.

    Args:
        place: where to.
        options: what to do.
        display: where it is shown; its clock is the one that patience is measured with.

    Returns:
        True if the account is right.

    Raises:
        DemoError: it could not be done.
    """
    with Stack(place) as stack:
        with _at_most(options.patience + ACCOUNT_SECONDS - display.seconds):
            closed_since = timezone.now() - CLOSED
            crowd = _open(stack, options, closed_since, display)
            try:
                _play(stack, crowd, options, display)
            finally:
                crowd.stop()
            right = _account(crowd, closed_since, display)
        write_addresses(display, place, [log.name for log in stack.logs()])
        if options.stay:
            display.write("\n  Everything stays up. Ctrl-C ends it.")
            _stay()
    display.write("\n  Everything has been ended.")
    return right


def _open(stack: Stack, options: Options, closed_since: datetime, display: Display) -> Crowd:
    """Bring the shop to the point where customers may come."""
    display.event(f"preparing {stack.place.directory}")
    _prepare_database()
    close_shop(closed_since)
    hours = CLOSED.total_seconds() / 3600
    display.event(
        f"the schedules ran last {hours:.0f} hours ago, as if nobody had been there since"
    )
    display.event("starting broker, gateway, worker, two beats and web server")
    stack.start_broker()
    stack.start()
    display.event(f"the shop is open: {stack.place.address}")
    return Crowd(stack.place.web_port, options.orders, PLACING_SECONDS)


def _prepare_database() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    if Order.objects.exists():
        raise DemoError("the database given in DATABASE_URL has orders already: give an empty one")
    stock()
    users = get_user_model().objects
    if not users.filter(username=USER).exists():
        users.create_superuser(USER, "demo@example.com", PASSWORD)


def _play(stack: Stack, crowd: Crowd, options: Options, display: Display) -> None:
    """Let customers order and things break until every entry has ended, or time is up."""
    mischief = Mischief(stack, display, PLACING_SECONDS)
    began = time.monotonic()
    crowd.start()
    while display.seconds < options.patience:
        mischief.strike_due(time.monotonic() - began)
        stack.check_alive()
        _check_taken(crowd, stack)
        watch = look()
        display.panel(bars(crowd), watch.note())
        if crowd.finished() and mischief.over and watch.ended:
            display.event("every entry has ended")
            return
        time.sleep(_TICK)
    display.event(display.bad("time is up, and not every entry has ended"))


def _check_taken(crowd: Crowd, stack: Stack) -> None:
    """Give up early on a shop that takes no order at all."""
    if len(crowd.failures) >= _REFUSALS and not crowd.placed:
        raise DemoError(
            f"the shop takes no orders: {crowd.failures[0]}; the web server's log ends:\n"
            f"{stack.web.tail()}"
        )


def _account(crowd: Crowd, closed_since: datetime, display: Display) -> bool:
    evidence = collect()
    findings = [
        *demo_findings(crowd, evidence),
        *audit(evidence),
        *judge(collect_routine(closed_since)),
    ]
    write_account(display, findings, evidence)
    right = is_right(findings)
    verdict = display.good("The account is right.") if right else display.bad("It is NOT right.")
    display.write(f"\n  {verdict}")
    return right


def _stay() -> None:
    try:
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        pass


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Break off what takes longer, even if it hangs."""

    def ring(*_: object) -> NoReturn:
        raise DemoError("something hung: there is no account within the time; see the logs")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
