"""A day in the example shop, written into its ledger, for ``make_screenshots.py``.

Some 2,000 orders with their charges, invoices and confirmations; an outage of the payment gateway
some hours ago and what people did about it; a paused queue, a worker that went silent, and a
schedule that was held up. The past is written as rows; what people did is done by the acts
themselves. Errors are raised by the shop's own code, against a gateway that fails.
"""

# ruff: noqa: INP001 - a script beside the pages, in no package

from __future__ import annotations

import json
import math
import random
import sysconfig
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import F
from django_celery_beat.models import PeriodicTask

from example_project.shop import gateway
from example_project.shop.catalogue import stock
from example_project.shop.models import Order, OrderLine, Product
from reliable_tasks import failure, operations, overview
from reliable_tasks.failure import Failure
from reliable_tasks.models import Attempt, Entry, Key, Occurrence, Operation, WorkerProcess
from reliable_tasks.occurrence import Cause, Fate, Trigger
from reliable_tasks.operations import Act, Chosen, background
from reliable_tasks.schedules import operations as schedules
from reliable_tasks.schedules.acting import ensure_state
from reliable_tasks.schedules.reading import read_one
from reliable_tasks.schedules.sync import sync
from reliable_tasks.states import Outcome, State

ROOT = Path(__file__).resolve().parent.parent
HOURS = 24
#: Hours ago: when the gateway went down, and for how long.
OUTAGE, OUTAGE_LENGTH = 2.4, 0.45
WORKERS = ("celery@web1#5c1f0a92", "celery@web2#81d7e3b0", "celery@batch1#0f6ab2c4")
MAIL = "celery@mail1#77e05d19"
SILENT = "celery@batch2#c3a94e18"
VERSIONS = {"python": "3.12.7", "django": "5.2.8", "celery": "5.6.0", "reliable_tasks": "0.1.0"}
TASKS = (
    *("shop.charge", "shop.make_invoice", "shop.send_confirmation"),
    *("shop.report_sales", "shop.check_stock", "shop.remind"),
)
_STEPS = (
    ("shop.charge", "shop", 0.31),
    ("shop.make_invoice", "shop", 0.06),
    ("shop.send_confirmation", "mail", 0.42),
)
#: The newest orders, which are not charged yet.
_LIVE = 26
_BOUNCE = Failure(
    "smtplib.SMTPRecipientsRefused",
    "{'mia@exmaple.com': (550, b'5.1.2 Bad destination mailbox address')}",
    """Traceback (most recent call last):
  File "/srv/shop/example_project/shop/tasks.py", line 71, in send_confirmation
    ).send()
      ^^^^^^
  File "/srv/shop/lib/django/core/mail/message.py", line 301, in send
    return self.get_connection(fail_silently).send_messages([self])
  File "/srv/shop/lib/django/core/mail/backends/smtp.py", line 136, in send_messages
    sent = self._send(message)
  File "/usr/lib/python3.12/smtplib.py", line 908, in sendmail
    raise SMTPRecipientsRefused(senderrs)
smtplib.SMTPRecipientsRefused: {'mia@exmaple.com': (550, b'5.1.2 Bad destination mailbox address')}
""",
    failure.fingerprint("smtplib.SMTPRecipientsRefused", "smtplib.py:sendmail"),
)


