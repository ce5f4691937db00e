"""What the base keeps off whatever Celery's settings say, and what would go wrong. Pure."""

from __future__ import annotations

from typing import Final

#: Celery's name of the option, and a sentence on what would happen.
PINNED: Final = {
    "acks_late": "The broker would deliver again what is still running. A second delivery is "
    "dropped, so it is work for nothing: the entry survives a crash by itself.",
    "reject_on_worker_lost": "It asks the broker to deliver again what the sweeper rescues.",
    "retry_on_worker_lost": "It asks Celery for a second retry beside the sweeper's.",
    "track_started": "A late copy of a message would report a finished task as started; the "
    "entry tells what is running.",
}
