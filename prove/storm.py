"""A long backlog that nobody works on, with the clock simulated: how often is it published again?

``python -m prove.storm --backlog 50000 --seconds 3600`` writes that many entries and messages,
lets sweepers pass over them at the times that they would, and prints what they sent as JSON.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta

import django


def main() -> None:
    """Simulate, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m prove.storm")
    parser.add_argument("--backlog", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=3600)
    options = parser.parse_args()
    django.setup()
    print(json.dumps(simulate(options.backlog, options.seconds)))


def simulate(backlog: int, seconds: int) -> dict[str, int]:
    """Return how many messages there are in the end, and how many were sent again."""
    from django.db.models import Sum

    from prove.celery_app import app
    from reliable_tasks import ledger
    from reliable_tasks.conf import current
    from reliable_tasks.ids import new_id
    from reliable_tasks.ledger import NewEntry
    from reliable_tasks.link import Link
    from reliable_tasks.models import Entry
    from reliable_tasks.sweeping import reconcile
    from reliable_tasks.wakeup import WakeUp

    start = datetime.now(UTC)
    rows = [(new_id(), "[]", "{}") for _ in range(backlog)]
    template = NewEntry(id=new_id(), task="prove.shop.tasks.plain", queue="prove", crash_budget=3)
    ledger.enqueue_alike(template, rows, grace=current().PUBLISH_RECHECK, now=start)
    link = Link(app, redeclare=True)
    delivered = link.deliver([WakeUp(str(row[0]), template.task, "prove") for row in rows])
    looks = 0
    # As often as a sweeper counts; it looks every second, but what is due then can wait for that.
    for second in range(0, seconds, int(current().PUBLISH_GRACE)):
        now = start + timedelta(seconds=second)
        shared = reconcile(link, now=now).shared
        looks += _pass_over(app, link, shared, now)
    sent = Entry.objects.aggregate(all=Sum("publishes"))["all"] - backlog
    left = link.depth("prove") or 0
    link.close()
    return {"delivered": delivered, "sent again": sent, "messages": left, "looks": looks}


def _pass_over(app: object, link: object, shared: set[str], now: datetime) -> int:
    from reliable_tasks.sweeping import sweep

    looks = 0
    while True:
        report = sweep(app, link, shared=shared, prune=False, now=now)  # type: ignore[arg-type]
        looks += report.put_off + report.published
        if not report.full:
            return looks


if __name__ == "__main__":
    main()