@dataclass(slots=True)
class Day:
    """The rows of a day as they come together.

    Attributes:
        now: its end.
        chance: decides what the day leaves open; always the same.
        errors: failures of the gateway, by name.
        entries: rows of the ledger.
        attempts: rows of attempts that failed.
    """

    now: datetime
    chance: random.Random
    errors: dict[str, Failure]
    entries: list[Entry] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def ago(self, **length: float) -> datetime:
        """Return a time before the day's end."""
        return self.now - timedelta(**length)

    def id_at(self, at: datetime) -> UUID:
        """Return an id that sorts by a time, as those that the ledger gives."""
        milliseconds = int(at.timestamp() * 1000)
        rest = 0x7 << 76 | self.chance.getrandbits(12) << 64 | 0b10 << 62
        return UUID(int=milliseconds << 80 | rest | self.chance.getrandbits(62))

    def entry(self, task: str, queue: str, at: datetime, **given: Any) -> Entry:
        """Add an entry that was enqueued at a time."""
        row = Entry(
            **{
                "id": self.id_at(at),
                "task": task,
                "queue": queue,
                "enqueued_at": at,
                "due_at": at,
                "publishes": 1,
                "max_retries": 3,
                **given,
            }
        )
        self.entries.append(row)
        return row

    def succeed(self, row: Entry, wait: float, took: float) -> datetime:
        """Let the entry's next attempt succeed; return when."""
        self._publish(row)
        row.started_at = row.due_at + timedelta(seconds=wait)
        row.finished_at = row.started_at + timedelta(seconds=took)
        row.attempt += 1
        row.state, row.wake_at = State.SUCCEEDED, None
        row.worker = MAIL if row.queue == "mail" else self.chance.choice(WORKERS[:2])
        return row.finished_at

    def fail(self, row: Entry, of: Failure, took: float, *, crash: bool = False) -> datetime:
        """Let the entry's next attempt fail; return when."""
        self._publish(row)
        began = row.due_at + timedelta(seconds=self.chance.uniform(0.02, 0.3))
        ended = began + timedelta(seconds=took)
        row.attempt += 1
        row.worker = MAIL if row.queue == "mail" else self.chance.choice(WORKERS[:2])
        self.attempts.append(
            Attempt(
                entry=row,
                number=row.attempt,
                outcome=Outcome.CRASHED if crash else Outcome.FAILED,
                error_class=of.error_class,
                error_message=of.message,
                traceback=of.traceback,
                fingerprint=of.fingerprint,
                worker=row.worker,
                started_at=began,
                ended_at=ended,
            )
        )
        row.started_at = began
        row.error_class, row.error_message = of.error_class, of.message
        row.fingerprint = of.fingerprint
        if crash:
            row.crashes += 1
        else:
            row.retries += 1
        return ended

    def _publish(self, row: Entry) -> None:
        """Let a sweeper publish what is to be tried again; what is new, its own process does."""
        if row.attempt:
            row.published_at = row.due_at + timedelta(milliseconds=4)

    def bury(self, row: Entry, at: datetime, reason: str) -> None:
        """Let the entry be dead."""
        row.state, row.finished_at, row.wake_at, row.reason = State.DEAD, at, None, reason
        row.retries = max(0, row.retries - 1)


def live_a_day() -> Day:
    """Write the day into the shop's empty database.

    Returns:
        What was written.
    """
    User.objects.create_superuser("ada", "ada@example.com", "-")
    stock()
    sync()
    day = Day(overview.now(), random.Random(20), _errors())  # noqa: S311 - always the same day
    orders = _orders(day)
    for order in orders[:-_LIVE]:
        _follow(day, order)
    _last_orders(day, orders[-_LIVE:])
    _crashes(day, orders[-900])
    ticks = _ticks(day)
    Entry.objects.bulk_create(day.entries, batch_size=200)
    Attempt.objects.bulk_create(day.attempts, batch_size=200)
    for row in day.entries:
        if row.key:
            Key.objects.create(digest=row.pk, entry_id=row.pk, task=row.task, text=row.key)
    _occurrences(day, ticks)
    report_workers(day.now)
    _people(day)
    return day


def report_workers(now: datetime) -> None:
    """Let the workers say that they are alive, but for the one that is silent."""
    for name, pool, queues, beat, more in (
        (WORKERS[0], "prefork", ["shop"], 1.0, {"fetched": {"shop": 6}}),
        (WORKERS[1], "prefork", ["shop"], 2.0, {"fetched": {"shop": 4}}),
        (WORKERS[2], "prefork", ["reports", "shop"], 1.5, {"draining": True}),
        (MAIL, "threads", ["mail"], 0.5, {}),
        (SILENT, "prefork", ["reports"], 460.0, {"versions": {**VERSIONS, "celery": "5.5.3"}}),
    ):
        node, _, _boot = name.partition("#")
        WorkerProcess.objects.update_or_create(
            pk=name,
            defaults={
                "hostname": node,
                "pid": 4000 + len(name) * 7 + ord(name[-1]),
                "pool": pool,
                "concurrency": 8 if pool == "threads" else 4,
                "queues": queues,
                "versions": VERSIONS,
                "tasks": sorted(TASKS),
                "started_at": now - timedelta(hours=19, minutes=len(name)),
                "beat_at": now - timedelta(seconds=beat),
                **more,
            },
        )


def keep_alive() -> None:
    """Let those that are alive beat, and renew the leases of what runs."""
    now = overview.now()
    WorkerProcess.objects.exclude(pk=SILENT).update(beat_at=now - timedelta(seconds=1))
    Entry.objects.filter(state=State.RUNNING).update(wake_at=now + timedelta(seconds=8))
    Entry.objects.filter(state=State.PENDING).update(wake_at=now + timedelta(seconds=40))


def _busy(hour: float) -> float:
    """Return how many orders come a minute at an hour of the day."""
    noon, evening = math.exp(-(((hour - 12) / 3) ** 2)), math.exp(-(((hour - 19.5) / 2) ** 2))
    return 0.35 + 1.5 * noon + 2.1 * evening


def _orders(day: Day) -> list[Order]:
    names = ("ada", "ben", "mia", "noor", "ravi", "sara", "tom", "yuki", "zoe", "luis")
    times = []
    at = day.ago(hours=HOURS)
    while at < day.ago(seconds=90):
        # By the hours since the day began: the picture is the same whenever it is taken.
        hour = (at - day.ago(hours=HOURS)).total_seconds() / 3600
        at += timedelta(minutes=day.chance.expovariate(_busy((hour + 20) % 24)))
        times.append(at)
    times += [day.ago(seconds=1.9 * number) for number in range(_LIVE, 0, -1)]
    shelves = list(Product.objects.filter(is_poison=False))
    carts = [day.chance.sample(shelves, 2) for _ in times]
    orders = Order.objects.bulk_create(
        [
            Order(
                email=f"{day.chance.choice(names)}{number % 90 + 10}@example.com",
                total=sum(product.price for product in cart),
            )
            for number, cart in enumerate(carts)
        ],
        batch_size=200,
    )
    for order, placed in zip(orders, times, strict=True):
        order.placed_at = placed
    Order.objects.bulk_update(orders, ["placed_at"], batch_size=200)
    OrderLine.objects.bulk_create(
        [
            OrderLine(order=order, product=product, quantity=1, unit_price=product.price)
            for order, cart in zip(orders, carts, strict=True)
            for product in cart
        ],
        batch_size=200,
    )
    return orders


def _about(order: Order) -> dict[str, Any]:
    return {"args": [order.pk], "subject_type": "shop.order", "subject_id": str(order.pk)}


def _follow(day: Day, order: Order) -> None:
    """Let an order be charged, invoiced and confirmed, or come to grief."""
    at: datetime = order.placed_at
    above: Entry | None = None
    for task, queue, usual in _STEPS:
        row = day.entry(task, queue, at, **_about(order))
        if above is not None:
            row.parent_id, row.root_id = above.pk, above.root_id or above.pk
        if task == "shop.charge" and not _charged(day, row):
            return
        if task == "shop.send_confirmation" and day.chance.random() < 0.003:
            day.bury(row, day.fail(row, _BOUNCE, 0.8), f"Not retried. {_BOUNCE}"[:200])
            return
        if queue == "mail" and at > day.ago(minutes=18):
            row.wake_at = day.now + timedelta(seconds=40)  # the queue is paused
            return
        slow = day.chance.lognormvariate(0, 0.45)
        at = day.succeed(row, day.chance.lognormvariate(-3, 0.8), usual * slow)
        above = row


def _charged(day: Day, row: Entry) -> bool:
    """Let the gateway fail, if it does, and tell whether it answers at last."""
    begin = day.ago(hours=OUTAGE)
    end = begin + timedelta(hours=OUTAGE_LENGTH)
    if begin < row.enqueued_at < end:
        of = day.errors["down" if day.chance.random() < 0.7 else "refused connection"]
        for number in range(4):
            at = day.fail(row, of, day.chance.uniform(0.4, 0.5))
            if number == 3:
                break
            row.due_at = at + timedelta(seconds=2**number)
            if row.due_at > end:
                return True
        day.bury(row, at, f"Failed 4 times, the limit is 3 retries. Last: {of}")
        return False
    if day.chance.random() < 0.012:
        at = day.fail(row, day.errors["down"], 0.5)
        row.due_at = at + timedelta(seconds=1)
    if day.chance.random() < 0.006:
        of = day.errors["declined"]
        at = day.fail(row, of, 0.2)
        day.bury(row, at, f"Not retried: autoretry_for does not cover it. {of}")
        return False
    return True


def _last_orders(day: Day, newest: list[Order]) -> None:
    """Let the newest charges wait, run, or be about to be tried again."""
    for number, order in enumerate(newest):
        at: datetime = order.placed_at
        wake = day.now + timedelta(seconds=90)
        fresh = day.entry("shop.charge", "shop", at, wake_at=wake, **_about(order))
        if number < 3:
            fresh.due_at = day.fail(fresh, day.errors["down"], 0.5) + timedelta(seconds=300)
            fresh.state, fresh.wake_at = State.RETRYING, fresh.due_at
        elif number < 9:
            fresh.state, fresh.attempt, fresh.crashes = State.RUNNING, 1, 1
            fresh.worker = WORKERS[number % 2]
            fresh.started_at = at + (day.now - at) / 2
    report = day.entry(
        "shop.report_sales",
        "reports",
        day.ago(minutes=3),
        state=State.RUNNING,
        attempt=1,
        crashes=1,
        worker=WORKERS[2],
        wake_at=day.now + timedelta(hours=1),
        progress={"done": 1840, "total": 2600, "note": "orders"},
        key="shop.report_sales()",
    )
    report.started_at = day.ago(minutes=2, seconds=58)


def _crashes(day: Day, order: Order) -> None:
    """Let one order kill each process that charges it."""
    row = day.entry("shop.charge", "shop", order.placed_at, **_about(order))
    for number in range(3):
        worker = WORKERS[number % 2]
        of = Failure(
            "ProcessLost",
            f"the worker {worker} or its process was lost",
            fingerprint=failure.fingerprint("ProcessLost", row.task),
        )
        at = day.fail(row, of, 3.2, crash=True)
        day.attempts[-1].worker = row.worker = worker
        if number < 2:
            row.due_at = at + timedelta(seconds=10)
    reason = (
        "Its process was lost 3 times; the crash budget is 3. Something in it kills its process "
        "(memory, a signal, a fault in native code), or its workers were stopped without notice "
        "each time."
    )
    day.bury(row, at, reason)


def _ticks(day: Day) -> list[Entry]:
    """Let the schedules fire: the stock check each hour, the report at night."""
    rows = []
    hour = day.now.replace(minute=0, second=0, microsecond=0)
    for number in range(HOURS, -1, -1):
        at = hour - timedelta(hours=number)
        if number not in {6, 7}:  # held up: see _occurrences
            row = day.entry("shop.check_stock", "reports", at, schedule="stock check")
            day.succeed(row, 0.04, day.chance.uniform(1.5, 3))
            row.worker = WORKERS[2]
            rows.append(row)
    night = day.now.replace(hour=2, minute=30, second=0, microsecond=0)
    night -= timedelta(days=night > day.now)
    row = day.entry("shop.report_sales", "reports", night, schedule="nightly report")
    day.succeed(row, 0.06, 48.2)
    return [*rows, row]


def _occurrences(day: Day, ticks: list[Entry]) -> None:
    known = {each.name: each for each in PeriodicTask.objects.all()}
    rows = [
        Occurrence(
            schedule=known[row.schedule],
            due_at=row.enqueued_at,
            outcome=Fate.FIRED,
            entry_id=row.pk,
            handled_at=row.enqueued_at + timedelta(milliseconds=130),
        )
        for row in ticks
    ]
    hour = day.now.replace(minute=0, second=0, microsecond=0)
    rows += [
        Occurrence(
            schedule=known["stock check"],
            due_at=hour - timedelta(hours=number),
            outcome=Fate.SKIPPED,
            cause=Cause.OVERLAP,
            reason="An earlier run has not ended.",
            handled_at=hour - timedelta(hours=number),
        )
        for number in (6, 7)
    ]
    Occurrence.objects.bulk_create(sorted(rows, key=lambda row: row.due_at))
    for each in known.values():
        ensure_state(read_one(each.pk), day.now)
    PeriodicTask.objects.filter(name="stock check").update(last_run_at=hour)


def _people(day: Day) -> None:
    """Let people do something about it."""
    ada, ben = "ada in the admin", "ben with manage.py"
    declined = Chosen(states=("dead",), error="GatewayRefused").rows()
    oldest = list(declined.order_by("pk").values_list("pk", flat=True)[:4])
    operations.discard(oldest, "Paid by bank transfer instead.", by=ada)
    bounced = Chosen(states=("dead",), error="SMTPRecipientsRefused").rows()
    operations.requeue(
        list(bounced.order_by("pk").values_list("pk", flat=True)[:1]),
        "The address was mistyped; corrected in the order.",
        by=ada,
    )
    operations.pause(
        *("queue", "mail", "The mail provider moves to a new data centre."),
        by=ben,
        ends_at=day.now + timedelta(minutes=42),
    )
    first = next(
        row.fingerprint for row in day.entries if row.state == State.DEAD and row.retries == 3
    )
    begun = operations.begin(
        Act.REQUEUE,
        Chosen(states=("dead",), task="shop.charge", fingerprint=first),
        "The gateway has been back for 40 minutes.",
        by=ada,
        params={"spread": 1800.0},
        rate=2.0,
    )
    background.go_on(begun.operation, 1)
    carried = Entry.objects.filter(task=background.carry_out.name)
    carrier = Operation.objects.get().entry_id
    ended = {"state": State.SUCCEEDED, "wake_at": None, "attempt": 1, "worker": WORKERS[0]}
    at = overview.now()
    carried.exclude(pk=carrier).update(
        **ended, started_at=at - timedelta(milliseconds=400), finished_at=at
    )
    known = {each.name: each for each in PeriodicTask.objects.all()}
    schedules.run_now(known["nightly report"], reason="Figures for the board, before noon.", by=ada)
    schedules.pause(
        known["reminder"],
        "Customers were reminded twice: see ticket 812.",
        until=day.now + timedelta(hours=5),
        by=ben,
    )
    Occurrence.objects.filter(trigger=Trigger.RUN_NOW).update(
        handled_at=F("handled_at") - timedelta(minutes=3)
    )


# -- errors: raised by the shop's own code ---------------------------------------------------------


class _Sick(BaseHTTPRequestHandler):
    """A gateway that answers with a failure."""

    status, words = 503, "down for maintenance"

    def do_POST(self) -> None:
        """Fail."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"error": self.words}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _errors() -> dict[str, Failure]:
    from django.test import override_settings

    server = HTTPServer(("127.0.0.1", 0), _Sick)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    found = {}
    with override_settings(SHOP_GATEWAY_URL=address):
        found["down"] = _failure()
        _Sick.status, _Sick.words = 402, "the card was declined"
        found["declined"] = _failure()
        server.shutdown()
        server.server_close()
        found["refused connection"] = _failure()
    return found


def _failure() -> Failure:
    try:
        gateway.take("1", Decimal(1), key="1")
    except gateway.GatewayError as error:
        of = failure.describe(error)
    else:
        raise AssertionError("the gateway did not fail")
    text = of.traceback.replace(str(ROOT), "/srv/shop")
    text = text.replace(sysconfig.get_path("stdlib"), "/usr/lib/python3.12")
    # This script stands in for the task, whose frame is the one that a worker would show.
    here = text.index('  File "/srv/shop/docs/shop_day.py"')
    after = text.index('  File "', here + 1)
    frame = (
        '  File "/srv/shop/example_project/shop/tasks.py", line 46, in charge\n'
        "    receipt = gateway.take(str(order.pk), order.total, key=self.idempotency_key)\n"
        "              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
    )
    return Failure(of.error_class, of.message, text[:here] + frame + text[after:], of.fingerprint)
